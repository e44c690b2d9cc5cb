package ownership

import (
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

// view is the table as this node shows it: fed by its own fsm while it votes, by a voter's stream otherwise. It never
// goes back: what a new feeder has at a lower Raft index of the same group is skipped.
type view struct {
	mu       sync.Mutex
	cluster  string                  // guarded by mu; the group index belongs to
	index    uint64                  // guarded by mu; Raft index of the last change taken
	epoch    uint64                  // guarded by mu; the highest epoch seen
	entries  map[mesh.RoomName]Entry // guarded by mu
	changed  chan struct{}           // guarded by mu; closed and replaced at each change
	watchers []*watcher              // guarded by mu

	wake chan struct{} // the dispatcher has something to do
}

// watcher is one registered callback. It remembers what it was told, so its memory is bounded by the table's.
type watcher struct {
	fn     func(Event)
	known  map[mesh.RoomName]Entry    // what fn was told last
	queue  []mesh.RoomName            // rooms to look at, oldest first, each once
	queued map[mesh.RoomName]struct{} // the rooms in queue
}

func newView() *view {
	return &view{
		entries: make(map[mesh.RoomName]Entry),
		changed: make(chan struct{}),
		wake:    make(chan struct{}, 1),
	}
}

// apply takes b, a batch of the group named cluster, and returns the number of new epochs seen.
func (v *view) apply(cluster string, b batch) (epochs int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if cluster != v.cluster {
		if !b.reset {
			return 0
		}
		v.cluster, v.index, v.epoch = cluster, 0, 0
	}
	dirty := false
	if b.reset {
		if b.index < v.index {
			return 0
		}
		whole := make(map[mesh.RoomName]Entry, len(b.entries))
		for _, e := range b.entries {
			whole[e.Room] = e
			if v.entries[e.Room] != e {
				epochs += v.setLocked(e)
				dirty = true
			}
		}
		for room := range v.entries {
			if _, ok := whole[room]; !ok {
				v.removeLocked(room)
				dirty = true
			}
		}
		v.index = b.index
	}
	for _, c := range b.changes {
		if c.index <= v.index {
			continue
		}
		if c.removed {
			v.removeLocked(c.room)
		} else {
			epochs += v.setLocked(c.entry)
		}
		v.index, dirty = c.index, true
	}
	if dirty {
		close(v.changed)
		v.changed = make(chan struct{})
		v.signal()
	}
	return epochs
}

func (v *view) setLocked(e Entry) (epochs int) {
	v.entries[e.Room] = e
	if e.Epoch > v.epoch {
		v.epoch, epochs = e.Epoch, 1
	}
	v.touchLocked(e.Room)
	return epochs
}

func (v *view) removeLocked(room mesh.RoomName) {
	delete(v.entries, room)
	v.touchLocked(room)
}

func (v *view) touchLocked(room mesh.RoomName) {
	for _, w := range v.watchers {
		w.enqueue(room)
	}
}

func (w *watcher) enqueue(room mesh.RoomName) {
	if _, ok := w.queued[room]; !ok {
		w.queued[room] = struct{}{}
		w.queue = append(w.queue, room)
	}
}

func (v *view) signal() {
	select {
	case v.wake <- struct{}{}:
	default:
	}
}

func (v *view) lookup(room mesh.RoomName) (Entry, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	e, ok := v.entries[room]
	return e, ok
}

func (v *view) all() []Entry {
	v.mu.Lock()
	out := make([]Entry, 0, len(v.entries))
	for _, e := range v.entries {
		out = append(out, e)
	}
	v.mu.Unlock()
	slices.SortFunc(out, func(a, b Entry) int { return strings.Compare(string(a.Room), string(b.Room)) })
	return out
}

func (v *view) size() (entries int, index uint64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.entries), v.index
}

// waitFor returns when done holds of the view, or when ctx ends. done is called under the view's lock.
func (v *view) waitFor(ctx context.Context, done func(v *view) bool) {
	for {
		v.mu.Lock()
		ok, changed := done(v), v.changed
		v.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// watch registers fn; the current entries are queued first.
func (v *view) watch(fn func(Event)) (cancel func()) {
	w := &watcher{fn: fn, known: make(map[mesh.RoomName]Entry), queued: make(map[mesh.RoomName]struct{})}
	v.mu.Lock()
	defer v.mu.Unlock()
	rooms := make([]mesh.RoomName, 0, len(v.entries))
	for room := range v.entries {
		rooms = append(rooms, room)
	}
	slices.Sort(rooms)
	for _, room := range rooms {
		w.enqueue(room)
	}
	v.watchers = append(v.watchers, w)
	v.signal()
	return func() {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.watchers = slices.DeleteFunc(v.watchers, func(other *watcher) bool { return other == w })
	}
}

// dispatch calls the watchers until ctx ends.
func (v *view) dispatch(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-v.wake:
		}
		for ctx.Err() == nil {
			fn, ev, more := v.nextEvent()
			if fn != nil {
				fn(ev)
			}
			if !more {
				break
			}
		}
	}
}

// nextEvent takes one room off some watcher's queue. fn is nil when the watcher knows the room's state already.
func (v *view) nextEvent() (fn func(Event), ev Event, more bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, w := range v.watchers {
		if len(w.queue) == 0 {
			continue
		}
		room := w.queue[0]
		w.queue = w.queue[1:]
		delete(w.queued, room)
		ev, ok := w.event(room, v.entries)
		if !ok {
			return nil, Event{}, true
		}
		return w.fn, ev, true
	}
	return nil, Event{}, false
}

// event makes what w is to be told of room, and notes that it was told.
func (w *watcher) event(room mesh.RoomName, entries map[mesh.RoomName]Entry) (Event, bool) {
	now, open := entries[room]
	before, knew := w.known[room]
	switch {
	case open && now != before:
		w.known[room] = now
		return Event{Type: Set, Entry: now, Previous: before}, true
	case !open && knew:
		delete(w.known, room)
		return Event{Type: Removed, Entry: before, Previous: before}, true
	}
	return Event{}, false
}
