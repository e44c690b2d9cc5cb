package cascade

import "github.com/meridian-sfu/meridian/internal/rtpstream"

// maxWithheld is how many packets of a stream are left out in a row: what the next one counts fits an octet, and a stream
// that is left out for long stays within half a cycle of sequence numbers for whoever receives it.
const maxWithheld = 250

// withheld counts what one stream's packets leave out on purpose on their way to a peer, so that nobody takes it for loss
// and the last hop closes the gap. It has no lock and no clock.
//
//	comes      1 2 3 4 5 6 7 8   with 2, 3 and 5 of a temporal layer the peer does not want; 7 was lost before
//	goes on    1     4   6   8
//	it counts  0     2   1   0
type withheld struct {
	first, last uint64 // the run of ExtSeq left out that ended last; none when last is 0
	open        bool   // the newest packet was left out
}

// next takes a packet that is to be left out, or not, and returns how many right before it were, and whether it is sent.
// Of audio, what was lost between packets left out is as good as left out.
func (w *withheld) next(p *rtpstream.Packet, out, audio bool) (before uint8, send bool) {
	first := p.ExtSeq - uint64(p.Withheld)
	if w.last != 0 && (first == w.last+1 || audio && w.open && first > w.last) {
		first = w.first
	}
	n := p.ExtSeq - first
	if out && p.ExtSeq < w.last {
		return 0, false // late
	}
	if out && n < maxWithheld {
		w.first, w.last, w.open = first, p.ExtSeq, true
		return 0, false
	}
	if p.ExtSeq > w.last {
		w.open = false
	}
	return uint8(min(n, 255)), true
}
