package cascade

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// How the flusher looks after what nobody sent. A wake-up costs as much processor time as ten packets.
const (
	flushSoon   = gatherTime           // between rounds while they find something
	flushLater  = 3 * time.Millisecond // when they do not: frames are complete when they come
	flushEager  = 16                   // rounds without a find that make the difference
	flushRounds = 2                    // with nobody waiting, after which it rests until it is woken
)

// flusher sends what the links of a node gathered on direct lanes and nobody sent in the meantime, in rounds for all
// links together.
type flusher struct {
	wake    chan struct{} // capacity 1
	running atomic.Bool
	pending atomic.Bool // somebody waits

	mu      sync.Mutex
	waiting []*sender // guarded by mu
	spare   []*sender // guarded by mu; what waiting was before, to be used again
}

func newFlusher() *flusher { return &flusher{wake: make(chan struct{}, 1)} }

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

// round flushes who waits, and reports whether anybody did, and whether something was left to send. It may be called
// by anybody at any time.
func (f *flusher) round() (waited, found bool) {
	f.mu.Lock()
	now := f.waiting
	f.waiting, f.spare = f.spare[:0], nil
	f.pending.Store(false)
	f.mu.Unlock()
	if len(now) == 0 {
		return false, false
	}
	for i, s := range now {
		found = s.flush() || found
		now[i] = nil
	}
	f.mu.Lock()
	f.spare = now
	f.mu.Unlock()
	return true, found
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
		f.rounds(ctx)
		f.running.Store(false)
		f.round() // who came between the last round and this
	}
}

// rounds makes rounds until there is nothing to do.
func (f *flusher) rounds(ctx context.Context) {
	pause := flushSoon
	for poor, idle := flushEager, 0; idle < flushRounds && ctx.Err() == nil; {
		time.Sleep(pause)
		waited, found := f.round()
		switch {
		case found:
			poor, idle, pause = 0, 0, flushSoon
		case poor < flushEager:
			poor++
		case waited:
			idle, pause = 0, flushLater
		default:
			idle, pause = idle+1, flushLater
		}
	}
}
