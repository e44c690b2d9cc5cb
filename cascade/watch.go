package cascade

import (
	"context"
	"slices"
	"sync"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

// linkEvent is one change of a link.
type linkEvent struct {
	node mesh.NodeID
	up   bool
}

// watchers hands link events to functions, in order, on the goroutine of run. At most two events of a node wait: a
// third takes back the second, which it undoes.
type watchers struct {
	wake chan struct{}

	mu    sync.Mutex
	fns   []*func(mesh.NodeID, bool) // guarded by mu; replaced, never changed
	queue []linkEvent                // guarded by mu
}

func (w *watchers) add(f func(mesh.NodeID, bool)) (cancel func()) {
	p := &f
	w.mu.Lock()
	w.fns = append(slices.Clip(w.fns), p)
	w.mu.Unlock()
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.fns = slices.DeleteFunc(slices.Clone(w.fns), func(q *func(mesh.NodeID, bool)) bool { return q == p })
	}
}

func (w *watchers) emit(node mesh.NodeID, up bool) {
	w.mu.Lock()
	last, count := -1, 0
	for i := range w.queue {
		if w.queue[i].node == node {
			last = i
			count++
		}
	}
	if count == 2 {
		w.queue = slices.Delete(w.queue, last, last+1)
	} else {
		w.queue = append(w.queue, linkEvent{node, up})
	}
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *watchers) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.wake:
		}
		for {
			w.mu.Lock()
			if len(w.queue) == 0 {
				w.mu.Unlock()
				break
			}
			e, fns := w.queue[0], w.fns
			w.queue = slices.Delete(w.queue, 0, 1)
			w.mu.Unlock()
			for _, f := range fns {
				(*f)(e.node, e.up)
			}
		}
	}
}
