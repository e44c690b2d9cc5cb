package cascade

import "time"

// Lanes of QUIC DATAGRAMs have congestion windows of their own, which grow and shrink with no regard to the link's
// estimate. As long as they let the estimate through they do not matter. When media waits in front of them, what they
// take is the estimate.
const (
	windowsBlocked = 0.3             // share of the time in which no lane has room that is no coincidence
	windowsLooks   = 3               // in a row, each with packets dropped in front
	windowsGrow    = 2 * time.Second // lanes that are being dialled will do
)

// rateWindows sees whether lanes take what the pacer lets through. It is guarded by the sender's mutex.
type rateWindows struct {
	since   time.Duration // media waits for a lane with room, or 0
	blocked time.Duration // it did so for so long since the latest look
	at      time.Duration // of the latest look
	drops   uint64        // in front, at the latest look
	looks   int           // in a row that saw too little taken
	from    time.Duration // the first of these began
	drained uint64        // then
	growing time.Duration // lanes are wanted that are not there, since then, or 0
}

// full notes whether media waits for a lane with room.
func (w *rateWindows) full(now time.Duration, full bool) {
	if w.since != 0 {
		w.blocked += now - w.since
		w.since = 0
	}
	if full {
		w.since = now
	}
}

// look says what lanes took of late when that was too little, or false. Wanting says that more lanes are to come.
func (w *rateWindows) look(drops, drained uint64, wanting bool, now time.Duration) (rate float64, short bool) {
	w.full(now, w.since != 0)
	past, blocked, dropped := now-w.at, w.blocked, drops-w.drops
	before := w.at
	w.at, w.blocked, w.drops = now, 0, drops
	switch {
	case !wanting:
		w.growing = 0
	case w.growing == 0:
		w.growing = now
	}
	if float64(blocked) < windowsBlocked*float64(past) || dropped == 0 || before == 0 {
		w.looks = 0
		return 0, false
	}
	if w.looks == 0 {
		w.from, w.drained = now, drained
	}
	if w.looks++; w.looks <= windowsLooks || w.growing != 0 && now-w.growing < windowsGrow {
		return 0, false
	}
	w.looks = 0
	return 8 * float64(drained-w.drained) / (now - w.from).Seconds(), true
}

// windows looks whether the lanes' windows are what limits, and reports whether less may be sent than before.
func (s *sender) windows(wanting bool, now time.Duration) (less bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	drops := s.stats.drops[dropExpired].Load() + s.stats.drops[dropQueueFull].Load()
	rate, short := s.rate.windows.look(drops, s.drained, wanting, now)
	if !short {
		return false
	}
	before := s.rate.ctl.budget()
	s.rate.ctl.confine(rate, now)
	s.setPace(now)
	after := s.rate.ctl.budget()
	return before == 0 || after < before
}

// confine takes what lanes took of more for what can be sent.
func (c *rateControl) confine(rate float64, now time.Duration) {
	estimate := max(rateTrust*rate, rateFloor)
	if c.phase == rateUnlimited {
		c.phase = rateLimited
	} else {
		estimate = min(estimate, c.estimate)
	}
	c.estimate = estimate
	c.probe.failed(now)
	c.acted = now
}
