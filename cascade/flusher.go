package cascade

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// flusher sends what the links of a node gathered on direct lanes. That is done by who is awake anyway, for all links
// together: a wake-up costs as much processor time as ten packets. Its own timer is for the last packets before a pause
// and is put off as long as others come.
//
//	packets      p  p p   p  p   p p    p            p
//	             └──gatherTime──▶│└─────────────▶
//	flushed by                   p      …        timer (gatherLate)
type flusher struct {
	due     atomic.Int64 // a time.Duration: when what waits is to leave; never when nothing does
	relayed atomic.Bool  // some of it came from another node, which gathered it already
	timer   *time.Timer  // the goroutine of run waits for it

	mu      sync.Mutex
	waiting []*sender // guarded by mu
	spare   []*sender // guarded by mu; what waiting was before, to be used again
}

func newFlusher() *flusher {
	f := &flusher{timer: time.NewTimer(time.Hour)}
	f.timer.Stop()
	f.due.Store(int64(never))
	return f
}

// expect makes the next round flush s, which has something since now. Called once for each round by each sender.
func (f *flusher) expect(s *sender, now time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.waiting = append(f.waiting, s); len(f.waiting) == 1 {
		f.due.Store(int64(now + gatherTime))
		f.timer.Reset(gatherLate)
	}
}

// late reports whether it is time for a round.
func (f *flusher) late(now time.Duration) bool { return int64(now) >= f.due.Load() }

// round flushes who waits. It may be called by anybody at any time.
func (f *flusher) round() {
	f.mu.Lock()
	now := f.waiting
	f.waiting, f.spare = f.spare[:0], nil
	f.due.Store(int64(never))
	f.relayed.Store(false)
	f.mu.Unlock()
	if len(now) == 0 {
		return
	}
	for i, s := range now {
		s.flush()
		now[i] = nil
	}
	f.mu.Lock()
	f.spare = now
	f.mu.Unlock()
}

// relay flushes at the end of what came in at once: what of it goes on to other nodes need not wait again.
func (f *flusher) relay(now time.Duration) {
	if f.relayed.Load() || f.late(now) {
		f.round()
	}
}

// run makes the rounds nobody else made, until ctx ends.
func (f *flusher) run(ctx context.Context) {
	defer f.timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.timer.C:
			f.round()
		}
	}
}
