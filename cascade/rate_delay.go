package cascade

import (
	"cmp"
	"time"
)

// baseKeep is for how long a path's least delay is believed in: clocks drift, routes change, and who came when a queue
// was standing already has never seen it empty.
const baseKeep = 10 * time.Second

// nearKeep is the same of the round trip, which probes measure before any media fills a queue.
const nearKeep = 2 * time.Minute

// baseDelay is the least delay of the last while, keep to twice that, in two buckets (BBR's windowed minimum made
// cheap: Cardwell et al., "BBR: Congestion-Based Congestion Control", ACM Queue 14-5). It has no lock and no clock.
type baseDelay struct {
	keep       time.Duration // 0 is baseKeep
	this, last time.Duration
	known      bool
	since      time.Duration
}

func (b *baseDelay) take(owd, now time.Duration) {
	switch {
	case !b.known:
		b.this, b.last, b.known, b.since = owd, owd, true, now
	case now-b.since >= cmp.Or(b.keep, baseKeep):
		b.last, b.this, b.since = b.this, owd, now
	default:
		b.this = min(b.this, owd)
	}
}

func (b *baseDelay) delay() time.Duration { return min(b.this, b.last) }
