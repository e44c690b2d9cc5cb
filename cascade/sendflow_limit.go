package cascade

import (
	"sync"
	"sync/atomic"

	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

// flowLimit is what of a flow is sent: the far side's demand, as far as the link carries it.
type flowLimit struct {
	demandMu sync.Mutex       // keeps what is decided and what the source is told in one order: held while it is told
	wanted   rtpstream.Demand // guarded by demandMu; by the far side
	limit    layerLimit       // guarded by demandMu; by the layer budget
	asked    rtpstream.Demand // guarded by demandMu; of the source

	pass [rtpstream.MaxEncodings]atomic.Int32 // temporal layers that pass: all below this
}

// passes reports whether a layer is let through.
func (f *flowLimit) passes(encoding, temporal uint8) bool {
	return int32(temporal) < f.pass[encoding%rtpstream.MaxEncodings].Load()
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

// restrict takes what the layer budget allows.
func (f *sendFlow) restrict(l layerLimit) {
	f.demandMu.Lock()
	defer f.demandMu.Unlock()
	if f.limit == l {
		return
	}
	f.limit = l
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
	wanted.Encodings &= 1<<src.Info.Encodings - 1
	return wanted, encodings
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
	asked := rtpstream.Demand{MaxTemporal: f.wanted.MaxTemporal}
	for e := range uint8(rtpstream.MaxEncodings) {
		pass := int32(0)
		switch at := int8(e); {
		case at < f.limit.encoding && f.wanted.Encodings.Has(e):
			pass = int32(f.wanted.MaxTemporal) + 1
		case at == f.limit.encoding && f.wanted.Encodings>>e != 0: // it may stand in for one above
			pass = int32(min(f.wanted.MaxTemporal, f.limit.temporal)) + 1
		}
		f.pass[e].Store(pass)
		if pass > 0 {
			asked.Encodings = asked.Encodings.With(e)
		}
	}
	if f.limit.encoding >= 0 && asked.Encodings == 1<<f.limit.encoding {
		asked.MaxTemporal = min(asked.MaxTemporal, f.limit.temporal)
	}
	if asked.Encodings == 0 {
		asked = rtpstream.Demand{}
	}
	begin := asked.Encodings &^ f.asked.Encodings &^ byItself
	if f.audio {
		begin = 0
	}
	f.asked = asked
	f.subscribe(asked, begin)
}
