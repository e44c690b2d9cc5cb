package load

import (
	"math/bits"
	"slices"
	"time"
)

// histogram counts durations in buckets about 3 % wide, from a microsecond to an hour. The zero value is empty.
type histogram struct {
	counts [histogramBuckets]uint32
	n      uint64
}

// A bucket is the power of two of the microseconds, and the five bits below its highest one.
const (
	histogramBits    = 5
	histogramBuckets = (32 - histogramBits + 1) << histogramBits
)

func (h *histogram) add(d time.Duration) {
	h.counts[bucketOf(d)]++
	h.n++
}

func bucketOf(d time.Duration) int {
	us := uint64(max(d.Microseconds(), 0))
	if us < 1<<histogramBits {
		return int(us)
	}
	us = min(us, 1<<32-1)
	shift := bits.Len64(us) - histogramBits - 1
	return (shift+1)<<histogramBits + int(us>>shift) - 1<<histogramBits
}

// bucketTop is the smallest duration above a bucket.
func bucketTop(i int) time.Duration {
	if i < 1<<histogramBits {
		return time.Duration(i+1) * time.Microsecond
	}
	shift := i>>histogramBits - 1
	low := uint64(1<<histogramBits+i&(1<<histogramBits-1)) << shift
	return time.Duration(low+1<<shift) * time.Microsecond
}

func (h *histogram) merge(o *histogram) {
	for i, c := range o.counts {
		h.counts[i] += c
	}
	h.n += o.n
}

// quantile returns an upper bound of the q-quantile, 0 when nothing was counted.
func (h *histogram) quantile(q float64) time.Duration {
	if h.n == 0 {
		return 0
	}
	rank := uint64(q * float64(h.n-1))
	var seen uint64
	for i, c := range h.counts {
		seen += uint64(c)
		if c > 0 && seen > rank {
			return bucketTop(i)
		}
	}
	return 0
}

// quantile returns the q-quantile of few values, which it sorts; 0 of none.
func quantile(values []time.Duration, q float64) time.Duration {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	return values[int(q*float64(len(values)-1)+0.5)]
}
