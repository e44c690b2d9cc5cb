package trunk

import (
	"slices"
	"time"

	"github.com/meridian-sfu/meridian/internal/testnet"
)

// What a sender has to do when the path becomes narrow.
const (
	narrowStep  = 10 * time.Millisecond  // how finely the ocean looks
	narrowQueue = 60 * time.Millisecond  // no longer queue may stand
	narrowCalm  = 500 * time.Millisecond // for so long at least, or until the bottleneck is gone
)

// narrowReport is what a bottleneck that came and went did to the way to the receiver.
type narrowReport struct {
	StepDown time.Duration `json:"step_down"` // from its beginning until what came fitted for narrowCalm; negative: never
	QueueP50 time.Duration `json:"queue_p50"` // of packets that came to it
	QueueP99 time.Duration `json:"queue_p99"`
	QueueMax time.Duration `json:"queue_max"`
	Overflow uint64        `json:"overflow"` // packets
	Packets  uint64        `json:"packets"`  // that came to it
}

// narrow is a bottleneck that comes and goes.
type narrow struct {
	cell     Cell
	from, to int64 // on the monotonic clock
	there    bool
	waits    []time.Duration
	steps    []narrowed
	overflow uint64
}

// narrowed is what happened in one step.
type narrowed struct {
	bytes    int
	queue    time.Duration // the longest
	overflow bool
}

// newNarrow is of a cell whose counted time begins then.
func newNarrow(c Cell, counted int64) *narrow {
	return &narrow{
		cell: c, from: counted + int64(c.BottleneckFrom), to: counted + int64(c.BottleneckTo),
		steps: make([]narrowed, (c.BottleneckTo-c.BottleneckFrom)/narrowStep+1),
	}
}

// turn changes the path when it is time.
func (n *narrow) turn(now int64, shapers []*testnet.Shaper) {
	there := now >= n.from && now < n.to
	if there == n.there {
		return
	}
	n.there = there
	c := n.cell
	if !there {
		c = c.wide()
	}
	for _, s := range shapers {
		s.Set(c.link())
	}
}

// packet takes what came to the bottleneck: how long it had to wait, or found no room.
func (n *narrow) packet(came int64, bytes int, wait time.Duration, v testnet.Verdict) {
	if came < n.from || came >= n.to {
		return
	}
	s := &n.steps[(came-n.from)/int64(narrowStep)]
	s.bytes += bytes
	s.queue = max(s.queue, wait)
	s.overflow = s.overflow || v == testnet.Overflow
	n.waits = append(n.waits, wait)
	if v == testnet.Overflow {
		n.overflow++
	}
}

func (n *narrow) report() *narrowReport {
	slices.Sort(n.waits)
	return &narrowReport{
		StepDown: n.stepDown(), QueueP50: quantile(n.waits, 0.5), QueueP99: quantile(n.waits, 0.99), QueueMax: quantile(n.waits, 1),
		Overflow: n.overflow, Packets: uint64(len(n.waits)),
	}
}

// stepDown finds the first step from which on nothing overflowed, the queue was short and no more came than fits, for narrowCalm.
func (n *narrow) stepDown() time.Duration {
	calm := int(narrowCalm / narrowStep)
	steps := n.steps[:len(n.steps)-1]
	for first := range steps {
		part := steps[first:min(first+calm, len(steps))]
		bytes, fits := 0, true
		for _, s := range part {
			bytes += s.bytes
			fits = fits && !s.overflow && s.queue < narrowQueue
		}
		took := time.Duration(len(part)) * narrowStep
		if fits && float64(bytes)*8 <= float64(n.cell.Bottleneck)*took.Seconds() {
			return time.Duration(first) * narrowStep
		}
	}
	return -1
}
