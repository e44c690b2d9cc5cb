package testnet

import (
	"math/rand/v2"
	"time"
)

// Verdict says what becomes of one packet.
type Verdict uint8

// Verdicts of a Shaper.
const (
	Pass     Verdict = iota
	Lost             // by Loss
	Overflow         // by Rate, with Queue or QueueBytes full
)

// Shaper applies a Link to a sequence of packets. It is pure: it is told the time, which must not go back. The same
// seed and the same sequence give the same verdicts. Not safe for concurrent use.
type Shaper struct {
	link    Link
	tick    time.Duration // due times are rounded up to multiples of it; 0 keeps them exact
	rnd     *rand.Rand
	bad     bool      // Gilbert–Elliott state
	free    time.Time // when the bottleneck has sent all it accepted
	lastDue time.Time // no packet overtakes this one, unless Reorder
}

// NewShaper makes a Shaper of a valid Link.
func NewShaper(l Link, seed1, seed2 uint64) *Shaper {
	return &Shaper{link: l, rnd: rand.New(rand.NewPCG(seed1, seed2))} // #nosec G404 -- emulation, must be repeatable
}

// Set changes the Link, which must be valid. Packets accepted before keep their due times.
func (s *Shaper) Set(l Link) { s.link = l }

// Wait is how long a packet sent now would wait for Link.Rate before its own turn.
func (s *Shaper) Wait(now time.Time) time.Duration { return max(0, s.free.Sub(now)) }

// Packet says whether a packet of size bytes sent now passes, and when it arrives.
func (s *Shaper) Packet(now time.Time, size int) (due time.Time, v Verdict) {
	if s.lose() {
		return now, Lost
	}
	due = now
	if s.link.Rate > 0 {
		start := now
		if s.free.After(now) {
			start = s.free
		}
		if s.full(start.Sub(now), size) {
			return now, Overflow
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
		if s.link.Reorder {
			return due, Pass
		}
		due = s.lastDue
	}
	s.lastDue = due
	return due, Pass
}

// full says whether the queue refuses a packet that would wait that long.
func (s *Shaper) full(wait time.Duration, size int) bool {
	queue, bytes := s.link.Queue, s.link.QueueBytes
	if queue == 0 && bytes == 0 {
		queue = DefaultQueue
	}
	if queue > 0 && wait > queue {
		return true
	}
	return bytes > 0 && wait > 0 && int64(wait.Seconds()*float64(s.link.Rate)/8)+int64(size) > bytes
}

// lose draws whether the next packet is lost. In the bad state of the Gilbert model all packets are lost; the
// transition probabilities follow from the mean burst length and the share lost in the long run.
func (s *Shaper) lose() bool {
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
