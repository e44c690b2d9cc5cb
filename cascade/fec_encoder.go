package cascade

import "time"

// fecEncoder makes the parity symbols of one block after the other while packets leave. A block ends by number or by
// age. It has no lock and no clock.
//
//	packets   │p p p p p p … p│p p p p …
//	block     └─ 42 ms, ≤128 ─┘└────
//	parity                     r r r r     between the packets of the next block, within 9 ms
type fecEncoder struct {
	base    uint64 // first link sequence number of the open block
	n       int    // packets in it
	parity  int    // symbols being summed up
	bytes   int    // of the packets' symbols
	longest int
	since   time.Duration
	usual   int     // packets of the last full block
	credit  float64 // bytes of parity earned and not yet spent
	plan    fecPlan
	rows    [fecMaxParity][]byte
	symbol  []byte
}

// add takes a packet into the open block, or a new one. Packets come in the order of their link sequence numbers.
func (e *fecEncoder) add(seq uint64, h *mediaHeader, rtp []byte, plan fecPlan, now time.Duration) {
	if e.n == 0 {
		if !plan.on() || symbolBytes(h, len(rtp)) > fecSymbolMax {
			return
		}
		e.open(seq, plan, now)
	}
	e.symbol = appendSymbol(e.symbol[:0], h, rtp)
	n := len(e.symbol)
	if n > fecSymbolMax { // never: no lane takes a datagram this long
		return
	}
	for r := range e.parity {
		galois.GalMulSliceXor(fecCoefficient(r, e.n), e.symbol, e.rows[r][:n])
	}
	e.n++
	e.bytes += n
	e.longest = max(e.longest, n)
}

func (e *fecEncoder) open(seq uint64, plan fecPlan, now time.Duration) {
	e.base, e.bytes, e.longest, e.since, e.plan = seq, 0, 0, now, plan
	e.parity = plan.parity(max(e.usual, 8))
	for r := range e.parity {
		if e.rows[r] == nil {
			e.rows[r] = make([]byte, fecSymbolMax)
		}
		clear(e.rows[r])
	}
}

// full reports whether the open block ends now.
func (e *fecEncoder) full(now time.Duration) bool {
	return e.n == fecMaxPackets || (e.n > 0 && now-e.since >= fecBlockAge)
}

// due is when the open block ends by age, or never.
func (e *fecEncoder) due() time.Duration {
	if e.n == 0 {
		return never
	}
	return e.since + fecBlockAge
}

// finish ends the open block and returns the header and number of the symbols to send; the symbols are rows[i][:size]
// until the next packet is added.
func (e *fecEncoder) finish() (h parityHeader, size int) {
	e.credit += e.plan.share() * float64(e.bytes)
	count := min(e.parity, e.plan.parity(e.n), int(e.credit/float64(e.longest)))
	e.credit = min(e.credit-float64(count*e.longest), float64(e.longest))
	h = parityHeader{Base: uint32(e.base), Packets: e.n, Parity: count}
	size = e.longest
	e.usual = e.n
	e.n = 0
	return h, size
}
