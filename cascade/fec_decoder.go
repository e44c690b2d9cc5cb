package cascade

import (
	"math"
	"slices"
	"time"

	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

// Limits of what the receiver keeps to make up for lost packets.
const (
	fecSlots  = 4096                   // packets
	fecBlocks = 32                     // with parity symbols
	fecIdle   = 500 * time.Millisecond // without parity, after which nothing is kept
	fecGrace  = 2 * time.Millisecond   // that a symbol may be later than the one before it told
)

// More is asked for of a block than is wanting: some of it may be lost again.
const (
	fecSpare  = 1   // packets
	fecSpares = 4   // … and one more for so many
	fecDoubt  = 2.0 // standard deviations, were each lost by itself, by which missing packets may be longer than the others
)

// fecDecoder keeps what came in while the peer sends parity, and makes lost packets anew. It has no lock and no clock.
type fecDecoder struct {
	pool   *rtpstream.Pool
	stats  *counters
	last   time.Duration // latest parity, 0 when there is none
	slots  []fecSlot     // by link sequence number; nil until there is parity
	blocks [fecBlocks]fecBlock
	turn   int // block to be taken next
	slide  equations
	effort allowance // rows turned over

	inverse  fecMatrix
	missing  []int
	rows     []int                // indices of the symbols used, the longest first
	work     [fecMaxParity][]byte // these symbols without what the packets that are here add to them
	sums     [fecMaxParity][]byte // symbols of the missing packets
	symbol   []byte
	restored []inbound
}

// fecSlot owns a reference to its packet, whose buffer begins with the RTP bytes of the frame.
type fecSlot struct {
	seq  uint64
	h    mediaHeader
	pkt  *rtpstream.Packet
	size int
}

type fecBlock struct {
	base    uint64
	packets int // 0: not in use
	parity  int
	code    fecCode
	got     int
	passed  int  // symbols that have come or been overtaken: they leave in the order of their indices
	settled bool // no symbol will come any more, and what is wanting was asked for
	spares  int  // packets asked for in case others of them are lost again
	done    bool
	over    time.Duration           // when the last symbol has come, if it comes
	symbols [fecMaxParity]fecSymbol // the longest first
	lengths [fecMaxPackets]uint16   // of missing packets' symbols, as far as the first bytes of all tell; else 0
}

// fecSymbol owns a reference to its packet: the symbol is the first size bytes of its buffer.
type fecSymbol struct {
	index, size int
	pkt         *rtpstream.Packet
}

// active reports whether the peer sends parity: what is missing may then come by itself.
func (d *fecDecoder) active(now time.Duration) bool { return d.last != 0 && now-d.last < fecIdle }

// busy reports whether a packet may make others known.
func (d *fecDecoder) busy() bool { return d.slots != nil }

// put keeps a frame that came in.
func (d *fecDecoder) put(seq uint64, in *inbound, now time.Duration) {
	if !d.active(now) {
		return
	}
	s := &d.slots[seq%fecSlots]
	if s.pkt != nil {
		s.pkt.Release()
	}
	*s = fecSlot{seq: seq, h: in.h, pkt: in.pkt.Retain(), size: in.size}
}

// take keeps a parity symbol; base is the unwrapped number of its block's first packet.
func (d *fecDecoder) take(base uint64, h *parityHeader, pkt *rtpstream.Packet, size int, now time.Duration) *fecBlock {
	if d.slots == nil {
		d.slots = make([]fecSlot, fecSlots)
	}
	d.last = now
	b := d.block(base)
	if b == nil {
		b = &d.blocks[d.turn]
		d.turn = (d.turn + 1) % fecBlocks
		b.clear()
		b.base, b.packets, b.parity, b.code = base, h.Packets, h.Parity, h.code()
	}
	if b.done || b.packets != h.Packets || b.parity != h.Parity || b.code.graded != h.Graded || b.got == b.parity {
		return nil
	}
	for i := range b.got {
		if b.symbols[i].index == h.Index {
			return nil
		}
	}
	at := b.got
	for ; at > 0 && b.symbols[at-1].size < size; at-- {
		b.symbols[at] = b.symbols[at-1]
	}
	b.symbols[at] = fecSymbol{index: h.Index, size: size, pkt: pkt.Retain()}
	b.got++
	if h.Index+1 > b.passed {
		b.passed = h.Index + 1
		b.over = now + fecBurstSpread*time.Duration(b.parity-b.passed)/time.Duration(b.parity) + fecGrace
	}
	return b
}

func (d *fecDecoder) block(base uint64) *fecBlock {
	for i := range d.blocks {
		if b := &d.blocks[i]; b.packets > 0 && b.base == base {
			return b
		}
	}
	return nil
}

// of returns the unfinished block a packet belongs to, or nil.
func (d *fecDecoder) of(seq uint64) *fecBlock {
	for i := range d.blocks {
		if b := &d.blocks[i]; !b.done && seq >= b.base && seq-b.base < uint64(b.packets) {
			return b
		}
	}
	return nil
}

func (d *fecDecoder) has(seq uint64) bool {
	s := &d.slots[seq%fecSlots]
	return s.seq == seq && s.pkt != nil
}

// restore makes the lost packets of a block for which there are symbols enough, each with a reference for the caller.
// The result is valid until the next call. What makes no sense is left out and counted.
func (d *fecDecoder) restore(b *fecBlock, now time.Duration) []inbound {
	d.missing, d.restored = d.missing[:0], d.restored[:0]
	for c := range b.packets {
		if d.has(b.base + uint64(c)) {
			continue
		}
		if len(d.missing) == b.got {
			return nil
		}
		d.missing = append(d.missing, c)
	}
	if len(d.missing) == 0 || d.solve(b, now) {
		d.finish(b)
	}
	return d.restored
}

// solve makes the missing packets anew, from their first bytes on: where symbols end there may be too few for all of
// them, but then some have ended themselves. It reports whether it made them all.
func (d *fecDecoder) solve(b *fecBlock, now time.Duration) bool {
	d.reduce(b)
	d.effort.spend(len(d.missing) * b.packets)
	for from := 0; len(d.missing) > 0; {
		m := len(d.missing)
		to := b.symbols[m-1].size
		if to <= from { // no symbol reaches further
			break
		}
		d.inverse.invert(b.code, d.rows[:m], d.missing)
		d.effort.spend(3 * m * m) // two matrices, and the sums
		for i := range m {
			sum := d.sums[i][from:to]
			clear(sum)
			for j := range m {
				galois.GalMulSliceXor(d.inverse[i][j], d.work[j][from:to], sum)
			}
		}
		d.complete(b, to, now)
		from = to
	}
	return len(d.missing) == 0
}

// reduce puts as many symbols as packets are missing into work, and takes out of them what the other packets added.
func (d *fecDecoder) reduce(b *fecBlock) {
	d.rows = d.rows[:0]
	for i := range d.missing {
		s := &b.symbols[i]
		d.rows = append(d.rows, s.index)
		d.work[i] = append(d.work[i][:0], s.pkt.Buffer()[:s.size]...)
		if d.sums[i] == nil {
			d.sums[i] = make([]byte, fecSymbolMax)
		}
	}
	for c := range b.packets {
		slot := &d.slots[(b.base+uint64(c))%fecSlots]
		if slot.seq != b.base+uint64(c) || slot.pkt == nil {
			continue
		}
		d.symbol = appendSymbol(d.symbol[:0], &slot.h, slot.pkt.Buffer()[:slot.size])
		for i, r := range d.rows {
			n := min(len(d.symbol), len(d.work[i]))
			galois.GalMulSliceXor(b.code.coefficient(r, c), d.symbol[:n], d.work[i][:n])
		}
	}
}

// complete revives the packets whose symbols end within the first known bytes, and leaves the others missing.
func (d *fecDecoder) complete(b *fecBlock, known int, now time.Duration) {
	left := 0
	for i, c := range d.missing {
		n, ok := symbolLength(d.sums[i][:known])
		if !ok || n > known && b.code.graded {
			b.lengths[c] = uint16(min(n, fecSymbolMax))
			d.missing[left] = c
			d.sums[left], d.sums[i] = d.sums[i], d.sums[left]
			left++
			continue
		}
		d.revive(d.sums[i][:known], b.base+uint64(c), now)
	}
	d.missing = d.missing[:left]
}

// hopeless has a tracker ask for what no parity will make up for: of blocks that miss more than symbols have come and
// may come, of those whose last symbol has come or is overdue, and of those before the block from base on. It reports
// whether there was any.
func (d *fecDecoder) hopeless(t *tracker, base uint64, now time.Duration) (news bool) {
	for i := range d.blocks {
		b := &d.blocks[i]
		if b.packets == 0 || b.done || b.settled {
			continue
		}
		if b.base < base || now >= b.over {
			b.passed = b.parity
		}
		missing := d.missed(b)
		b.settled = b.passed == b.parity
		if !b.settled && len(missing) <= b.got+b.parity-b.passed {
			continue
		}
		hardest(b, missing)
		ask := d.wanting(b, t, missing)
		news = news || ask > 0
		for _, c := range missing {
			if t.hopeless(b.base+uint64(c), ask > 0) {
				ask--
			}
		}
	}
	return news
}

// overdue is when a block has to be looked at again though nothing comes, or never.
func (d *fecDecoder) overdue() time.Duration {
	due := never
	for i := range d.blocks {
		if b := &d.blocks[i]; b.packets > 0 && !b.done && !b.settled {
			due = min(due, b.over)
		}
	}
	return due
}

// missed returns the places of a block's missing packets.
func (d *fecDecoder) missed(b *fecBlock) []int {
	d.missing = d.missing[:0]
	for c := range b.packets {
		if !d.has(b.base + uint64(c)) {
			d.missing = append(d.missing, c)
		}
	}
	return d.missing
}

// hardest puts those missing packets first that are the hardest to make up for: the longest, and of these the oldest.
// What is not known to be short may be long.
func hardest(b *fecBlock, missing []int) {
	slices.SortStableFunc(missing, func(x, y int) int { return int(b.lengths[y]-1) - int(b.lengths[x]-1) })
}

// wanting is how many more of the missing packets of a block, the first of them, have to be asked for, so that its
// parity makes up for the rest: at no length may more packets be missing than there are symbols. Where the symbols are
// not enough for the first bytes of all, which tell how long they are, nearly the most are taken to be that long that may
// be, by the others of the block.
func (d *fecDecoder) wanting(b *fecBlock, t *tracker, missing []int) int {
	want, asked := 0, 0
	coming := (b.parity - b.passed) * 9 / 10 // nearly as good as here
	for i := range b.got + 1 {
		size := 0
		if i < b.got {
			size = b.symbols[i].size
		}
		longer, unknown := b.spares, 0
		asked = 0
		for _, c := range missing {
			n := int(b.lengths[c])
			switch {
			case t.asks(b.base + uint64(c)):
				asked++
			case n == 0:
				unknown++
			case n > size:
				longer++
			}
		}
		if unknown > 0 {
			share := d.longer(b, size)
			n := float64(unknown)
			longer += int(math.Ceil(min(n, n*share+fecDoubt*math.Sqrt(n*share*(1-share)))))
		}
		want = max(want, longer-i-coming)
	}
	if want == 0 {
		return 0
	}
	spares := fecSpare + (asked+want)/fecSpares
	want += spares - b.spares
	b.spares = spares
	return min(len(missing)-asked, want)
}

// longer is the share of a block's packets that are here and longer than size.
func (d *fecDecoder) longer(b *fecBlock, size int) float64 {
	here, longer := 0, 0
	for c := range b.packets {
		if s := &d.slots[(b.base+uint64(c))%fecSlots]; s.seq == b.base+uint64(c) && s.pkt != nil {
			here++
			if symbolBytes(&s.h, s.size) > size {
				longer++
			}
		}
	}
	if size == 0 || here == 0 {
		return 1
	}
	return float64(longer) / float64(here)
}

// revive makes a frame of a symbol.
func (d *fecDecoder) revive(symbol []byte, seq uint64, now time.Duration) {
	d.symbol = d.symbol[:0]
	f, err := parseSymbol(symbol, uint32(seq), d.symbol)
	if err != nil {
		d.stats.drop(dropGarbage)
		return
	}
	d.symbol = f.body
	in, err := parseInbound(f, d.pool, now)
	if err != nil {
		d.stats.drop(dropGarbage)
		return
	}
	in.h.Retransmission, in.restored = true, true
	d.put(seq, &in, now) // it helps to make the others
	d.restored = append(d.restored, in)
}

// finish lets go of what a block needed.
func (d *fecDecoder) finish(b *fecBlock) {
	for c := range b.packets {
		if s := &d.slots[(b.base+uint64(c))%fecSlots]; s.seq == b.base+uint64(c) && s.pkt != nil {
			s.pkt.Release()
			s.pkt = nil
		}
	}
	for i := range b.got {
		b.symbols[i].pkt.Release()
		b.symbols[i].pkt = nil
	}
	b.got, b.done = 0, true
}

// expire lets go of everything when the peer has sent no parity for a while.
func (d *fecDecoder) expire(now time.Duration) {
	if d.slots != nil && !d.active(now) {
		d.clear()
	}
}

func (d *fecDecoder) clear() {
	for i := range d.slots {
		if d.slots[i].pkt != nil {
			d.slots[i].pkt.Release()
		}
	}
	d.slots, d.last = nil, 0
	d.slide.clear()
	for i := range d.blocks {
		d.blocks[i].clear()
	}
}

func (b *fecBlock) clear() {
	for i := range b.got {
		b.symbols[i].pkt.Release()
	}
	*b = fecBlock{}
}
