package cascade

import (
	"time"

	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

// maxPartials bounds how many RTP packets may wait for their other half.
const maxPartials = 64

// reassembler joins the two halves of RTP packets that did not fit a datagram. The halves have consecutive link
// sequence numbers, so the number of the first names the pair. It has no lock and no clock; each half is given once.
type reassembler struct {
	partials [maxPartials]partial
	pool     *rtpstream.Pool
	stats    *counters
}

type partial struct {
	pkt   *rtpstream.Packet // owned; buffer filled with one half at its place
	seq   uint64            // of the first half
	total int
	cut   int  // where the second half begins
	half  bool // which half is here: false the first
	since time.Duration
}

// add takes one half and returns the whole packet with a reference for the caller, or nil while the other half is
// missing. Halves that do not fit together are dropped.
func (r *reassembler) add(seq uint64, h *mediaHeader, rtp []byte, now time.Duration) *rtpstream.Packet {
	first, cut := seq, len(rtp)
	if h.Second {
		first, cut = seq-1, int(h.Total)-len(rtp)
	}
	p := &r.partials[first%maxPartials]
	if p.pkt != nil && p.seq != first {
		r.drop(p)
	}
	if p.pkt == nil {
		*p = partial{pkt: r.pool.Get(), seq: first, total: int(h.Total), cut: cut, half: h.Second, since: now}
		r.place(p, h.Second, rtp)
		return nil
	}
	if p.half == h.Second || p.cut != cut || p.total != int(h.Total) {
		r.drop(p)
		return nil
	}
	r.place(p, h.Second, rtp)
	pkt := p.pkt
	total := p.total
	*p = partial{}
	if pkt.Parse(total) != nil {
		r.stats.drop(dropGarbage)
		pkt.Release()
		return nil
	}
	return pkt
}

func (r *reassembler) place(p *partial, second bool, rtp []byte) {
	if second {
		copy(p.pkt.Buffer()[p.cut:p.total], rtp)
	} else {
		copy(p.pkt.Buffer()[:p.cut], rtp)
	}
}

// expire drops halves older than maxAge.
func (r *reassembler) expire(now, maxAge time.Duration) {
	for i := range r.partials {
		if p := &r.partials[i]; p.pkt != nil && now-p.since > maxAge {
			r.drop(p)
		}
	}
}

func (r *reassembler) drop(p *partial) {
	p.pkt.Release()
	*p = partial{}
	r.stats.drop(dropReassembly)
}

func (r *reassembler) clear() {
	for i := range r.partials {
		if p := &r.partials[i]; p.pkt != nil {
			r.drop(p)
		}
	}
}
