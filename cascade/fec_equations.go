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
	maxRows      = 16384 // … and rows turned over by it, before the last of them
	equationKeep = 500 * time.Millisecond
	slideGrace   = 2 * time.Millisecond // that a symbol may be later than the packets before it
	slideBehind  = 1024                 // packets behind a window that are kept
	rowStep      = 32                   // bytes of a row that are turned over at once
	vainRows     = 4096                 // rows turned over in vain that another symbol is worth waiting for …
	vainRowsLow  = 256                  // … and how many when little is left of the allowance
)

// equation is a symbol of a sliding window, what is here of its packets taken out.
type equation struct {
	index       int
	at          time.Duration
	unknown     []uint64 // packets that are missing, ascending
	sum         []byte
	news        bool // since solutions were looked for last
	first, last int  // places of its missing packets among all of them, while a solution is looked for
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
	seqs   []uint64 // of all packets they cover that are missing, ascending …
	uses   []int    // … and how many of them cover each
	low    uint64   // packets below it are not kept any more
	wait   time.Duration
	rows   []*equation // of these a solution is looked for, the longest first …
	cols   []unknown   // … and this is what they cover
	turned int         // rows, for this solution
	wanted int         // symbols or packets to come until the next one is looked for: the last was in vain, and not cheap
	matrix [maxEquations][maxUnknowns + maxEquations]byte
	counts [maxUnknowns][maxUnknowns]uint8 // symbols by the first and the last packet they miss …
	fresh  [maxUnknowns][maxUnknowns]uint8 // … and of these the news
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
	d.effort.spend(1 + h.Packets/missingSteps)
	e := q.unused()
	e.index, e.at, e.news, e.unknown = h.Index, now, true, e.unknown[:0]
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
	at, found := slices.BinarySearch(q.seqs, seq)
	if !found {
		return false
	}
	q.seqs, q.uses = slices.Delete(q.seqs, at, at+1), slices.Delete(q.uses, at, at+1)
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
		e.news, news = true, true
		return false
	})
	return news
}

// takeOut takes out of a symbol what a packet that is here has added.
func (d *fecDecoder) takeOut(e *equation, seq uint64) {
	slot := &d.slots[seq%fecSlots]
	d.symbol = appendSymbolUpTo(d.symbol[:0], &slot.h, slot.pkt.Buffer()[:slot.size], len(e.sum))
	n := min(len(d.symbol), len(e.sum))
	galois.GalMulSliceXor(slideCoefficient(e.index, uint32(seq)), d.symbol[:n], e.sum[:n])
	d.effort.spend(1)
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

func (q *equations) unused() *equation {
	if n := len(q.spare); n > 0 {
		e := q.spare[n-1]
		q.spare = q.spare[:n-1]
		return e
	}
	return &equation{}
}

// insert keeps an equation, and so many of the others as can be solved together.
func (q *equations) insert(e *equation, now time.Duration) {
	q.drop(func(e *equation) bool { return now-e.at > equationKeep || e.unknown[0] < q.low })
	at, _ := slices.BinarySearchFunc(q.all, e, func(a, b *equation) int { return len(b.sum) - len(a.sum) })
	q.all = slices.Insert(q.all, at, e)
	for _, seq := range e.unknown {
		at, found := slices.BinarySearch(q.seqs, seq)
		if !found {
			q.seqs, q.uses = slices.Insert(q.seqs, at, seq), slices.Insert(q.uses, at, 0)
		}
		q.uses[at]++
	}
	for len(q.all) > maxEquations || len(q.seqs) > maxUnknowns {
		oldest := q.all[0]
		for _, e := range q.all {
			if e.unknown[0] < oldest.unknown[0] {
				oldest = e
			}
		}
		q.drop(func(e *equation) bool { return e == oldest })
	}
}

// drop lets go of equations.
func (q *equations) drop(which func(*equation) bool) {
	q.all = slices.DeleteFunc(q.all, func(e *equation) bool {
		if !which(e) {
			return false
		}
		for _, seq := range e.unknown {
			at, _ := slices.BinarySearch(q.seqs, seq)
			if q.uses[at]--; q.uses[at] == 0 {
				q.seqs, q.uses = slices.Delete(q.seqs, at, at+1), slices.Delete(q.uses, at, at+1)
			}
		}
		q.spare = append(q.spare, e)
		return true
	})
}

// solvable picks the equations that may tell something they have not told before, and reports whether there are any:
// what a symbol covers is a run of the missing packets, so packets can be known only where as many symbols lie within a
// run as it is long. All others would be turned over in vain.
func (q *equations) solvable() bool {
	n := len(q.seqs)
	q.rows, q.cols = q.rows[:0], q.cols[:0]
	if n == 0 {
		return false
	}
	for i := range n {
		clear(q.counts[i][:n])
		clear(q.fresh[i][:n])
	}
	for _, e := range q.all {
		e.first, _ = slices.BinarySearch(q.seqs, e.unknown[0])
		e.last, _ = slices.BinarySearch(q.seqs, e.unknown[len(e.unknown)-1])
		q.counts[e.first][e.last]++
		if e.news {
			q.fresh[e.first][e.last]++
			e.news = false
		}
	}
	var reach [maxUnknowns]int // end of the longest run from a packet on, behind it
	var ends, fresh [maxUnknowns]int
	for i := n - 1; i >= 0; i-- {
		symbols, news := 0, 0
		for j := i; j < n; j++ {
			ends[j] += int(q.counts[i][j])
			fresh[j] += int(q.fresh[i][j])
			symbols, news = symbols+ends[j], news+fresh[j]
			if symbols > j-i && news > 0 {
				reach[i] = j + 1
			}
		}
	}
	q.turned += (len(q.all) + n) / 4
	end := 0
	for i := range n {
		end = max(end, reach[i])
		if reach[i] = end; i < end {
			q.column(q.seqs[i])
		}
	}
	for _, e := range q.all {
		if e.last < reach[e.first] {
			q.rows = append(q.rows, e)
		}
	}
	return len(q.rows) > 0
}

// column appends a missing packet to those a solution is looked for.
func (q *equations) column(seq uint64) {
	if len(q.cols) == cap(q.cols) {
		q.cols = append(q.cols, unknown{})[:len(q.cols)]
	}
	spare := q.cols[:cap(q.cols)][len(q.cols)].symbol
	q.cols = append(q.cols, unknown{seq: seq, symbol: spare[:0]})
}

// solveAll makes what packets can be made of the symbols there are, from their first bytes on: where symbols end there
// may be too few for all packets, but then some of these have ended themselves.
func (d *fecDecoder) solveAll(now time.Duration) {
	q := &d.slide
	if q.wanted > 0 {
		q.wanted--
		return
	}
	q.turned = 0
	if q.solvable() {
		d.solveRows(now)
	}
	if len(d.restored) == 0 {
		rows := vainRows
		if d.effort.low(now) {
			rows = vainRowsLow
		}
		q.wanted = q.turned / rows
	}
	d.effort.spend(q.turned)
}

// solveRows does so with those that were picked.
func (d *fecDecoder) solveRows(now time.Duration) {
	q := &d.slide
	for from, step := 0, 0; step < maxSteps && q.turned+2*maxEquations < maxRows; step++ {
		active, rows := q.active(from)
		if active == 0 || rows == 0 {
			break
		}
		to := len(q.rows[min(active, rows)-1].sum)
		if !q.determine(from, to) { // more, but shorter symbols
			least := len(q.rows[rows-1].sum)
			if least == to || q.turned > maxRows || !q.determine(from, least) {
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
		if !d.has(u.seq) { // no packet: of the symbols that cover it at least one lies
			q.drop(func(e *equation) bool { _, covers := slices.BinarySearch(e.unknown, u.seq); return covers })
		}
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
	for rows < len(q.rows) && len(q.rows[rows].sum) > from {
		rows++
	}
	return packets, rows
}

// determine finds for which packets the bytes between two places follow from the symbols that are long enough, and
// reports whether there are any whose bytes before these are known.
func (q *equations) determine(from, to int) (news bool) {
	rows := 0
	for rows < len(q.rows) && len(q.rows[rows].sum) >= to {
		rows++
	}
	n := len(q.cols)
	width := (n + rows + rowStep - 1) &^ (rowStep - 1)
	q.turned += rows
	for r, e := range q.rows[:rows] {
		clear(q.matrix[r][:width])
		q.matrix[r][n+r] = 1
		c, _ := slices.BinarySearchFunc(q.cols, e.unknown[0], func(u unknown, seq uint64) int { return int(int64(u.seq - seq)) })
		for _, seq := range e.unknown {
			for q.cols[c].seq != seq {
				c++
			}
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
		left := c &^ (rowStep - 1) // there is nothing before the column any more
		pivot := q.matrix[rank][left:width]
		times := &fecTimes[inverse(pivot[c-left])]
		for i, v := range pivot {
			pivot[i] = times[v]
		}
		for r := range rows {
			if f := q.matrix[r][c]; f != 0 && r != rank {
				galois.GalMulSliceXor(f, pivot, q.matrix[r][left:width])
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
			if r == len(q.rows) || len(q.rows[r].sum) < to {
				break
			}
			if f != 0 {
				galois.GalMulSliceXor(f, q.rows[r].sum[from:to], u.symbol[from:to])
				q.turned++
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
	q.all, q.spare, q.seqs, q.uses, q.rows, q.low, q.wait = nil, nil, nil, nil, nil, 0, 0
}
