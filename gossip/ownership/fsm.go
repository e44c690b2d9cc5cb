package ownership

import (
	"fmt"
	"io"
	"sync"

	"github.com/hashicorp/raft"
)

// fsm is the table as Raft drives it. Apply and Restore come from Raft's FSM goroutine; subscribers read elsewhere.
type fsm struct {
	mu    sync.Mutex
	table *table                     // guarded by mu
	subs  map[*subscription]struct{} // guarded by mu

	undecodable func(err error) // told of log entries this release cannot read; must not block
}

var _ raft.FSM = (*fsm)(nil)

func newFSM(undecodable func(error)) *fsm {
	return &fsm{table: newTable(), subs: make(map[*subscription]struct{}), undecodable: undecodable}
}

// Apply implements raft.FSM. It returns a result.
func (f *fsm) Apply(l *raft.Log) any {
	c, err := decodeCommand(l.Data)
	if err != nil {
		f.undecodable(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	r := f.table.apply(l.Index, c) // an undecodable command is the zero command: invalid, and changes nothing
	if r.changed {
		for s := range f.subs {
			s.pushLocked(change{entry: r.entry, room: c.room, removed: r.removed, index: r.index})
		}
	}
	return r
}

// Snapshot implements raft.FSM.
func (f *fsm) Snapshot() (raft.FSMSnapshot, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return &fsmSnapshot{table: f.table.clone()}, nil
}

// Restore implements raft.FSM.
func (f *fsm) Restore(r io.ReadCloser) error {
	t, err := readSnapshot(r)
	if cerr := r.Close(); err == nil && cerr != nil {
		err = fmt.Errorf("ownership: read snapshot: %w", cerr)
	}
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.table = t
	for s := range f.subs {
		s.loseLocked()
	}
	return nil
}

// lookup returns the room's entry in the table.
func (f *fsm) lookup(c command) (Entry, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	e, ok := f.table.entries[c.room]
	return e, ok
}

// index returns the Raft index of the last command applied.
func (f *fsm) index() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.table.index
}

type fsmSnapshot struct{ table *table }

// Persist implements raft.FSMSnapshot.
func (s *fsmSnapshot) Persist(sink raft.SnapshotSink) error {
	if err := writeSnapshot(sink, s.table); err != nil {
		_ = sink.Cancel() // the first error is the one that tells
		return err
	}
	return sink.Close()
}

// Release implements raft.FSMSnapshot.
func (s *fsmSnapshot) Release() {}
