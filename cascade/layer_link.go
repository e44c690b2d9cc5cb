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
	temporals [rtpstream.MaxEncodings][layerTemporals]layerRate
	uppers    [rtpstream.MaxEncodings][layerUppers]layerRate
	seen      uint64 // number of the latest round
}

// layerRate measures the rate of one layer.
type layerRate struct {
	last   uint64 // bytes
	rounds int    // in a row in which the layer was let through
	rate   float64
	known  bool // the rate is an average of a while
}

// layerCount counts the bytes of layers.
type layerCount struct {
	temporals [rtpstream.MaxEncodings][layerTemporals]uint64 // of the lowest spatial layer
	uppers    [rtpstream.MaxEncodings][layerUppers]uint64    // of the spatial layers above
}

func (c *layerCount) add(p *rtpstream.Packet) {
	e, n := p.Stream.Encoding%rtpstream.MaxEncodings, uint64(len(p.Raw()))
	if p.Spatial > 0 {
		c.uppers[e][min(p.Spatial, layerUppers)-1] += n
		return
	}
	c.temporals[e][min(p.Temporal, layerTemporals-1)] += n
}

// layersThrough is what of a flow is let through, by encoding.
type layersThrough struct {
	set    rtpstream.EncodingSet
	layers [rtpstream.MaxEncodings]rtpstream.Layers
}

func (t *layersThrough) has(e, spatial, temporal int) bool {
	return t.set.Has(uint8(e)) && t.layers[e].Has(uint8(spatial), uint8(temporal))
}

func (m *layerMeter) round(through *layersThrough, bytes *layerCount, past time.Duration) {
	for e := range bytes.temporals {
		for t, n := range bytes.temporals[e] {
			m.temporals[e][t].round(through.has(e, 0, t), n, past)
		}
		for i, n := range bytes.uppers[e] {
			m.uppers[e][i].round(through.has(e, i+1, 0), n, past)
		}
	}
}

func (r *layerRate) round(through bool, bytes uint64, past time.Duration) {
	now := 8 * float64(bytes-r.last) / past.Seconds()
	r.last = bytes
	if !through {
		r.rounds = 0
		return
	}
	n := r.rounds
	r.rounds++
	switch {
	case !r.known:
		if r.rate += (now - r.rate) / float64(n+1); n >= layerRounds {
			r.known = true
		}
	case n < layerSettling: // it begins to flow, with a keyframe: what was known of it is better
	default:
		r.rate += (now - r.rate) / layerRounds
	}
}

// rates are those measured so far; whole makes one of all an encoding's layers, for who takes all or none.
func (m *layerMeter) rates(whole bool) (rates layerRates, uppers upperRates) {
	for e := range rates {
		sum := 0.0
		for t := range rates[e] {
			rates[e][t] = m.temporals[e][t].rate
			sum += rates[e][t]
		}
		for i := range uppers[e] {
			uppers[e][i] = m.uppers[e][i].rate
			sum += uppers[e][i]
		}
		if whole {
			rates[e], uppers[e] = [layerTemporals]float64{sum}, [layerUppers]float64{}
		}
	}
	return rates, uppers
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
		bytes, through := l.tx.layersOf(f)
		m.round(&through, &bytes, past)
	}
	for id, m := range y.meters {
		if m.seen != y.rounds {
			delete(y.meters, id)
		}
	}
}

// layersOf returns what a flow brought, and what of it is let through.
func (s *sender) layersOf(f *sendFlow) (bytes layerCount, through layersThrough) {
	s.mu.Lock()
	defer s.mu.Unlock()
	through.set = rtpstream.EncodingSet(f.pass.Load())
	for e := range f.enc {
		if through.layers[e] = f.enc[e].gate.Now(); !f.sparse {
			through.layers[e] = rtpstream.AllLayers
		}
	}
	return f.layerBytes, through
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
		lf := layerFlow{id: f.id, audio: f.audio, wanted: wanted.Encodings, layers: wanted.Layers, encodings: encodings}
		if m := y.meters[f.id]; m != nil {
			lf.rates, lf.uppers = m.rates(!f.sparse)
		}
		y.flows = append(y.flows, lf)
	}
	limits := y.planner.step(y.flows, float64(state.budget)/(1+y.repair), now)
	audio := Bitrate(0)
	for i, f := range served {
		lf := &y.flows[i]
		f.restrict(limits[i], lf.short() && !limits[i].less(lf.full()), state.shed)
		t.tellLimit(f)
		if f.audio {
			audio += Bitrate(lf.cost(layerEverything) * (1 + y.repair))
		}
	}
	if p := &y.planner; p.held > 0 {
		l.tx.want(Bitrate(p.all*(1+y.repair)), Bitrate(p.next*(1+y.repair)), audio)
	} else {
		l.tx.want(0, 0, audio)
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
		l.crossed(&l.left, id)
		return
	}
	pl.withheld.Store(uint32(rtpstream.AllEncodings &^ can))
	pl.remote.limits()
}
