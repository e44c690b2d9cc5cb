package testnet

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

// MaxInFlight is how many packets one DelayConn or Switch holds at most; more are dropped.
const MaxInFlight = 65536

// datagram is one packet in flight, pooled.
type datagram struct {
	from, to netip.AddrPort // in a Switch
	sender   net.Addr       // from, as ReadFrom returns it
	dst      *delayed       // in a DelayConn
	path     *path          // its direction
	buf      []byte
}

var datagrams = sync.Pool{New: func() any { return &datagram{buf: make([]byte, 0, 2048)} }}

func newDatagram(p *path, b []byte) *datagram {
	d := datagrams.Get().(*datagram)
	d.path = p
	d.buf = append(d.buf[:0], b...)
	return d
}

// release gives d back; nobody may use it afterwards.
func (d *datagram) release() {
	if cap(d.buf) > 2048 {
		return
	}
	*d = datagram{buf: d.buf}
	datagrams.Put(d)
}

// scheduler delivers datagrams when they are due, one at a time, in order of due time.
type scheduler struct {
	deliver func(*datagram) // owns the datagram

	mu     sync.Mutex
	queue  Timeline[*datagram] // guarded by mu
	closed bool                // guarded by mu

	wake chan struct{} // capacity 1: the earliest due time changed
	stop chan struct{}
	done chan struct{}
}

func newScheduler(deliver func(*datagram)) *scheduler {
	s := &scheduler{deliver: deliver, wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{})}
	go s.run()
	return s
}

// add takes over d. It reports false when the scheduler is full or closed; d was released then.
func (s *scheduler) add(due time.Time, d *datagram) bool {
	s.mu.Lock()
	if s.closed || s.queue.Len() >= MaxInFlight {
		s.mu.Unlock()
		d.release()
		return false
	}
	d.path.pending.Add(1)
	first := s.queue.Push(due, d)
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
	var batch []*datagram
	for {
		var wait time.Duration
		batch, wait = s.takeDue(batch[:0])
		for i, d := range batch {
			p := d.path
			s.deliver(d)
			p.pending.Add(-1)
			batch[i] = nil
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
func (s *scheduler) takeDue(batch []*datagram) ([]*datagram, time.Duration) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(batch) < 64 {
		d, ok := s.queue.PopDue(now)
		if !ok {
			break
		}
		batch = append(batch, d)
	}
	next, ok := s.queue.Next()
	if !ok {
		return batch, time.Hour
	}
	return batch, next.Sub(now)
}

// close ends the goroutine, waits for it and drops what is in flight. It is idempotent. It must not be called by deliver.
func (s *scheduler) close() {
	s.mu.Lock()
	first := !s.closed
	s.closed = true
	s.queue = Timeline[*datagram]{}
	s.mu.Unlock()
	if first {
		close(s.stop)
	}
	<-s.done
}
