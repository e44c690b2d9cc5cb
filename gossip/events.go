package gossip

import (
	"context"
	"slices"
	"sync"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

// EventType says what happened to a member.
type EventType uint8

// The event types.
const (
	Joined  EventType = iota + 1
	Updated           // its metadata changed
	Left              // it said goodbye
	Failed            // it does not answer
)

// String returns the type in lower case.
func (t EventType) String() string {
	switch t {
	case Joined:
		return "joined"
	case Updated:
		return "updated"
	case Left:
		return "left"
	case Failed:
		return "failed"
	}
	return "unknown"
}

// Event is a change of another member. Node is what was known of it last.
type Event struct {
	Type EventType
	Node mesh.NodeInfo
}

// maxPending bounds the events subscribers may be behind.
const maxPending = 1 << 14

// dispatcher delivers events in order from one goroutine.
type dispatcher struct {
	wake chan struct{} // capacity 1

	mu      sync.Mutex
	pending []Event       // guarded by mu
	subs    []*subscriber // guarded by mu
}

type subscriber struct{ f func(Event) }

func newDispatcher() *dispatcher { return &dispatcher{wake: make(chan struct{}, 1)} }

// publish queues e and returns. An update overtakes an undelivered one of the same node, so a slow subscriber sees the
// latest state; should it fall hopelessly behind, the oldest event goes.
func (d *dispatcher) publish(e Event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if e.Type == Updated {
		for i, old := range slices.Backward(d.pending) {
			if old.Node.ID != e.Node.ID {
				continue
			}
			if old.Type == Joined || old.Type == Updated {
				d.pending[i].Node = e.Node
				return
			}
			break
		}
	}
	if len(d.pending) == maxPending {
		d.pending = slices.Delete(d.pending, 0, 1)
	}
	d.pending = append(d.pending, e)
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

func (d *dispatcher) subscribe(f func(Event)) (cancel func()) {
	s := &subscriber{f}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.subs = append(slices.Clone(d.subs), s)
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.subs = slices.DeleteFunc(slices.Clone(d.subs), func(o *subscriber) bool { return o == s })
	}
}

func (d *dispatcher) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.wake:
		}
		d.mu.Lock()
		events, subs := d.pending, d.subs
		d.pending = nil
		d.mu.Unlock()
		for _, e := range events {
			for _, s := range subs {
				s.f(e)
			}
		}
	}
}
