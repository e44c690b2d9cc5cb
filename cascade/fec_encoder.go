package cascade

import (
	"math"
	"slices"
	"time"
)

// Limits of what an encoder does beforehand.
const (
	fecShort      = 192 // bytes: symbols beyond those for whole packets protect no more, which is audio
	symbolCost    = 32  // bytes a parity symbol takes on the wire beside itself
	fecCarry      = 0.5 // of a block's budget that may be left to the next one
	fecGoal       = 2e-5
	fecGoalShort  = 2e-4 // of short packets, where the budget leaves more of the long ones
	fecFirstGuess = 128  // packets of a block before there was one
)

// fecEncoder makes the parity symbols of one block after the other while packets leave. A block ends by number or by
// age. It has no lock and no clock.
//
//	packets   │p p p p p p … p│p p p p …
//	block     └─ 41…50 ms ────┘└────
//	parity                     r r r r     between the packets of the next block, within 3…8 ms
//
// Symbols are long where many packets are (fecLadder says how many symbols which number of packets needs):
//
//	packets, longest first  ██████████   symbols  ██████████
//	                        █████████             ████████
//	                        ████████              ████████
//	                        ████████              ██
//	                        ██                    ██
//	                        █                     █
type fecEncoder struct {
	ladder *fecLadder // what the path calls for; nil is no parity
	code   fecCode

	base  uint64 // first link sequence number of the open block
	n     int    // packets in it
	rungs *fecLadder
	bytes int // of the packets' symbols
	short int // bytes of the longest that is short
	since time.Duration
	whole int // symbols being summed up in all their length
	all   int // … and of their first bytes
	lens  [fecMaxPackets]uint16
	rows  [fecMaxParity][]byte

	thrift float64 // share of the bytes of parity that is to be saved
	usual  int     // packets of the last full block
	used   int     // whole symbols sent for it
	credit float64 // bytes of parity earned and not yet spent
	sizes  [fecMaxParity]int
	symbol []byte
}

// follow sets what is wanted from the next block on.
func (e *fecEncoder) follow(ladder *fecLadder, code fecCode) { e.ladder, e.code = ladder, code }

// wanted reports whether packets are to be added.
func (e *fecEncoder) wanted() bool { return e.ladder != nil || e.n > 0 }

// add takes a packet into the open block, or a new one. Packets come in the order of their link sequence numbers.
func (e *fecEncoder) add(seq uint64, h *mediaHeader, rtp []byte, now time.Duration) {
	if e.n == 0 {
		if e.ladder == nil || symbolBytes(h, len(rtp)) > fecSymbolMax {
			return
		}
		e.open(seq, now)
	}
	e.symbol = appendSymbol(e.symbol[:0], h, rtp)
	n := len(e.symbol)
	if n > fecSymbolMax { // never: no lane takes a datagram this long
		return
	}
	for r := range e.whole {
		galois.GalMulSliceXor(e.code.coefficient(r, e.n), e.symbol, e.rows[r][:n])
	}
	first := e.symbol[:min(n, fecShort)]
	for r := e.whole; r < e.all; r++ {
		galois.GalMulSliceXor(e.code.coefficient(r, e.n), first, e.rows[r][:len(first)])
	}
	e.lens[e.n] = uint16(n)
	e.n++
	e.bytes += n
	if n <= fecShort {
		e.short = max(e.short, n)
	}
}

func (e *fecEncoder) open(seq uint64, now time.Duration) {
	if e.rungs != e.ladder {
		e.rungs, e.used = e.ladder, 0
	}
	e.base, e.bytes, e.short, e.since = seq, 0, 0, now
	expect := e.usual + e.usual/4
	if e.usual == 0 {
		expect = fecFirstGuess
	}
	e.whole = e.guess(expect)
	e.all = e.whole
	if e.code.graded {
		e.all = max(e.whole, e.rungs.symbols(rungOf(fecGoalShort), expect))
	}
	for r := range e.all {
		if e.rows[r] == nil {
			e.rows[r] = make([]byte, fecSymbolMax)
		}
		clear(e.rows[r])
	}
}

// guess is how many whole symbols a block of so many packets may want.
func (e *fecEncoder) guess(packets int) int {
	most := int(math.Ceil(1.6*e.rungs.plan.share()*float64(packets))) + 2
	if e.used > 0 {
		most = min(most, e.used+e.used/3+2)
	}
	return min(most, max(1, e.rungs.symbols(rungOf(fecGoal), packets)), e.code.parity)
}

// full reports whether the open block ends now.
func (e *fecEncoder) full(now time.Duration) bool {
	return e.n > 0 && (e.n == e.code.packets || now-e.since >= e.rungs.plan.age())
}

// due is when the open block ends by age, or never.
func (e *fecEncoder) due() time.Duration {
	if e.n == 0 {
		return never
	}
	return e.since + e.rungs.plan.age()
}

// finish ends the open block and returns the header of the symbols to send; symbol i is rows[i][:sizes[i]] until the
// next packet is added.
func (e *fecEncoder) finish() parityHeader {
	lens := e.lens[:e.n]
	slices.SortFunc(lens, func(a, b uint16) int { return int(b) - int(a) })
	earned := (1 - e.thrift) * e.rungs.plan.share() * float64(e.bytes)
	e.credit = min(e.credit, fecCarry*earned) + earned
	count, cost := e.grade(lens)
	e.credit -= cost
	h := parityHeader{Base: uint32(e.base), Packets: e.n, Parity: count, Graded: e.code.graded}
	e.usual, e.n = e.n, 0
	return h
}

// grade decides on the sizes of the symbols: the lowest rung that the credit pays for.
func (e *fecEncoder) grade(lens []uint16) (count int, cost float64) {
	for r := rungOf(fecGoal); r < ladderRungs; r++ {
		count, cost = e.measure(r, lens)
		if cost <= e.credit {
			break
		}
		count, cost = 0, 0
	}
	e.used = count
	if !e.code.graded || e.short == 0 || count == 0 {
		return count, cost
	}
	for s := rungOf(fecGoalShort); count < e.all && int(e.rungs.worth[s][count]) <= len(lens); count++ {
		e.sizes[count] = e.short
		cost += float64(e.short + symbolCost)
	}
	return count, cost
}

// measure sets sizes to what a rung wants, and returns how many bytes that takes.
func (e *fecEncoder) measure(rung int, lens []uint16) (count int, cost float64) {
	for count = 0; count < e.whole; count++ {
		worth := int(e.rungs.worth[rung][count])
		if worth > len(lens) {
			break
		}
		if !e.code.graded {
			worth = 1
		}
		e.sizes[count] = int(lens[worth-1])
		cost += float64(e.sizes[count] + symbolCost)
	}
	return count, cost
}
