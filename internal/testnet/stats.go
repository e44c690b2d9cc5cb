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

type counters struct{ passed, lost, blocked, overflow, unreachable atomic.Uint64 }

func (c *counters) stats() Stats {
	return Stats{
		Passed: c.passed.Load(), Lost: c.lost.Load(), Blocked: c.blocked.Load(),
		Overflow: c.overflow.Load(), Unreachable: c.unreachable.Load(),
	}
}

func (c *counters) refuse(v verdict) {
	if v == lost {
		c.lost.Add(1)
	} else {
		c.overflow.Add(1)
	}
}
