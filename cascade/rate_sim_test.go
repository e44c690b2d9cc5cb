package cascade

import (
	"container/heap"
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// simPath is a bottleneck with a tail-drop queue behind random loss, told the time: rateControl is tried on it beside
// TCP flows without goroutines, a minute in some milliseconds.
type simPath struct {
	rate   float64 // bits per second; 0 is no limit
	queue  time.Duration
	delay  time.Duration // one way
	jitter time.Duration // up to this, in any order
	loss   *gilbert
	rnd    *rand.Rand
	free   time.Duration
}

func (p *simPath) send(now time.Duration, bytes int) (arrives time.Duration, wait time.Duration, ok bool) {
	if p.loss != nil && p.loss.lost() {
		return 0, 0, false
	}
	at := now
	if p.rate > 0 {
		if wait = max(0, p.free-now); wait > p.queue {
			return 0, 0, false
		}
		p.free = max(p.free, now) + time.Duration(8*float64(bytes)/p.rate*float64(time.Second))
		at = p.free
	}
	at += p.delay
	if p.jitter > 0 {
		at += time.Duration(p.rnd.Int64N(int64(p.jitter)))
	}
	return at, wait, true
}

type simEvent struct {
	at time.Duration
	n  int // of equal times the first first
	do func()
}

type simEvents []simEvent

func (h simEvents) Len() int { return len(h) }
func (h simEvents) Less(i, j int) bool {
	return h[i].at < h[j].at || h[i].at == h[j].at && h[i].n < h[j].n
}
func (h simEvents) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *simEvents) Push(x any)   { *h = append(*h, x.(simEvent)) }
func (h *simEvents) Pop() any {
	old := *h
	e := old[len(old)-1]
	*h = old[:len(old)-1]
	return e
}

// sim is one run.
type sim struct {
	now    time.Duration
	events simEvents
	count  int
	path   simPath

	// the link
	ctl      rateControl
	laps     baseDelay
	pace     pacer
	log      rateLog
	seen     rateSeen
	bytesIn  uint64
	seq      uint64
	sent     uint64
	waiting  []simPacket // media in front of the pacer
	demand   float64     // bits per second of all layers
	rungs    int         // layers the demand comes in
	level    int         // rungs that are sent
	raisedAt time.Duration

	dropped    int             // at this node
	overflow   int             // by the path
	gotBytes   int             // media only
	waits      []time.Duration // in the bottleneck's queue
	history    []simSecond
	steppedAt  []time.Duration
	lowest     int
	tcp        []*simTCP
	lastSecond simSecond
}

type simPacket struct {
	bytes  int
	queued time.Duration
}

type simSecond struct {
	media, tcp int // bytes got
	estimate   float64
	phase      ratePhase
	level      int
	queue      time.Duration
}

func (s *sim) at(at time.Duration, do func()) {
	s.count++
	heap.Push(&s.events, simEvent{at, s.count, do})
}

func newSim(demand float64, rungs int, path simPath) *sim {
	s := newIdleSim(demand, rungs, path)
	s.begin()
	return s
}

// newIdleSim has a link that carries probes alone until begin.
func newIdleSim(demand float64, rungs int, path simPath) *sim {
	s := &sim{path: path, demand: demand, rungs: rungs, level: rungs, lowest: rungs}
	s.path.rnd = rand.New(rand.NewPCG(1, 2))
	s.now = time.Second
	s.laps.keep = lapKeep
	s.report(rateReport{}, 0)
	s.probe()
	return s
}

// begin lets media flow.
func (s *sim) begin() {
	for i := range simCameras {
		s.at(s.now+time.Duration(i)*time.Second/30/simCameras, s.frame)
	}
}

// probe measures round trips, as some lanes do.
func (s *sim) probe() {
	left := s.now
	if at, _, ok := s.path.send(s.now, 60); ok {
		s.at(at+s.path.delay, func() {
			s.laps.take(s.now-left, s.now)
			s.ctl.lap(s.laps.delay(), s.now)
		})
	}
	s.at(s.now+25*ms, s.probe)
}

// run goes on for a while.
func (s *sim) run(d time.Duration) {
	end := s.now + d
	next := s.now + time.Second
	for len(s.events) > 0 && s.events[0].at <= end {
		e := heap.Pop(&s.events).(simEvent)
		for next <= e.at {
			got := 0
			for _, t := range s.tcp {
				got += t.got
			}
			s.history = append(s.history, simSecond{
				s.gotBytes - s.lastSecond.media, got - s.lastSecond.tcp, s.ctl.estimate, s.ctl.phase, s.level, s.ctl.queue,
			})
			s.lastSecond.media, s.lastSecond.tcp = s.gotBytes, got
			next += time.Second
		}
		s.now = e.at
		e.do()
	}
	s.now = end
}

const simCameras = 6

// frame makes 33 ms of one camera's media: packets of what layers are sent, over 8 ms.
func (s *sim) frame() {
	bytes := int(s.demand * float64(s.level) / float64(s.rungs) / 8 / 30 / simCameras)
	n := max(1, bytes/1150)
	for i := range n {
		s.at(s.now+time.Duration(i)*8*ms/time.Duration(n), func() {
			s.waiting = append(s.waiting, simPacket{bytes / n, s.now})
			s.pump()
		})
	}
	s.at(s.now+time.Second/30, s.frame)
	s.plan()
}

// plan is a layer budget: down at once, up a rung at a time.
func (s *sim) plan() {
	budget := float64(s.ctl.budget())
	fits := s.rungs
	if budget > 0 {
		fits = min(s.rungs, int(budget/s.demand*float64(s.rungs)))
	}
	fits = max(fits, 1)
	switch {
	case fits < s.level:
		s.level, s.raisedAt = fits, s.now
		s.steppedAt = append(s.steppedAt, s.now)
		s.lowest = min(s.lowest, fits)
	case fits > s.level && s.now-s.raisedAt > 150*ms && !s.ctl.drain.on:
		s.level, s.raisedAt = s.level+1, s.now
	}
	s.ctl.want(0, 0)
	if s.level < s.rungs {
		s.ctl.want(Bitrate(s.demand), Bitrate(s.demand*float64(s.level+1)/float64(s.rungs)))
	}
}

func (s *sim) pump() {
	s.ctl.tick(s.now)
	s.pace.set(s.ctl.pace(), s.now)
	for len(s.waiting) > 0 && s.now-s.waiting[0].queued > 60*ms {
		s.waiting = s.waiting[1:]
		s.dropped++
	}
	for len(s.waiting) > 0 && s.pace.ready(s.now, false) {
		p := s.waiting[0]
		s.waiting = s.waiting[1:]
		s.transmit(p.bytes, true)
	}
	if s.ctl.padding() {
		for len(s.waiting) == 0 && s.pace.ready(s.now, false) {
			s.transmit(1150, false)
		}
	}
}

func (s *sim) transmit(bytes int, media bool) {
	s.pace.spend(bytes)
	if media {
		s.seq++
		s.log.sent(rateMark{s.seq, s.sent, s.now})
	}
	s.sent += uint64(bytes)
	at, wait, ok := s.path.send(s.now, bytes)
	if !ok {
		s.overflow++
		return
	}
	s.waits = append(s.waits, wait)
	seq := s.seq
	s.at(at, func() {
		s.bytesIn += uint64(bytes)
		if media {
			s.gotBytes += bytes
			s.seen.came(seq, s.now)
		}
	})
}

// report is the far side's ticker, and the way back.
func (s *sim) report(last rateReport, unwrapped time.Duration) {
	if r, ok := s.seen.report(uint32(s.bytesIn), s.now); ok && r.Packets != last.Packets {
		bytes, clock := s.bytesIn, s.now
		s.at(s.now+s.path.delay, func() {
			m, ok := s.log.find(uint64(r.Seq))
			if !ok {
				return
			}
			s.ctl.report(rateSample{
				clock: clock, delay: clock - time.Duration(r.Age)*time.Microsecond - m.at, sentAt: m.at,
				seq: uint64(r.Seq), sent: m.bytes, bytes: bytes, packets: uint64(r.Packets), left: s.sent,
			}, s.laps.delay(), s.now)
			s.plan()
			s.pump()
		})
		last = r
	}
	s.at(s.now+reportEvery, func() { s.report(last, 0) })
	s.at(s.now+time.Millisecond, s.tick)
}

func (s *sim) tick() {
	s.pump()
	for i := 2 * ms; i < reportEvery; i += ms {
		s.at(s.now+i, s.pump)
	}
}

func (s *sim) quantile(q float64, from int) time.Duration {
	w := slices.Clone(s.waits[from:])
	slices.Sort(w)
	return w[int(q*float64(len(w)-1))]
}

// simTCP is a bulk flow: slow start, then Reno (RFC 5681, with QUIC's and Cubic's 0.7) or CUBIC (RFC 9438).
type simTCP struct {
	s        *sim
	cubic    bool
	window   float64 // packets
	ssthresh float64
	flight   int
	next     int
	acked    map[int]bool
	highest  int
	recover  int
	max      float64
	epoch    time.Duration
	got      int
	srtt     time.Duration
	pending  []int // sent and not known to have come or been lost
	stopped  bool
}

const simSegment = 1250

func (s *sim) bulk(cubic bool) *simTCP {
	t := &simTCP{s: s, cubic: cubic, window: 10, ssthresh: math.Inf(1), acked: map[int]bool{}, srtt: 2 * s.path.delay}
	s.tcp = append(s.tcp, t)
	t.pump()
	return t
}

func (t *simTCP) pump() {
	if t.stopped {
		return
	}
	for float64(t.flight) < t.window {
		n := t.next
		t.next++
		t.flight++
		t.pending = append(t.pending, n)
		left := t.s.now
		at, _, ok := t.s.path.send(t.s.now, simSegment)
		if !ok {
			continue
		}
		t.s.at(at, func() { t.got += simSegment })
		t.s.at(at+t.s.path.delay, func() { t.ack(n, left) })
	}
	if t.flight == 0 {
		return
	}
	last := t.next
	t.s.at(t.s.now+time.Second, func() { // retransmission timeout
		if t.next == last && t.flight > 0 {
			t.pending, t.flight = nil, 0
			t.ssthresh, t.window, t.recover = max(2, t.window/2), 2, t.next
			t.pump()
		}
	})
}

func (t *simTCP) ack(n int, left time.Duration) {
	i, ok := slices.BinarySearch(t.pending, n)
	if !ok {
		return
	}
	t.srtt += (t.s.now - left - t.srtt) / 8
	t.pending = slices.Delete(t.pending, i, i+1)
	t.flight--
	t.highest = max(t.highest, n)
	lost := false
	for len(t.pending) > 0 && t.pending[0] < t.highest-3 {
		if t.pending[0] >= t.recover {
			lost = true
		}
		t.pending = t.pending[1:]
		t.flight--
	}
	switch {
	case lost:
		t.recover = t.next
		t.max, t.epoch = t.window, t.s.now
		t.window = max(2, t.window*0.7)
		t.ssthresh = t.window
	case t.window < t.ssthresh:
		t.window++
	case t.cubic:
		k := math.Cbrt(t.max * 0.3 / 0.4)
		at := (t.s.now - t.epoch + t.srtt).Seconds() - k
		target := 0.4*at*at*at + t.max
		reno := t.max*0.7 + 0.53*float64(t.s.now-t.epoch)/float64(t.srtt)
		if target = max(target, reno); target > t.window {
			t.window += min((target-t.window)/t.window, 0.5)
		}
	default:
		t.window += 1 / t.window
	}
	t.pump()
}
