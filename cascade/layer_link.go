package cascade

import (
	"cmp"
	"slices"
	"time"

	"github.com/meridian-sfu/meridian/internal/meshpb/cascadepb"
	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

// Parameters of the layer budget's measuring.
const (
	layerRounds   = 30  // rounds a rate is averaged over
	layerRepair   = 0.3 // no more than this of the media is set aside for repair
	layerSettling = 10  // rounds after a change in which a layer's rate is not yet measured
)

// layerMeter measures the rates of one flow's layers. A layer that is held back keeps the rate it had.
type layerMeter struct {
	last   [rtpstream.MaxEncodings][layerTemporals]uint64 // bytes
	rounds [rtpstream.MaxEncodings][layerTemporals]int    // in a row in which the layer was let through
	rates  layerRates
	known  [rtpstream.MaxEncodings][layerTemporals]bool // the rate is an average of a while
	seen   uint64                                       // number of the latest round
}

func (m *layerMeter) round(f *sendFlow, bytes *[rtpstream.MaxEncodings][layerTemporals]uint64, past time.Duration) {
	for e := range bytes {
		for t := range bytes[e] {
			now := 8 * float64(bytes[e][t]-m.last[e][t]) / past.Seconds()
			m.last[e][t] = bytes[e][t]
			if !f.passes(uint8(e), uint8(t)) {
				m.rounds[e][t] = 0
				continue
			}
			n := m.rounds[e][t]
			m.rounds[e][t]++
			switch rate := &m.rates[e][t]; {
			case !m.known[e][t]:
				if *rate += (now - *rate) / float64(n+1); n >= layerRounds {
					m.known[e][t] = true
				}
			case n < layerSettling: // it begins to flow, with a keyframe: what was known of it is better
			default:
				*rate += (now - *rate) / layerRounds
			}
		}
	}
}

// layerTicker divides what a link carries among its flows.
type layerTicker struct {
	planner layerPlanner
	meters  map[uint32]*layerMeter // by flow
	rounds  uint64
	at      time.Duration // of the latest round
	repair  float64       // bytes of repair to one of all else
	before  rateState
	flows   []layerFlow // of the latest plan, to be used again
}

// measureLayers takes what flows brought since the round before. Ticker only.
func (t *ticker) measureLayers(now time.Duration) {
	l, y := t.link, &t.layers
	state := l.tx.rateState()
	past := now - y.at
	if y.at == 0 || past <= 0 {
		y.at, y.before = now, state
		return
	}
	repair := float64(state.repair - y.before.repair)
	if media := float64(state.drained-y.before.drained) - repair; media > 0 {
		y.repair += (min(repair/media, layerRepair) - y.repair) / layerRounds
	}
	y.at, y.before = now, state
	y.rounds++
	if y.meters == nil {
		y.meters = make(map[uint32]*layerMeter)
	}
	for _, f := range l.served() {
		m := y.meters[f.id]
		if m == nil || m.seen != y.rounds-1 { // new, or a new one under an old ID
			m = new(layerMeter)
			y.meters[f.id] = m
		}
		m.seen = y.rounds
		l.tx.mu.Lock()
		bytes := f.layerBytes
		l.tx.mu.Unlock()
		m.round(f, &bytes, past)
	}
	for id, m := range y.meters {
		if m.seen != y.rounds {
			delete(y.meters, id)
		}
	}
}

// planLayers lets each flow send what fits. Ticker only.
func (t *ticker) planLayers(now time.Duration) {
	l, y := t.link, &t.layers
	state := l.tx.rateState()
	served := l.served()
	slices.SortFunc(served, func(a, b *sendFlow) int { return cmp.Compare(a.id, b.id) })
	y.flows = y.flows[:0]
	for _, f := range served {
		wanted, encodings := f.hopes()
		lf := layerFlow{id: f.id, audio: f.audio, wanted: wanted.Encodings, temporal: wanted.MaxTemporal, encodings: encodings}
		if m := y.meters[f.id]; m != nil {
			lf.rates = m.rates
		}
		if !f.sparse { // all temporal layers or none
			for e, rates := range lf.rates {
				lf.rates[e] = [layerTemporals]float64{rates[0] + rates[1] + rates[2] + rates[3]}
			}
		}
		y.flows = append(y.flows, lf)
	}
	limits := y.planner.step(y.flows, float64(state.budget)/(1+y.repair), now)
	for i, f := range served {
		f.restrict(limits[i])
		t.tellLimit(f)
	}
	if p := &y.planner; p.held > 0 {
		l.tx.want(Bitrate(p.all*(1+y.repair)), Bitrate(p.next*(1+y.repair)))
	} else {
		l.tx.want(0, 0)
	}
	l.withheld.Store(int32(y.planner.held))
}

// tellLimit tells the peer which encodings of a flow can come, when that has changed.
func (t *ticker) tellLimit(f *sendFlow) {
	can := f.available()
	if can == f.toldLimit || !t.link.knowsRate() || t.link.crowded() {
		return
	}
	f.toldLimit = can
	t.link.post(&cascadepb.LinkMessage{Body: &cascadepb.LinkMessage_FlowLimit{FlowLimit: &cascadepb.FlowLimit{
		FlowId: f.id, Encodings: uint32(can),
	}}})
}

// limitFlow takes what the peer says can come of a flow.
func (l *link) limitFlow(id uint32, can rtpstream.EncodingSet) {
	pl := l.rx.flow(id)
	if pl == nil {
		l.senseless(dropBadControl) // it may have crossed our FlowClose
		return
	}
	l.c.mu.Lock()
	via := pl.remote.via == pl
	l.c.mu.Unlock()
	if via {
		pl.media.SetAvailable(can)
	}
}
