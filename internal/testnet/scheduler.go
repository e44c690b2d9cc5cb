package testnet

import (
	"container/heap"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// MaxInFlight is how many packets one DelayConn or Switch holds at most; more are dropped.
const MaxInFlight = 32768

// datagram is one packet in flight.
type datagram struct {
	due      time.Time
	order    uint64 // breaks ties, so that packets due at the same time keep their order
	from, to netip.AddrPort
	buf      *[]byte       // pooled; owned by the datagram until released
	pending  *atomic.Int64 // in-flight count of its direction, decremented on delivery; may be nil
}

var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 2048); return &b }}

func newBuffer(b []byte) *[]byte {
	p := buffers.Get().(*[]byte)
	*p = append((*p)[:0], b...)
	return p
}

func (d *datagram) release() {
	if cap(*d.buf) <= 2048 {
		buffers.Put(d.buf)
	}
	d.buf = nil
}

type datagramHeap []datagram

func (h datagramHeap) Len() int { return len(h) }
func (h datagramHeap) Less(i, j int) bool {
	if h[i].due.Equal(h[j].due) {
		return h[i].order < h[j].order
	}
	return h[i].due.Before(h[j].due)
}
func (h datagramHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *datagramHeap) Push(x any)   { *h = append(*h, x.(datagram)) }
func (h *datagramHeap) Pop() any {
	old := *h
	n := len(old) - 1
	d := old[n]
	old[n] = datagram{}
	*h = old[:n]
	return d
}

// scheduler delivers datagrams when they are due, one at a time, in order of due time.
type scheduler struct {
	deliver func(datagram) // owns the buffer

	mu     sync.Mutex
	queue  datagramHeap // guarded by mu
	order  uint64       // guarded by mu
	closed bool         // guarded by mu

	wake chan struct{} // capacity 1: the earliest due time changed
	stop chan struct{}
	done chan struct{}
}

func newScheduler(deliver func(datagram)) *scheduler {
	s := &scheduler{deliver: deliver, wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{})}
	go s.run()
	return s
}

// add takes over d. It reports false when the scheduler is full or closed; d was released then.
func (s *scheduler) add(d datagram) bool {
	s.mu.Lock()
	if s.closed || len(s.queue) >= MaxInFlight {
		s.mu.Unlock()
		d.release()
		return false
	}
	s.order++
	d.order = s.order
	if d.pending != nil {
		d.pending.Add(1)
	}
	heap.Push(&s.queue, d)
	first := s.queue[0].order == d.order
	s.mu.Unlock()
	if first {
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
	return true
}

func (s *scheduler) run() {
	defer close(s.done)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	var batch []datagram
	for {
		var wait time.Duration
		batch, wait = s.takeDue(batch[:0])
		for _, d := range batch {
			s.deliver(d)
			if d.pending != nil {
				d.pending.Add(-1)
			}
		}
		if len(batch) > 0 {
			continue
		}
		timer.Reset(wait)
		select {
		case <-s.stop:
			return
		case <-s.wake:
		case <-timer.C:
		}
	}
}

// takeDue appends up to 64 due datagrams to batch, and says how long to wait when there are none.
func (s *scheduler) takeDue(batch []datagram) ([]datagram, time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for len(s.queue) > 0 && len(batch) < 64 && !s.queue[0].due.After(now) {
		batch = append(batch, heap.Pop(&s.queue).(datagram))
	}
	if len(s.queue) == 0 {
		return batch, time.Hour
	}
	return batch, s.queue[0].due.Sub(now)
}

// close ends the goroutine, waits for it and drops what is in flight. It is idempotent. It must not be called by deliver.
func (s *scheduler) close() {
	s.mu.Lock()
	first := !s.closed
	s.closed = true
	s.queue = nil
	s.mu.Unlock()
	if first {
		close(s.stop)
	}
	<-s.done
}
