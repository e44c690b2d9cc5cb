package ownership

import (
	"github.com/meridian-sfu/meridian/internal/mesh"
)

// maxQueuedChanges is how far a subscriber may fall behind before it gets the whole table instead of changes.
const maxQueuedChanges = 1024

// change is one change of the table.
type change struct {
	room    mesh.RoomName
	entry   Entry // zero when removed
	removed bool
	index   uint64 // Raft index of the command that made it
}

// batch is a run of changes, or the whole table.
type batch struct {
	reset   bool     // entries are the whole table at index
	entries []Entry  // with reset
	changes []change // without reset, in log order
	index   uint64
}

// subscription is one reader's bounded queue of changes of an fsm. Its first batch is the whole table.
type subscription struct {
	fsm   *fsm
	queue []change // guarded by fsm.mu
	lost  bool     // guarded by fsm.mu; the queue overflowed or the table was replaced
	wake  chan struct{}
}

func (f *fsm) subscribe() *subscription {
	s := &subscription{fsm: f, lost: true, wake: make(chan struct{}, 1)}
	s.wake <- struct{}{}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.subs[s] = struct{}{}
	return s
}

func (s *subscription) close() {
	s.fsm.mu.Lock()
	defer s.fsm.mu.Unlock()
	delete(s.fsm.subs, s)
}

func (s *subscription) pushLocked(c change) {
	switch {
	case s.lost:
		return
	case len(s.queue) == maxQueuedChanges:
		s.loseLocked()
		return
	}
	s.queue = append(s.queue, c)
	s.signal()
}

func (s *subscription) loseLocked() {
	s.lost, s.queue = true, nil
	s.signal()
}

func (s *subscription) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// take returns what has queued up; ok is false when nothing has.
func (s *subscription) take() (b batch, ok bool) {
	s.fsm.mu.Lock()
	defer s.fsm.mu.Unlock()
	t := s.fsm.table
	switch {
	case s.lost:
		s.lost = false
		return batch{reset: true, entries: sortedEntries(t), index: t.index}, true
	case len(s.queue) == 0:
		return batch{}, false
	}
	b = batch{changes: s.queue, index: s.queue[len(s.queue)-1].index}
	s.queue = nil
	return b, true
}
