package testnet

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// Link is what happens to packets on their way in one direction. The zero Link delivers at once and loses nothing.
type Link struct {
	Delay  time.Duration // one way, before jitter
	Jitter time.Duration // up to this much is added to Delay, evenly distributed; packets stay in order
	Loss   float64       // share of packets lost, 0 to 1
	Burst  float64       // mean number of packets lost in a row (Gilbert–Elliott); up to 1 losses are independent
	Rate   int64         // bits per second of UDP payload; 0 is unlimited
	Queue  time.Duration // longest wait for Rate before packets are dropped; 0 stands for DefaultQueue
}

// DefaultQueue is how long packets wait for a Link's Rate when the Link does not say.
const DefaultQueue = 100 * time.Millisecond

// Validate returns all problems of l, joined.
func (l Link) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("testnet: "+format, args...))
		}
	}
	check(l.Delay >= 0, "delay %v is negative", l.Delay)
	check(l.Jitter >= 0, "jitter %v is negative", l.Jitter)
	check(l.Loss >= 0 && l.Loss <= 1, "loss %v is not a share from 0 to 1", l.Loss)
	check(l.Burst >= 0, "burst %v is negative", l.Burst)
	check(l.Rate >= 0, "rate %d is negative", l.Rate)
	check(l.Queue >= 0, "queue %v is negative", l.Queue)
	return errors.Join(errs...)
}

// verdict says what becomes of one packet.
type verdict uint8

const (
	pass     verdict = iota
	lost             // by Loss
	overflow         // by Rate and Queue
)

// shaper applies a Link to a sequence of packets. It is pure: it is told the time. Not safe for concurrent use.
type shaper struct {
	link    Link
	tick    time.Duration // due times are rounded up to multiples of it; 0 keeps them exact
	rnd     *rand.Rand
	bad     bool      // Gilbert–Elliott state
	free    time.Time // when the bottleneck has sent all it accepted
	lastDue time.Time // packets never overtake
}

func newShaper(l Link, tick time.Duration, seed1, seed2 uint64) *shaper {
	return &shaper{link: l, tick: tick, rnd: rand.New(rand.NewPCG(seed1, seed2))} // #nosec G404 -- emulation, must be repeatable
}

// packet says whether a packet of size bytes sent now passes, and when it arrives.
func (s *shaper) packet(now time.Time, size int) (due time.Time, v verdict) {
	if s.lose() {
		return now, lost
	}
	due = now
	if s.link.Rate > 0 {
		queue := s.link.Queue
		if queue == 0 {
			queue = DefaultQueue
		}
		start := now
		if s.free.After(now) {
			start = s.free
		}
		if start.Sub(now) > queue {
			return now, overflow
		}
		s.free = start.Add(time.Duration(float64(size) * 8 / float64(s.link.Rate) * float64(time.Second)))
		due = s.free
	}
	due = due.Add(s.link.Delay)
	if s.link.Jitter > 0 {
		due = due.Add(time.Duration(s.rnd.Int64N(int64(s.link.Jitter) + 1)))
	}
	if s.tick > 0 && due.After(now) {
		if over := time.Duration(due.UnixNano()) % s.tick; over > 0 {
			due = due.Add(s.tick - over)
		}
	}
	if due.Before(s.lastDue) {
		due = s.lastDue
	}
	s.lastDue = due
	return due, pass
}

// lose draws whether the next packet is lost. In the bad state of the Gilbert model all packets are lost; the
// transition probabilities follow from the mean burst length and the share lost in the long run.
func (s *shaper) lose() bool {
	loss, burst := s.link.Loss, s.link.Burst
	switch {
	case loss <= 0:
		s.bad = false
		return false
	case loss >= 1:
		return true
	case burst <= 1:
		return s.rnd.Float64() < loss
	}
	if s.bad {
		s.bad = s.rnd.Float64() >= 1/burst
	} else {
		s.bad = s.rnd.Float64() < loss/(burst*(1-loss))
	}
	return s.bad
}
