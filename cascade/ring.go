package cascade

// ring is a FIFO of fixed capacity without a lock of its own.
type ring[T any] struct {
	slots   []T
	head, n int
}

func newRing[T any](capacity int) ring[T] { return ring[T]{slots: make([]T, capacity)} }

func (r *ring[T]) full() bool { return r.n == len(r.slots) }

// push appends v. The caller has seen to it that there is room.
func (r *ring[T]) push(v T) {
	if r.full() {
		panic("cascade: push to a full ring")
	}
	at := r.head + r.n
	if at >= len(r.slots) {
		at -= len(r.slots)
	}
	r.slots[at] = v
	r.n++
}

// peek returns the oldest element in place. The caller knows that there is one.
func (r *ring[T]) peek() *T { return &r.slots[r.head] }

func (r *ring[T]) pop() T {
	var zero T
	v := r.slots[r.head]
	r.slots[r.head] = zero
	if r.head++; r.head == len(r.slots) {
		r.head = 0
	}
	r.n--
	return v
}
