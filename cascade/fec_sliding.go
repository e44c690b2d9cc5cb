package cascade

import (
	"slices"
	"time"
)

// Limits of parity over a sliding window. A packet has all the parity of a window after it.
const (
	slideSlots     = 256
	slideGoal      = 7e-6 // of the ladder, which is for blocks: a window leaves a third of it, and a few packets at a time
	slideGoalShort = 2e-4
	slideAge       = 52 * time.Millisecond
	slideBurstAge  = 47 * time.Millisecond // what is left is asked for afterwards
	slideSlack     = 3 * time.Millisecond  // that a symbol waits for a packet to leave with, before a timer sends it
	slideStride    = 0.382
	slideLate      = 2 * time.Millisecond // that symbols leave unevenly: so much longer a packet stays in the window
	slideBucket    = 1.5                  // windows whose bytes of parity may be saved up
)

// slidingEncoder makes parity symbols each of which covers all packets of the last 54 ms (49 in bursts). They leave evenly, one every few
// milliseconds, so each packet is covered by as many as a block of its own would have. It has no lock and no clock.
//
//	packets  p p p p p p p p p p p p p p p p
//	symbols  └───── window ────┘r
//	                 └───── window ────┘r
//	                         └───── window ────┘r
//
// Their lengths are those of a graded block's symbols, in an order that spreads each length evenly.
type slidingEncoder struct {
	ladder *fecLadder // what the path calls for; nil is no parity

	first, next uint64 // link sequence numbers of the window's packets: first to next − 1
	slots       [slideSlots]slideSlot
	sum         []byte // of the symbol made last

	planned  int // packets in the window when the sizes were
	count    int // symbols a window
	sizes    [fecMaxParity]int
	lens     [fecMaxPackets]uint16
	turn     int // symbols so far
	index    uint8
	due, gap time.Duration
	credit   float64 // bytes of parity earned and not yet spent
	thrift   float64 // share of these that is to be saved
}

type slideSlot struct {
	at     time.Duration
	symbol []byte
}

// wanted reports whether packets are to be added.
func (e *slidingEncoder) wanted() bool { return e.ladder != nil }

// follow sets what is wanted from now on.
func (e *slidingEncoder) follow(ladder *fecLadder) {
	if e.ladder = ladder; ladder == nil {
		e.first, e.planned, e.credit = e.next, 0, 0
	}
}

// packets is how many the window has.
func (e *slidingEncoder) packets() int { return int(e.next - e.first) }

// add takes a packet into the window. Packets come in the order of their link sequence numbers.
func (e *slidingEncoder) add(seq uint64, h *mediaHeader, rtp []byte, now time.Duration) {
	if seq != e.next {
		e.first, e.next = seq, seq
	}
	e.next = seq + 1
	s := &e.slots[seq%slideSlots]
	s.at, s.symbol = now, appendSymbol(s.symbol[:0], h, rtp)
	if len(s.symbol) > fecSymbolMax { // never: no lane takes a datagram this long
		e.first = e.next
		return
	}
	e.credit += e.share() * float64(len(s.symbol))
	if e.packets() > fecMaxPackets {
		e.first++
	}
	switch {
	case e.planned == 0:
		e.plan(now)
		e.due = now + e.gap
	case e.packets() > e.planned+e.planned/4:
		last := e.due - e.gap
		e.plan(now)
		e.due = last + e.gap
	}
}

// share is how many bytes of parity a byte of media may cost now.
func (e *slidingEncoder) share() float64 { return (1 - e.thrift) * e.ladder.plan.share() }

// slide leaves out packets that are too old.
func (e *slidingEncoder) slide(now time.Duration) {
	age := e.ladder.plan.window() + slideLate
	for e.first < e.next && now-e.slots[e.first%slideSlots].at > age {
		e.first++
	}
}

// plan decides how many symbols a window like this one has, of which sizes, and how far they are apart.
func (e *slidingEncoder) plan(now time.Duration) {
	e.slide(now)
	n := e.packets()
	if e.planned = n; n == 0 {
		e.count = 0
		return
	}
	lens, bytes := e.lens[:n], 0
	for i := range lens {
		lens[i] = uint16(len(e.slots[(e.first+uint64(i))%slideSlots].symbol))
		bytes += int(lens[i])
	}
	slices.Sort(lens)
	slices.Reverse(lens)
	budget := e.share() * float64(bytes)
	for r := rungOf(slideGoal); r < ladderRungs; r++ {
		cost := 0.0
		for e.count = 0; e.count < fecMaxParity; e.count++ {
			worth := int(e.ladder.worth[r][e.count])
			if worth > n {
				break
			}
			e.sizes[e.count] = int(lens[worth-1])
			cost += float64(e.sizes[e.count] + symbolCost)
		}
		if cost <= budget {
			break
		}
	}
	if e.count == 0 { // as often as the bytes allow
		e.sizes[0], e.count = int(lens[0]), 1
	}
	if i, short := slices.BinarySearchFunc(lens, fecShort, func(l uint16, t int) int { return t - int(l) }); i < n || short {
		for s := rungOf(slideGoalShort); e.count < fecMaxParity && int(e.ladder.worth[s][e.count]) <= n; e.count++ {
			e.sizes[e.count] = int(lens[i])
		}
	}
	e.credit = min(e.credit, max(slideBucket*budget, 2*fecSymbolMax))
	window := e.ladder.plan.window()
	if n == fecMaxPackets { // full by number
		window = max(now-e.slots[e.first%slideSlots].at, time.Millisecond)
	}
	e.gap = window / time.Duration(e.count)
}

// symbol makes the one that is due and returns its header and its bytes, which are valid until the next call; ok is
// false when there is none.
func (e *slidingEncoder) symbol(now time.Duration) (h parityHeader, symbol []byte, ok bool) {
	if e.planned == 0 || now < e.due {
		return h, nil, false
	}
	e.plan(now)
	if e.planned == 0 {
		return h, nil, false
	}
	e.due = max(e.due+e.gap, now-e.gap)
	e.turn++
	size := e.sizes[e.turn*stride(e.count)%e.count]
	cost := float64(size + symbolCost)
	if cost > e.credit {
		return h, nil, false
	}
	e.credit -= cost
	h = parityHeader{
		Base: uint32(e.first), Packets: e.packets(), Index: int(e.index), Sliding: true, Span: e.ladder.plan.window() + slideLate,
	}
	e.index++
	if e.sum == nil {
		e.sum = make([]byte, fecSymbolMax)
	}
	e.sum = e.sum[:size]
	clear(e.sum)
	for seq := e.first; seq < e.next; seq++ {
		s := e.slots[seq%slideSlots].symbol
		n := min(len(s), size)
		galois.GalMulSliceXor(slideCoefficient(h.Index, uint32(seq)), s[:n], e.sum[:n])
	}
	return h, e.sum, true
}

// stride is a step through all of so many places that soon has been everywhere.
func stride(n int) int {
	s := max(1, int(slideStride*float64(n)+0.5))
	for a, b := n, s; ; {
		if b == 0 {
			if a == 1 {
				return s
			}
			s++
			a, b = n, s
			continue
		}
		a, b = b, a%b
	}
}

// timer is when a symbol has to leave though no packet does, or never.
func (e *slidingEncoder) timer() time.Duration {
	if e.planned == 0 {
		return never
	}
	return e.due + min(e.gap/2, slideSlack)
}

// slideCoefficient is what a packet is multiplied with in the symbol of an index: as in a graded block where it stands at
// the place of its number in a round of 192.
func slideCoefficient(index int, seq uint32) byte {
	return gradedCode.coefficient(index%fecMaxParity, int(seq%fecMaxPackets))
}
