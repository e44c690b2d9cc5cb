package cascade

import (
	"sync"
	"sync/atomic"

	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

// flowLimit is what of a flow is sent: the far side's demand, as far as the link carries it.
type flowLimit struct {
	demandMu sync.Mutex            // keeps what is decided and what the source is told in one order: held while it is told
	wanted   rtpstream.Demand      // guarded by demandMu; by the far side
	limit    layerLimit            // guarded by demandMu; by the layer budget
	short    bool                  // guarded by demandMu; larger encodings are wanted than can come here
	shed     bool                  // guarded by demandMu; base layers alone are let through for a moment
	asked    rtpstream.Demand      // guarded by demandMu; of the source
	passing  rtpstream.EncodingSet // guarded by demandMu; let through

	pass atomic.Uint32 // EncodingSet that is let through; which layers of it is the business of its gates
}

// passes reports whether anything of an encoding is let through.
func (f *flowLimit) passes(encoding uint8) bool {
	return rtpstream.EncodingSet(f.pass.Load()).Has(encoding)
}

// demand takes what the far side wants, and which encodings it would have begin in the past.
func (f *sendFlow) demand(d rtpstream.Demand, replay rtpstream.EncodingSet) {
	f.demandMu.Lock()
	defer f.demandMu.Unlock()
	byItself := d.Encodings &^ f.wanted.Encodings &^ replay
	f.wanted = d
	f.applyLocked(byItself)
	f.link.replan.Store(true) // the ticker looks with its next step
}

// restrict takes what the layer budget allows; short says that all that can come here is sent, and more is wanted, shed
// that only base layers are let through for a moment: the source is not told.
func (f *sendFlow) restrict(l layerLimit, short, shed bool) {
	f.demandMu.Lock()
	defer f.demandMu.Unlock()
	if f.limit == l && f.short == short && f.shed == shed {
		return
	}
	f.limit, f.short, f.shed = l, short, shed
	f.applyLocked(0)
}

// hopes is what the far side wants, and how many encodings can come of the source.
func (f *sendFlow) hopes() (wanted rtpstream.Demand, encodings int) {
	src := f.sub.Source()
	can := src.Available()
	for e := range uint8(src.Info.Encodings) {
		if can.Has(e) {
			encodings = int(e) + 1
		}
	}
	f.demandMu.Lock()
	defer f.demandMu.Unlock()
	wanted = f.wanted
	return wanted.Only(1<<src.Info.Encodings - 1), encodings
}

// available is the encodings the far side may hope for.
func (f *sendFlow) available() rtpstream.EncodingSet {
	can := f.sub.Source().Available()
	f.demandMu.Lock()
	defer f.demandMu.Unlock()
	if n := f.limit.encoding + 1; n < rtpstream.MaxEncodings {
		can &= 1<<n - 1
	}
	return can
}

// applyLocked asks the source for what is wanted and allowed, and lets it through. What the peer has nothing of begins with
// what is kept since the latest keyframe, in front of what comes, or else with a keyframe; unless the peer asks by
// itself. demandMu is held.
func (f *sendFlow) applyLocked(byItself rtpstream.EncodingSet) {
	var asked rtpstream.Demand
	for e := range uint8(rtpstream.MaxEncodings) {
		switch at := int8(e); {
		case at < f.limit.encoding && f.wanted.Encodings.Has(e):
			asked = asked.With(e, f.wanted.Layers[e])
		case at == f.limit.encoding && f.wanted.Encodings>>e != 0: // it may stand in for one above
			asked = asked.With(e, standIn(f.wanted, e).Intersect(rtpstream.Layers{Spatial: f.limit.spatial, Temporal: f.limit.temporal}))
		}
	}
	f.link.tx.let(f, asked)
	passing := asked.Encodings
	if f.short { // whoever withholds the rest must go on to know of the wish
		missing := f.wanted.Encodings &^ f.sub.Source().Available()
		for e := range uint8(rtpstream.MaxEncodings) {
			if missing.Has(e) {
				asked = asked.With(e, f.wanted.Layers[e])
			}
		}
	}
	begin := passing &^ f.passing &^ byItself
	if f.audio {
		begin = 0
	}
	f.asked, f.passing = asked, passing
	f.subscribe(asked, begin)
}

// standIn is what is wanted of an encoding that stands in for those above as well.
func standIn(d rtpstream.Demand, encoding uint8) (l rtpstream.Layers) {
	for _, above := range d.Layers[encoding:] {
		l = l.Union(above)
	}
	return l
}

// let lets pass what is asked of the source, from the next packet on.
func (s *sender) let(f *sendFlow, asked rtpstream.Demand) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for e, l := range asked.Layers {
		if f.shed {
			l.Temporal = 0
		}
		switch gate := &f.enc[e].gate; {
		case f.passes(uint8(e)):
			gate.Want(l)
		default:
			gate.Open(l)
		}
	}
	f.pass.Store(uint32(asked.Encodings))
}
