package testnet

import "time"

// Timeline keeps values until they are due: a heap ordered by due time, then by order of entry. It allocates only
// when it grows. The zero value is empty and ready. Not safe for concurrent use.
type Timeline[T any] struct {
	base  time.Time // of the first Push; due times count from here, on the monotonic clock where there is one
	heap  []moment[T]
	order uint64
}

type moment[T any] struct {
	due   time.Duration
	order uint64
	value T
}

func (m *moment[T]) before(o *moment[T]) bool {
	return m.due < o.due || m.due == o.due && m.order < o.order
}

// Len returns the number of values.
func (t *Timeline[T]) Len() int { return len(t.heap) }

// Next returns the earliest due time. It reports false when there is none.
func (t *Timeline[T]) Next() (time.Time, bool) {
	if len(t.heap) == 0 {
		return time.Time{}, false
	}
	return t.base.Add(t.heap[0].due), true
}

// Push adds v. It reports whether v is now the first.
func (t *Timeline[T]) Push(due time.Time, v T) bool {
	if t.base.IsZero() {
		t.base = due
	}
	t.order++
	m := moment[T]{due.Sub(t.base), t.order, v}
	t.heap = append(t.heap, m)
	i := len(t.heap) - 1
	for i > 0 {
		parent := (i - 1) / 2
		if !m.before(&t.heap[parent]) {
			break
		}
		t.heap[i] = t.heap[parent]
		i = parent
	}
	t.heap[i] = m
	return i == 0
}

// PopDue takes the first value out if it is due by now.
func (t *Timeline[T]) PopDue(now time.Time) (v T, ok bool) {
	if len(t.heap) == 0 || t.heap[0].due > now.Sub(t.base) {
		return v, false
	}
	v = t.heap[0].value
	n := len(t.heap) - 1
	last := t.heap[n]
	t.heap[n] = moment[T]{}
	t.heap = t.heap[:n]
	if n == 0 {
		return v, true
	}
	i := 0
	for {
		child := 2*i + 1
		if child >= n {
			break
		}
		if child+1 < n && t.heap[child+1].before(&t.heap[child]) {
			child++
		}
		if !t.heap[child].before(&last) {
			break
		}
		t.heap[i] = t.heap[child]
		i = child
	}
	t.heap[i] = last
	return v, true
}
