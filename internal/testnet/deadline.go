package testnet

import (
	"sync"
	"time"
)

// deadline is a point in time that may be moved while somebody waits for it.
type deadline struct {
	mu    *sync.Mutex
	state *deadlineState // guarded by mu
}

type deadlineState struct {
	timer *time.Timer
	ch    chan struct{} // closed when the time has come
	gen   uint64        // a timer of an earlier setting must not close ch
}

func newDeadline() deadline {
	return deadline{mu: new(sync.Mutex), state: &deadlineState{ch: make(chan struct{})}}
}

// expired returns a channel that closes at the deadline. It stays valid until the deadline was reached and moved again.
func (d deadline) expired() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.state.ch
}

func (d deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.state
	s.gen++
	if s.timer != nil {
		s.timer.Stop()
		s.timer = nil
	}
	select {
	case <-s.ch:
		s.ch = make(chan struct{})
	default:
	}
	if t.IsZero() {
		return
	}
	wait := time.Until(t)
	if wait <= 0 {
		close(s.ch)
		return
	}
	gen := s.gen
	s.timer = time.AfterFunc(wait, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if s.gen == gen {
			close(s.ch)
		}
	})
}
