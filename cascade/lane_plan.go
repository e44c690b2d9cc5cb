package cascade

import (
	"math"
	"time"

	"github.com/meridian-sfu/meridian/internal/meshnet"
)

// How many lanes a link has follows from what one of them carries: a loss-based congestion window over a path with
// loss p lets about 1.68 · packet size / (RTT · √p) through (Reno with β = 0.7).
const (
	renoFactor     = 1.68
	renoPacketBits = 8 * 1200
	laneHeadroom   = 2    // windows of lanes differ, and what waits behind a full one is late
	laneLeastLoss  = 1e-5 // no path is believed to lose nothing
	laneDownAfter  = 10 * time.Second
	nearestKeep    = time.Minute          // a path may change
	laneLook       = 5 * time.Millisecond // between looks at a full window
)

// lanesFor is how many lanes carry a rate in bits per second.
func lanesFor(rate float64, rtt time.Duration, loss float64) int {
	if rtt <= 0 {
		return 0
	}
	one := renoFactor * renoPacketBits / (rtt.Seconds() * math.Sqrt(max(loss, laneLeastLoss)))
	return int(min(math.Ceil(laneHeadroom*rate/one), maxLanes))
}

// lanePlanner goes up at once and down slowly. It has no lock and no clock.
type lanePlanner struct {
	lanes int
	high  time.Duration // when so many were last needed
}

// step takes how many lanes are needed now and returns how many to have.
func (p *lanePlanner) step(need, least, most int, now time.Duration) int {
	need = min(max(need, least), most)
	switch {
	case need >= p.lanes:
		p.lanes, p.high = need, now
	case 4*need > 3*p.lanes: // nearly as many: not worth a change
		p.high = now
	case now-p.high >= laneDownAfter:
		p.lanes, p.high = max(need, p.lanes-max(1, p.lanes/4)), now
	}
	return p.lanes
}

// rateMeter smooths the rates in bits per second, up faster than down. It has no lock and no clock.
type rateMeter struct {
	offered, drained         float64
	lastOffered, lastDrained uint64
	at                       time.Duration
}

func (m *rateMeter) round(offered, drained uint64, now time.Duration) {
	if past := (now - m.at).Seconds(); m.at != 0 && past > 0 {
		m.offered = followRate(m.offered, 8*float64(offered-m.lastOffered)/past)
		m.drained = followRate(m.drained, 8*float64(drained-m.lastDrained)/past)
	}
	m.lastOffered, m.lastDrained, m.at = offered, drained, now
}

func followRate(old, now float64) float64 {
	if now > old {
		return old + (now-old)/2
	}
	return old + (now-old)/8
}

// carried is how many bytes flows have brought and lanes have taken.
func (s *sender) carried() (offered, drained uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.offered, s.drained
}

// wantsLane reports whether a lane is to be dialled, again or at all; when not, its dialLane ends.
func (l *link) wantsLane(index int) bool {
	l.laneMu.Lock()
	defer l.laneMu.Unlock()
	if index >= l.want || l.ended {
		l.dialing[index] = false
		return false
	}
	return true
}

// setLanes dials lanes up to n, and returns those beyond that: they take nothing more and are to be closed once what
// waits on them has left. Called by the dialling side only, while the link runs.
func (l *link) setLanes(n int) (spare []*lane) {
	l.laneMu.Lock()
	defer l.laneMu.Unlock()
	if l.ended {
		return nil
	}
	l.want = n
	for i := range n {
		if !l.dialing[i] {
			l.dialing[i] = true
			l.wg.Go(func() { l.dialLane(i) })
		}
	}
	for i, ln := range l.attached {
		if i >= n && !ln.retired.Swap(true) {
			spare = append(spare, ln)
		} else if i < n {
			ln.retired.Store(false)
		}
	}
	return spare
}

// unlimited reports whether the link's lanes have no congestion windows: a few carry everything then.
func (l *link) unlimited() bool {
	l.laneMu.Lock()
	defer l.laneMu.Unlock()
	for _, ln := range l.attached {
		if !ln.unlimited() {
			return false
		}
	}
	return len(l.attached) > 0
}

// attachedLanes is how many lanes there are.
func (l *link) attachedLanes() int {
	l.laneMu.Lock()
	defer l.laneMu.Unlock()
	return len(l.attached)
}

// measuredConn is a MediaConn that tells what it does, as meshnet's do.
type measuredConn interface{ Stats() meshnet.ConnStats }

// room is what the lane's congestion window lets through, 0 when not known.
func (l *lane) room() Bitrate {
	c, ok := l.conn.(measuredConn)
	if !ok || l.unlimited() {
		return 0
	}
	s := c.Stats()
	if s.SmoothedRTT <= 0 {
		return 0
	}
	return Bitrate(8 * float64(s.CongestionBytes) / s.SmoothedRTT.Seconds())
}

// inside bounds how many datagrams wait inside a connection for its congestion window: it takes 32 without a word,
// which at the rate of one lane of many is half a second. A datagram counts as gone with the next packet that is
// sent, which errs towards fewer. It belongs to a lane's send loop.
type inside struct {
	conn  measuredConn // nil when the connection does not tell, or has no window
	n     uint64
	sent  uint64 // packets, when looked at last
	timer *time.Timer
}

func newInside(conn MediaConn) *inside {
	in := new(inside)
	if c, ok := conn.(measuredConn); ok && !unlimited(conn) {
		in.conn = c
		in.timer = time.NewTimer(time.Hour)
		in.sent = c.Stats().PacketsSent
	}
	return in
}

func (in *inside) handed() { in.n++ }

func (in *inside) full() bool {
	if in.conn == nil || in.n < laneInside {
		return false
	}
	sent := in.conn.Stats().PacketsSent
	in.n -= min(in.n, sent-in.sent)
	in.sent = sent
	return in.n >= laneInside
}

// wait returns once there is room in the connection, or false when it or the link has ended.
func (in *inside) wait(l *link, ln *lane) bool {
	for pause := 100 * time.Microsecond; in.full(); pause = min(2*pause, laneLook) {
		ln.blockedSince.CompareAndSwap(0, int64(l.c.now()))
		in.timer.Reset(pause)
		select {
		case <-in.timer.C:
		case <-l.ctx.Done():
			return false
		case <-ln.conn.Done():
			return false
		}
	}
	ln.blockedSince.Store(0)
	return true
}
