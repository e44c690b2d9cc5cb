package cascade

import (
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
	rows     []int
	sums     [fecMaxParity][]byte
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
	got     int
	last    bool // the last symbol has come, nothing more will
	done    bool
	told    bool // the tracker knows that it cannot be restored without retransmissions
	symbols [fecMaxParity]fecSymbol
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
		b.base, b.packets, b.parity = base, h.Packets, h.Parity
	}
	if b.done || b.packets != h.Packets || b.parity != h.Parity || b.got == b.parity {
		return nil
	}
	for i := range b.got {
		if b.symbols[i].index == h.Index {
			return nil
		}
	}
	b.symbols[b.got] = fecSymbol{index: h.Index, size: size, pkt: pkt.Retain()}
	b.got++
	b.last = b.last || h.Index == h.Parity-1
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

// restore makes the lost packets of a block when there are symbols enough, each with a reference for the caller. The
// result is valid until the next call. What makes no sense is left out and counted.
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
	if len(d.missing) > 0 {
		d.solve(b)
		for i, c := range d.missing {
			d.revive(d.sums[i], b.base+uint64(c), now)
		}
	}
	d.finish(b)
	return d.restored
}

// hopeless tells the tracker what no parity will make up for: of blocks whose last symbol has come, and of those before
// b. It reports whether there was any.
func (d *fecDecoder) hopeless(t *tracker, b *fecBlock) (news bool) {
	for i := range d.blocks {
		o := &d.blocks[i]
		if o.packets == 0 || o.done || o.told || (!o.last && o.base >= b.base) {
			continue
		}
		o.told, news = true, true
		for c := range o.packets {
			t.hopeless(o.base + uint64(c))
		}
	}
	return news
}

// solve puts the symbols of the missing packets into sums.
func (d *fecDecoder) solve(b *fecBlock) {
	m := len(d.missing)
	d.rows = d.rows[:0]
	size := 0
	for i := range m {
		d.rows = append(d.rows, b.symbols[i].index)
		size = max(size, b.symbols[i].size)
	}
	for i := range m { // what the received packets add to each symbol is taken out of it in place: it is ours
		s := &b.symbols[i]
		clear(s.pkt.Buffer()[s.size:])
	}
	for c := range b.packets {
		slot := &d.slots[(b.base+uint64(c))%fecSlots]
		if slot.seq != b.base+uint64(c) || slot.pkt == nil {
			continue
		}
		d.symbol = appendSymbol(d.symbol[:0], &slot.h, slot.pkt.Buffer()[:slot.size])
		for i, r := range d.rows {
			galois.GalMulSliceXor(fecCoefficient(r, c), d.symbol, b.symbols[i].pkt.Buffer())
		}
	}
	d.inverse.invert(d.rows, d.missing)
	for i := range m {
		if d.sums[i] == nil {
			d.sums[i] = make([]byte, rtpstream.MaxPacketBytes)
		}
		sum := d.sums[i][:rtpstream.MaxPacketBytes]
		clear(sum)
		for j := range m {
			galois.GalMulSliceXor(d.inverse[i][j], b.symbols[j].pkt.Buffer()[:size], sum)
		}
		d.sums[i] = sum[:size]
	}
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
