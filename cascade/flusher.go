package cascade

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// flusherPatience is how many rounds without work the flusher makes before it waits to be woken: a wake-up costs more
// than a round.
const flusherPatience = 2

// flusher sends what the links of a node gathered on direct lanes and nobody sent in the meantime: one round each
// gatherTime for all links while there is traffic.
type flusher struct {
	clock   func() time.Duration
	wake    chan struct{} // capacity 1
	running atomic.Bool
	pending atomic.Bool // somebody waits

	mu      sync.Mutex
	waiting []*sender // guarded by mu
	spare   []*sender // guarded by mu; what waiting was before, to be used again
}

func newFlusher(clock func() time.Duration) *flusher {
	return &flusher{clock: clock, wake: make(chan struct{}, 1)}
}

// busy reports whether there will be a round anyway.
func (f *flusher) busy() bool { return f != nil && f.running.Load() }

// expect makes the next round flush s. Called once for each round by each sender.
func (f *flusher) expect(s *sender) {
	f.mu.Lock()
	f.waiting = append(f.waiting, s)
	f.pending.Store(true)
	f.mu.Unlock()
	if !f.running.Load() {
		select {
		case f.wake <- struct{}{}:
		default:
		}
	}
}

// round flushes who waits, and reports whether there was anybody. It may be called by anybody at any time.
func (f *flusher) round() bool {
	f.mu.Lock()
	now := f.waiting
	f.waiting, f.spare = f.spare[:0], nil
	f.pending.Store(false)
	f.mu.Unlock()
	if len(now) == 0 {
		return false
	}
	at := f.clock()
	for i, s := range now {
		s.flush(at)
		now[i] = nil
	}
	f.mu.Lock()
	f.spare = now
	f.mu.Unlock()
	return true
}

// relay flushes at the end of what came in at once: what of it goes on to other nodes need not wait.
func (f *flusher) relay() {
	if f.pending.Load() {
		f.round()
	}
}

// run makes the rounds until ctx ends.
func (f *flusher) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.wake:
		}
		f.running.Store(true)
		for idle := 0; idle < flusherPatience && ctx.Err() == nil; idle++ {
			time.Sleep(gatherTime)
			if f.round() {
				idle = -1
			}
		}
		f.running.Store(false)
		f.round() // who came between the last round and this
	}
}
