package meshnet

const (
	maxBatch      = 64        // packets of a batch
	maxBatchBytes = 65_000    // of a batch: one message of segments may not exceed a UDP datagram
	batchRoom     = 64 << 10  // capacity of a batch's buffer
	maxDirect     = 1500 - 48 // largest direct packet, bytes of UDP payload on IPv6 over Ethernet
)

// run is a part of a batch that may leave as one message of segments (UDP GSO): packets of one size, the last may be
// shorter.
type run struct {
	start, end int // in the batch's buffer
	size       int // of each packet but the last, bytes
	closed     bool
}

func (r run) packets() int { return (r.end - r.start + r.size - 1) / r.size }

// batch gathers sealed packets back to back. Its buffer is made at first use.
type batch struct {
	buf  []byte
	runs []run
	n    int // packets
}

// fits reports whether a packet of size bytes may still join.
func (b *batch) fits(size int) bool { return b.n < maxBatch && len(b.buf)+size <= maxBatchBytes }

func (b *batch) room() {
	if b.buf == nil {
		b.buf = make([]byte, 0, batchRoom)
		b.runs = make([]run, 0, maxBatch)
	}
}

// grew takes note of a packet of size bytes appended to buf.
func (b *batch) grew(size int) {
	b.n++
	end := len(b.buf)
	if len(b.runs) > 0 {
		if r := &b.runs[len(b.runs)-1]; !r.closed && size <= r.size {
			r.end, r.closed = end, size < r.size
			return
		}
	}
	b.runs = append(b.runs, run{start: end - size, end: end, size: size})
}

func (b *batch) reset() {
	b.buf, b.runs, b.n = b.buf[:0], b.runs[:0], 0
}
