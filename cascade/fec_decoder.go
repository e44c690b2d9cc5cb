package cascade

import (
	"math"
	"time"

	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

// Limits of what the receiver keeps to make up for lost packets.
const (
	fecSlots  = 4096                   // packets
	fecBlocks = 32                     // with parity symbols
	fecIdle   = 500 * time.Millisecond // without parity, after which nothing is kept
)

// fecDecoder keeps what came in while the peer sends parity, and makes lost packets anew. It has no lock and no clock.
type fecDecoder struct {
	pool   *rtpstream.Pool
	stats  *counters
	last   time.Duration // latest parity, 0 when there is none
	slots  []fecSlot     // by link sequence number; nil until there is parity
	blocks [fecBlocks]fecBlock
	turn   int // block to be taken next

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
	asked   int  // packets asked for
	done    bool
	symbols [fecMaxParity]fecSymbol // the longest first
}

// fecSymbol owns a reference to its packet: the symbol is the first size bytes of its buffer.
type fecSymbol struct {
	index, size int
	pkt         *rtpstream.Packet
}

// active reports whether the peer sends parity: what is missing may then come by itself.
func (d *fecDecoder) active(now time.Duration) bool { return d.last != 0 && now-d.last < fecIdle }

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
	b.passed = max(b.passed, h.Index+1)
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
	for from := 0; len(d.missing) > 0; {
		m := len(d.missing)
		to := b.symbols[m-1].size
		if to <= from { // no symbol reaches further
			break
		}
		d.inverse.invert(b.code, d.rows[:m], d.missing)
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
		if n, ok := symbolLength(d.sums[i][:known]); !ok || n > known && b.code.graded {
			d.missing[left] = c
			d.sums[left], d.sums[i] = d.sums[i], d.sums[left]
			left++
			continue
		}
		d.revive(d.sums[i][:known], b.base+uint64(c), now)
	}
	d.missing = d.missing[:left]
}

// hopeless asks for what no parity will make up for: of blocks that miss more than symbols have come and may come, of
// those whose last symbol has come, and of those before b. It reports whether there was any.
func (d *fecDecoder) hopeless(t *tracker, b *fecBlock) (news bool) {
	for i := range d.blocks {
		o := &d.blocks[i]
		if o.packets == 0 || o.done || o.settled {
			continue
		}
		if o.base < b.base {
			o.passed = o.parity
		}
		missing := 0
		for c := range o.packets {
			if !d.has(o.base + uint64(c)) {
				missing++
			}
		}
		o.settled = o.passed == o.parity
		if !o.settled && missing <= o.got+o.parity-o.passed {
			continue
		}
		ask := d.wanting(o, missing) - o.asked
		o.asked += max(ask, 0)
		news = news || ask > 0
		for c := 0; c < o.packets; c++ {
			if seq := o.base + uint64(c); !d.has(seq) && t.hopeless(seq, ask > 0) {
				ask--
			}
		}
	}
	return news
}

// wanting is how many of the missing packets of a block have to come, some of them perhaps in vain, so that its parity
// makes up for the rest. At no length may more packets be missing than there are symbols; of the missing ones as many are
// taken to be that long as of the others.
func (d *fecDecoder) wanting(b *fecBlock, missing int) int {
	want := 0
	coming := (b.parity - b.passed) * 9 / 10 // nearly as good as here
	for i := range b.got + 1 {
		size := 0
		if i < b.got {
			size = b.symbols[i].size
		}
		longer := 0
		for c := range b.packets {
			if s := &d.slots[(b.base+uint64(c))%fecSlots]; s.seq == b.base+uint64(c) && s.pkt != nil && symbolBytes(&s.h, s.size) > size {
				longer++
			}
		}
		share := 1.0
		if size > 0 {
			share = float64(longer) / float64(max(b.packets-missing, 1))
		}
		want = max(want, int(math.Ceil(share*float64(missing)))-i-coming)
	}
	return min(missing, 2*want+3)
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
