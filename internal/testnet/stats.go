package testnet

import "sync/atomic"

// Stats counts what became of packets.
type Stats struct {
	Passed      uint64 // delivered, or handed to the wrapped connection
	Lost        uint64 // by Link.Loss
	Blocked     uint64 // by Block or Partition
	Overflow    uint64 // by Link.Rate, MaxInFlight or InboxPackets
	Unreachable uint64 // nobody listens there (Switch), or the socket refused (DelayConn)
}

// Sent is the number of packets whose fate is known.
func (s Stats) Sent() uint64 { return s.Passed + s.Lost + s.Blocked + s.Overflow + s.Unreachable }

// Add returns the sums of s and o.
func (s Stats) Add(o Stats) Stats {
	return Stats{
		Passed: s.Passed + o.Passed, Lost: s.Lost + o.Lost, Blocked: s.Blocked + o.Blocked,
		Overflow: s.Overflow + o.Overflow, Unreachable: s.Unreachable + o.Unreachable,
	}
}

// path is one direction: what happens on it, and what happened.
type path struct {
	shaper  *Shaper // guarded by the owner's lock
	pending atomic.Int64
	counters
}

type counters struct{ passed, lost, blocked, overflow, unreachable atomic.Uint64 }

func (c *counters) stats() Stats {
	return Stats{
		Passed: c.passed.Load(), Lost: c.lost.Load(), Blocked: c.blocked.Load(),
		Overflow: c.overflow.Load(), Unreachable: c.unreachable.Load(),
	}
}

func (c *counters) refuse(v Verdict) {
	if v == Lost {
		c.lost.Add(1)
	} else {
		c.overflow.Add(1)
	}
}
