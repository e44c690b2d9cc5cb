package rtpstream

import "sync"

// Queue is the one queue type: a bounded ring with a wake channel of capacity 1 that evicts the oldest element when it
// is full. The caller counts and releases what was evicted. It is safe for concurrent use.
type Queue[T any] struct {
	mu     sync.Mutex
	ring   []T // guarded by mu
	head   int // guarded by mu; index of the oldest
	n      int // guarded by mu
	closed bool
	wake   chan struct{}
}

// NewQueue returns a queue for at most capacity elements. A capacity below 1 panics: it is our own mistake.
func NewQueue[T any](capacity int) *Queue[T] {
	if capacity < 1 {
		panic("rtpstream: queue without capacity")
	}
	return &Queue[T]{ring: make([]T, capacity), wake: make(chan struct{}, 1)}
}

// Push appends v. When the queue was full, the oldest element is returned with evicted = true. After Close v itself
// comes back evicted.
func (q *Queue[T]) Push(v T) (old T, evicted bool) {
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return v, true
	}
	if q.n == len(q.ring) {
		old, evicted = q.ring[q.head], true
		q.ring[q.head] = v
		q.head = (q.head + 1) % len(q.ring)
	} else {
		q.ring[(q.head+q.n)%len(q.ring)] = v
		q.n++
	}
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
	return old, evicted
}

// Pop takes the oldest element.
func (q *Queue[T]) Pop() (v T, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.n == 0 {
		return v, false
	}
	var zero T
	v = q.ring[q.head]
	q.ring[q.head] = zero
	q.head = (q.head + 1) % len(q.ring)
	q.n--
	return v, true
}

// Wake is signalled after a Push or Close. One signal may stand for several pushes: pop until empty.
func (q *Queue[T]) Wake() <-chan struct{} { return q.wake }

// Len is the number of queued elements.
func (q *Queue[T]) Len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.n
}

// Closed reports whether Close was called. Elements pushed before it can still be popped.
func (q *Queue[T]) Closed() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.closed
}

// Close refuses further pushes and wakes the reader. It is idempotent.
func (q *Queue[T]) Close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}
