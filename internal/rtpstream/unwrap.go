package rtpstream

// Unwrapper extends a wrapping counter (sequence number or timestamp) to 64 bits, choosing the value nearest to the
// last one (RFC 3550 appendix A.1 generalised). The zero value is ready. Extended values start one cycle up, so that a
// packet reordered before the first one does not underflow.
type Unwrapper[T uint16 | uint32] struct {
	started bool
	last    uint64
}

// Unwrap returns the extended value of v.
func (u *Unwrapper[T]) Unwrap(v T) uint64 {
	if !u.started {
		u.started = true
		u.last = uint64(^T(0)) + 1 + uint64(v)
		return u.last
	}
	forward := v - T(u.last) // modulo the counter's width
	half := ^T(0)>>1 + 1
	if forward < half {
		u.last += uint64(forward)
		return u.last
	}
	back := uint64(T(u.last) - v)
	if back > u.last {
		return uint64(v)
	}
	return u.last - back
}

// Peek returns the extended value of v without moving the reference point.
func (u *Unwrapper[T]) Peek(v T) uint64 {
	c := *u
	return c.Unwrap(v)
}
