package cascade

import (
	"sync"
	"time"
)

// crossTime is how long after the end of a flow the other side may still speak of it: the longest round trip there is,
// with repair. It is not longer than an ID rests.
const crossTime = flowQuarantine

// maxFarewells is how many flows are remembered. A peer that ends more in crossTime is not believed more.
const maxFarewells = 1 << 14

// farewells remembers the flows that ended of late. What the other side says of one of them has crossed the news of its
// end, and is no sign of a peer that makes no sense: when a large room ends, hundreds of messages cross at once. It is
// safe for concurrent use.
type farewells struct {
	mu    sync.Mutex
	at    map[uint32]time.Duration // guarded by mu
	swept time.Duration            // guarded by mu
}

func (f *farewells) add(id uint32, now time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.at == nil {
		f.at = make(map[uint32]time.Duration)
	}
	if now-f.swept >= crossTime {
		f.swept = now
		for old, at := range f.at {
			if now-at >= crossTime {
				delete(f.at, old)
			}
		}
	}
	if len(f.at) < maxFarewells {
		f.at[id] = now
	}
}

func (f *farewells) recent(id uint32, now time.Duration) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	at, ok := f.at[id]
	return ok && now-at < crossTime
}

// crossed deals with a message of a flow that is not there: it came late, or makes no sense.
func (l *link) crossed(f *farewells, id uint32) {
	if f.recent(id, l.c.now()) {
		l.peer.stats.drop(dropFlowClosed)
		return
	}
	l.senseless(dropBadControl)
}
