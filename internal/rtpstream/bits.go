package rtpstream

import "math/bits"

// bitReader reads bits, the most significant first. After the end it reads zeros and says so.
type bitReader struct {
	b    []byte
	at   int // bits read
	past bool
}

// take reads n bits, 32 at most.
func (r *bitReader) take(n int) (v uint32) {
	for n > 0 {
		i := r.at >> 3
		if i >= len(r.b) {
			r.past = true
			return 0
		}
		have := 8 - r.at&7
		use := min(have, n)
		part := r.b[i] >> (have - use) & (1<<use - 1)
		v = v<<use | uint32(part)
		r.at += use
		n -= use
	}
	return v
}

func (r *bitReader) flag() bool { return r.take(1) != 0 }

// below reads a number below n, which is 1 at least (ns(n), AV1 bitstream §4.10.7).
func (r *bitReader) below(n uint32) uint32 {
	w := bits.Len32(n)
	m := uint32(1)<<w - n
	v := r.take(w - 1)
	if v < m {
		return v
	}
	return v<<1 - m + r.take(1)
}
