package cascade

import (
	"slices"
	"time"
)

// Limits of what is solved at a time.
const (
	maxEquations = 96
	maxUnknowns  = 64
	maxSteps     = 64    // lengths tried in turn
	maxRows      = 16384 // … and rows of matrices turned over by it: half a millisecond, whatever a peer makes up
	equationKeep = 500 * time.Millisecond
	slideGrace   = 2 * time.Millisecond // that a symbol may be later than the packets before it
	slideBehind  = 1024                 // packets behind a window that are kept
)

// equation is a symbol of a sliding window, what is here of its packets taken out.
type equation struct {
	index   int
	at      time.Duration
	unknown []uint64 // packets that are missing, ascending
	sum     []byte
}

// unknown is a missing packet, while a solution is looked for.
type unknown struct {
	seq    uint64
	length int // of its symbol, 0 while it is not known
	reach  int // bytes of the symbol that are known
	row    int // of the matrix, which gives more of them; −1 is none
	symbol []byte
}

// equations finds packets that are missing from the symbols that cover them. It has no lock and no clock.
type equations struct {
	all    []*equation // the longest first
	spare  []*equation
	low    uint64 // packets below it are not kept any more
	wait   time.Duration
	cols   []unknown
	turned int // rows, for this solution
	matrix [maxEquations][maxUnknowns + maxEquations]byte
}

// slid takes a symbol of a sliding window and returns the packets it makes up for, each with a reference for the
// caller; valid until the next call.
func (d *fecDecoder) slid(base uint64, h *parityHeader, symbol []byte, t *tracker, now time.Duration) []inbound {
	if d.slots == nil {
		d.slots = make([]fecSlot, fecSlots)
	}
	q := &d.slide
	d.last, d.restored = now, d.restored[:0]
	q.wait = h.Span + slideGrace
	d.letGo(base)
	e := q.fresh()
	e.index, e.at, e.unknown = h.Index, now, e.unknown[:0]
	e.sum = append(e.sum[:0], symbol...)
	for seq := base; seq < base+uint64(h.Packets); seq++ {
		if d.has(seq) {
			continue
		}
		if len(e.unknown) == maxUnknowns || seq < q.low || t.has(seq) { // came before anything was kept
			q.spare = append(q.spare, e)
			return nil
		}
		e.unknown = append(e.unknown, seq)
	}
	if len(e.unknown) == 0 {
		q.spare = append(q.spare, e)
		return nil
	}
	for i := range h.Packets {
		if seq := base + uint64(i); d.has(seq) {
			d.takeOut(e, seq)
		}
	}
	q.insert(e, now)
	d.solveAll(now)
	return d.restored
}

// came takes a packet that is here now out of all symbols, and returns what that makes known.
func (d *fecDecoder) came(seq uint64, now time.Duration) []inbound {
	d.restored = d.restored[:0]
	if d.has(seq) && d.known(seq) { // nothing is kept when there was no parity for a while
		d.solveAll(now)
	}
	return d.restored
}

// known takes a packet that is here now out of the symbols that cover it, and reports whether there is any left of these.
func (d *fecDecoder) known(seq uint64) (news bool) {
	q := &d.slide
	q.all = slices.DeleteFunc(q.all, func(e *equation) bool {
		i, found := slices.BinarySearch(e.unknown, seq)
		if !found {
			return false
		}
		e.unknown = slices.Delete(e.unknown, i, i+1)
		if len(e.unknown) == 0 {
			q.spare = append(q.spare, e)
			return true
		}
		d.takeOut(e, seq)
		news = true
		return false
	})
	return news
}

// takeOut takes out of a symbol what a packet that is here has added.
func (d *fecDecoder) takeOut(e *equation, seq uint64) {
	slot := &d.slots[seq%fecSlots]
	d.symbol = appendSymbol(d.symbol[:0], &slot.h, slot.pkt.Buffer()[:slot.size])
	n := min(len(d.symbol), len(e.sum))
	galois.GalMulSliceXor(slideCoefficient(e.index, uint32(seq)), d.symbol[:n], e.sum[:n])
}

// letGo of packets far behind a window.
func (d *fecDecoder) letGo(base uint64) {
	if base < slideBehind {
		return
	}
	for low := base - slideBehind; d.slide.low < low; d.slide.low++ {
		if low-d.slide.low > fecSlots {
			d.slide.low = low - fecSlots
		}
		if s := &d.slots[d.slide.low%fecSlots]; s.seq == d.slide.low && s.pkt != nil {
			s.pkt.Release()
			s.pkt = nil
		}
	}
}

func (q *equations) fresh() *equation {
	if n := len(q.spare); n > 0 {
		e := q.spare[n-1]
		q.spare = q.spare[:n-1]
		return e
	}
	return &equation{}
}

// insert keeps an equation, and so many of the others as can be solved together.
func (q *equations) insert(e *equation, now time.Duration) {
	q.all = slices.DeleteFunc(q.all, func(e *equation) bool {
		old := now-e.at > equationKeep || e.unknown[0] < q.low
		if old {
			q.spare = append(q.spare, e)
		}
		return old
	})
	at, _ := slices.BinarySearchFunc(q.all, e, func(a, b *equation) int { return len(b.sum) - len(a.sum) })
	q.all = slices.Insert(q.all, at, e)
	for len(q.all) > maxEquations || q.unknowns() > maxUnknowns {
		oldest := 0
		for i, e := range q.all {
			if e.unknown[0] < q.all[oldest].unknown[0] {
				oldest = i
			}
		}
		q.spare = append(q.spare, q.all[oldest])
		q.all = slices.Delete(q.all, oldest, oldest+1)
	}
}

// unknowns lists what is unknown, and returns how many that are.
func (q *equations) unknowns() int {
	q.cols = q.cols[:0]
	for _, e := range q.all {
		for _, seq := range e.unknown {
			at, found := slices.BinarySearchFunc(q.cols, seq, func(u unknown, seq uint64) int { return int(int64(u.seq - seq)) })
			if found {
				continue
			}
			if len(q.cols) == cap(q.cols) {
				q.cols = append(q.cols, unknown{})[:len(q.cols)]
			}
			spare := q.cols[:cap(q.cols)][len(q.cols)].symbol
			q.cols = slices.Insert(q.cols, at, unknown{seq: seq, symbol: spare[:0]})
		}
	}
	return len(q.cols)
}

// solveAll makes what packets can be made of the symbols there are, from their first bytes on: where symbols end there
// may be too few for all packets, but then some of these have ended themselves.
func (d *fecDecoder) solveAll(now time.Duration) {
	q := &d.slide
	q.unknowns()
	q.turned = 0
	for from, step := 0, 0; step < maxSteps && q.turned < maxRows; step++ {
		active, rows := q.active(from)
		if active == 0 || rows == 0 {
			break
		}
		to := len(q.all[min(active, rows)-1].sum)
		if !q.determine(from, to) { // more, but shorter symbols
			least := len(q.all[rows-1].sum)
			if least == to || !q.determine(from, least) {
				break
			}
			to = least
		}
		q.extend(from, to)
		from = to
	}
	for i := range q.cols {
		u := &q.cols[i]
		if u.length == 0 || u.reach < u.length || d.has(u.seq) {
			continue
		}
		d.revive(u.symbol[:u.length], u.seq, now)
	}
	for i := range q.cols {
		if d.has(q.cols[i].seq) {
			d.known(q.cols[i].seq)
		}
	}
}

// active is how many packets have bytes from one on, or may have, and how many symbols.
func (q *equations) active(from int) (packets, rows int) {
	for i := range q.cols {
		if u := &q.cols[i]; u.length == 0 || u.length > from {
			packets++
		}
	}
	for rows < len(q.all) && len(q.all[rows].sum) > from {
		rows++
	}
	return packets, rows
}

// determine finds for which packets the bytes between two places follow from the symbols that are long enough, and
// reports whether there are any whose bytes before these are known.
func (q *equations) determine(from, to int) (news bool) {
	rows := 0
	for rows < len(q.all) && len(q.all[rows].sum) >= to {
		rows++
	}
	n := len(q.cols)
	width := n + rows
	for r, e := range q.all[:rows] {
		clear(q.matrix[r][:width])
		q.matrix[r][n+r] = 1
		for _, seq := range e.unknown {
			c, _ := slices.BinarySearchFunc(q.cols, seq, func(u unknown, seq uint64) int { return int(int64(u.seq - seq)) })
			if u := &q.cols[c]; u.length == 0 || u.length > from {
				q.matrix[r][c] = slideCoefficient(e.index, uint32(seq))
			}
		}
	}
	rank := 0
	for c := range q.cols {
		q.cols[c].row = -1
		p := rank
		for p < rows && q.matrix[p][c] == 0 {
			p++
		}
		if p == rows {
			continue
		}
		q.matrix[rank], q.matrix[p] = q.matrix[p], q.matrix[rank]
		pivot := q.matrix[rank][:width]
		times := &fecTimes[inverse(pivot[c])]
		for i, v := range pivot {
			pivot[i] = times[v]
		}
		for r := range rows {
			if f := q.matrix[r][c]; f != 0 && r != rank {
				galois.GalMulSliceXor(f, pivot, q.matrix[r][:width])
				q.turned++
			}
		}
		q.cols[c].row = rank
		rank++
	}
	for c := range q.cols {
		u := &q.cols[c]
		if u.row < 0 || u.reach != from {
			u.row = -1
			continue
		}
		for other := c + 1; other < n; other++ { // pivots of others are zero there
			if q.matrix[u.row][other] != 0 {
				u.row = -1
				break
			}
		}
		news = news || u.row >= 0
	}
	return news
}

// extend makes the bytes between two places of the packets for which they are determined.
func (q *equations) extend(from, to int) {
	for c := range q.cols {
		u := &q.cols[c]
		if u.row < 0 {
			continue
		}
		u.symbol = append(u.symbol[:from], make([]byte, to-from)...)
		for r, f := range q.matrix[u.row][len(q.cols):] {
			if r == len(q.all) || len(q.all[r].sum) < to {
				break
			}
			if f != 0 {
				galois.GalMulSliceXor(f, q.all[r].sum[from:to], u.symbol[from:to])
			}
		}
		u.reach = to
		if u.length == 0 {
			if n, ok := symbolLength(u.symbol); ok {
				u.length = n
			}
		}
	}
}

func (q *equations) clear() {
	q.all, q.spare, q.low, q.wait = nil, nil, 0, 0
}
