package meshnet

import (
	"errors"
	"maps"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// sessions finds the Direct a packet belongs to. Packets are looked up without a lock.
type sessions struct {
	metrics *metrics
	live    atomic.Pointer[map[uint64]*Direct] // never changed in place
	mu      sync.Mutex                         // one change at a time

	at   time.Time // when the packets under way were read; this and below only the reading goroutine's
	busy []*Direct // whose handlers got some of them
}

func newSessions(m *metrics) *sessions {
	s := &sessions{metrics: m}
	s.live.Store(&map[uint64]*Direct{})
	return s
}

// add makes d reachable. Two sessions with one ID, a chance of 2^-32 for each that is there, are an error.
func (s *sessions) add(d *Direct) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := *s.live.Load()
	if _, dup := old[d.recvID]; dup {
		return errors.New("meshnet: two direct sessions with one ID")
	}
	live := maps.Clone(old)
	live[d.recvID] = d
	s.live.Store(&live)
	return nil
}

func (s *sessions) remove(d *Direct) {
	s.mu.Lock()
	defer s.mu.Unlock()
	live := maps.Clone(*s.live.Load())
	delete(live, d.recvID)
	s.live.Store(&live)
}

// take hands a packet to its session. Nothing is ever sent in return to what is not authentic. Only the goroutine that
// reads calls take and done.
func (s *sessions) take(b []byte, from netip.AddrPort) {
	p, ok := parseDirect(b)
	if !ok {
		s.metrics.refusedDirect[refusedMalformed].Inc()
		return
	}
	d := (*s.live.Load())[p.session]
	if d == nil {
		s.metrics.refusedDirect[refusedSession].Inc()
		return
	}
	if s.at.IsZero() {
		s.at = time.Now()
	}
	if d.receive(p, b, from, s.at) {
		s.busy = append(s.busy, d)
	}
}

// done is called after the last packet of those that were read at once.
func (s *sessions) done() {
	if s.at.IsZero() {
		return
	}
	for i, d := range s.busy {
		d.done()
		s.busy[i] = nil
	}
	s.metrics.directRead.Observe(time.Since(s.at).Seconds())
	s.at, s.busy = time.Time{}, s.busy[:0]
}
