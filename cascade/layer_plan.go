package cascade

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

// Parameters of the layer budget.
const (
	layerTemporals  = 4                      // temporal layers told apart; those above count as the last
	layerUppers     = 3                      // spatial layers above the lowest told apart, likewise
	layerHeadroom   = 0.97                   // of the budget that a step up may fill
	layerSlack      = 1.04                   // of the budget that is not worth a step down: rates vary
	layerStep       = 250 * time.Millisecond // between steps up
	layerStepMost   = 4 * time.Second        // the same after steps that had to be taken back
	layerTakenBack  = 2 * time.Second        // a step down so soon after one up takes it back
	layerKeyframe   = 200 * time.Millisecond // worth of an encoding is the keyframe it begins with …
	layerKeyframes  = 60 * time.Millisecond  // … and worth of the budget are those of one step
	layerGuess      = 150e3                  // bits per second of a smallest encoding that was never seen …
	layerGuessTimes = 4                      // … and how much larger each is than the one below
)

// layerRates are the bits per second of a flow's encodings, by temporal layer of the lowest spatial one.
type layerRates [rtpstream.MaxEncodings][layerTemporals]float64

// upperRates are the same of the spatial layers above, with all temporal layers.
type upperRates [rtpstream.MaxEncodings][layerUppers]float64

// layerFlow is a flow as the budget sees it.
type layerFlow struct {
	id        uint32
	audio     bool
	wanted    rtpstream.EncodingSet // by the far side, of those there are
	layers    [rtpstream.MaxEncodings]rtpstream.Layers
	encodings int // that may be sent: those below may stand in for a wanted one
	rates     layerRates
	uppers    upperRates
}

// layerLimit is the most of a flow that is sent: encodings below Encoding in full, that one up to a spatial and a temporal
// layer, none above. They are ordered.
type layerLimit struct {
	encoding int8 // −1 is nothing at all
	temporal uint8
	spatial  uint8
}

var (
	layerNothing    = layerLimit{encoding: -1}
	layerEverything = layerLimit{rtpstream.MaxEncodings, rtpstream.AllTemporal, rtpstream.AllSpatial}
)

func (l layerLimit) less(o layerLimit) bool {
	return cmp.Or(cmp.Compare(l.encoding, o.encoding), cmp.Compare(l.spatial, o.spatial), cmp.Compare(l.temporal, o.temporal)) < 0
}

// layerRung is one step of what can be sent of a flow.
type layerRung struct {
	limit layerLimit
	cost  float64
}

// maxRungs bounds a flow's ladder.
const maxRungs = rtpstream.MaxEncodings * (layerTemporals + layerUppers)

// ladder is what can be sent of a flow, least first: the smallest encoding's base layer, its further temporal layers, its
// further spatial layers, each with all temporal ones, the next encoding … up to the largest one wanted. Where a rung ends below what is wanted, its encoding stands in for
// all wanted above; wanted ones below are sent as well, for those who watch these.
func (f *layerFlow) ladder(out []layerRung) []layerRung {
	top := -1
	for e := range f.encodings {
		if f.wanted.Has(uint8(e)) {
			top = e
		}
	}
	if f.short() { // not all of those wanted can come: the largest that can stands in
		top = f.encodings - 1
	}
	below := 0.0
	for e := 0; e <= top; e++ {
		cost, wanted := 0.0, standIn(rtpstream.Demand{Layers: f.layers}, uint8(e))
		for m := range uint8(layerTemporals) {
			rate := f.rate(e, m)
			last := m == layerTemporals-1 || m >= wanted.Temporal || !f.more(e, m)
			if cost += rate; rate > 0 || last {
				limit := layerLimit{encoding: int8(e), temporal: m}
				if last {
					limit.temporal = rtpstream.AllTemporal
				}
				out = append(out, layerRung{limit, below + cost})
			}
			if last {
				break
			}
		}
		for i, rate := range f.uppers[e] {
			if s := uint8(i) + 1; rate > 0 && s <= wanted.Spatial {
				cost += rate
				out = append(out, layerRung{layerLimit{int8(e), rtpstream.AllTemporal, s}, below + cost})
			}
		}
		if f.wanted.Has(uint8(e)) {
			below += f.own(e)
		}
	}
	return out
}

// own is what an encoding takes as it is wanted.
func (f *layerFlow) own(e int) (cost float64) {
	for m := range uint8(layerTemporals) {
		if m <= f.layers[e].Temporal {
			cost += f.rate(e, m)
		}
	}
	for i, rate := range f.uppers[e] {
		if uint8(i) < f.layers[e].Spatial {
			cost += rate
		}
	}
	return cost
}

// short reports whether larger encodings are wanted than can come here.
func (f *layerFlow) short() bool { return f.encodings > 0 && f.wanted>>f.encodings != 0 }

// full is the limit of a flow that this link does not limit.
func (f *layerFlow) full() layerLimit {
	if f.short() && !f.audio {
		return layerLimit{int8(f.encodings - 1), rtpstream.AllTemporal, rtpstream.AllSpatial}
	}
	return layerEverything
}

// more reports whether an encoding has a layer above m.
func (f *layerFlow) more(e int, m uint8) bool {
	for _, r := range f.rates[e][m+1:] {
		if r > 0 {
			return true
		}
	}
	return false
}

// whole is what all layers of an encoding take, 0 when it was never seen.
func (f *layerFlow) whole(e int) (sum float64) {
	for _, r := range f.rates[e] {
		sum += r
	}
	for _, r := range f.uppers[e] {
		sum += r
	}
	return sum
}

// rate is what a layer takes, by guess when its encoding was never seen.
func (f *layerFlow) rate(e int, m uint8) float64 {
	if f.whole(e) > 0 || m > 0 {
		return f.rates[e][m]
	}
	guess := 0.0
	for below := range e {
		if guess *= layerGuessTimes; f.whole(below) > 0 {
			guess = f.whole(below)
		} else if guess == 0 {
			guess = layerGuess
		}
	}
	if guess == 0 {
		return layerGuess
	}
	return guess * layerGuessTimes
}

// layerPlan is what fits: a limit for each flow, and what all of them would take.
type layerPlan struct {
	limits []layerLimit
	spent  float64
	all    float64
}

// planLayers divides a budget in bits per second: audio always, then every flow's smallest encoding and its base
// layer, then each flow in turn one rung up while that fits. A budget of 0 is no limit. It is pure.
func planLayers(flows []layerFlow, budget float64) layerPlan {
	plan := layerPlan{limits: make([]layerLimit, len(flows))}
	ladders := make([][]layerRung, len(flows))
	cost := make([]float64, len(flows))
	for i := range flows {
		f := &flows[i]
		if f.audio {
			plan.limits[i] = layerEverything
			if f.wanted != 0 {
				plan.spent += f.rate(0, 0)
				plan.all += f.rate(0, 0)
			}
			continue
		}
		ladders[i] = f.ladder(nil)
		plan.limits[i] = layerNothing
		if n := len(ladders[i]); n == 0 {
			plan.limits[i] = layerEverything
		} else {
			plan.all += ladders[i][n-1].cost
		}
	}
	for rung := range maxRungs {
		for i, ladder := range ladders {
			if rung >= len(ladder) || rung > 0 && plan.limits[i] != ladder[rung-1].limit {
				continue
			}
			more := ladder[rung].cost - cost[i]
			if budget != 0 && plan.spent+more > budget {
				continue
			}
			plan.spent, cost[i], plan.limits[i] = plan.spent+more, ladder[rung].cost, ladder[rung].limit
		}
	}
	for i, ladder := range ladders {
		if n := len(ladder); n > 0 && plan.limits[i] == ladder[n-1].limit {
			plan.limits[i] = flows[i].full()
		}
	}
	return plan
}

// layerPlanner turns plans into what is sent: down at once, up a rung of every flow at a time and only into headroom.
// It has no lock and no clock.
type layerPlanner struct {
	limits map[uint32]layerLimit // by flow
	upAt   time.Duration         // latest step
	downAt time.Duration         // latest step down
	gap    time.Duration         // between steps up
	all    float64               // of the latest plan: what everything would take
	next   float64               // what one step up would take
	held   int                   // flows that are not sent in full
}

// step takes the flows and the budget as they are now, 0 for no limit, and returns a limit for each flow.
func (p *layerPlanner) step(flows []layerFlow, budget float64, now time.Duration) []layerLimit {
	plan := planLayers(flows, budget)
	limits := make([]layerLimit, len(flows))
	spent := 0.0
	for i := range flows {
		limit, known := p.limits[flows[i].id]
		if !known || budget == 0 {
			limit = plan.limits[i]
		}
		if full := flows[i].full(); full.less(limit) { // less comes here than did
			limit = full
		}
		limits[i] = limit
		spent += flows[i].cost(limit)
	}
	switch {
	case budget == 0:
		p.gap = 0
	case spent > layerSlack*budget:
		for i := range flows {
			if plan.limits[i].less(limits[i]) {
				limits[i] = plan.limits[i]
			}
		}
		if now-p.upAt < layerTakenBack && p.upAt != 0 {
			p.gap = min(max(2*p.gap, 2*layerStep), layerStepMost)
		}
		p.upAt, p.downAt = now, now
	case now-p.upAt >= max(p.gap, layerStep), now-p.upAt >= layerStep && plan.all < layerHeadroom*budget:
		if p.raise(flows, limits, layerHeadroom*budget-spent, layerKeyframes.Seconds()*budget) {
			if p.upAt = now; now-p.downAt > layerTakenBack {
				p.gap /= 2
			}
		} else if now-p.upAt > 2*layerStepMost {
			p.gap = 0
		}
	}
	p.all, p.held, p.next, spent = plan.all, 0, math.Inf(1), 0
	p.limits = make(map[uint32]layerLimit, len(flows))
	for i := range flows {
		f := &flows[i]
		p.limits[f.id] = limits[i]
		spent += f.cost(limits[i])
		if limits[i].less(f.full()) {
			p.held++
			p.next = min(p.next, f.cost(f.above(limits[i]))-f.cost(limits[i]))
		}
	}
	p.next += spent
	return limits
}

// raise lets each flow go up one rung, those with the least first, while there is room for it, and for the keyframes
// (bits) larger encodings begin with: all at once would find the queue full. None goes more than a rung beyond what
// another found no room for.
func (p *layerPlanner) raise(flows []layerFlow, limits []layerLimit, room, keyframes float64) (rose bool) {
	first, refused := true, layerEverything
	order := make([]int, len(flows))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		if limits[a] == limits[b] {
			return 0
		} else if limits[a].less(limits[b]) {
			return -1
		}
		return 1
	})
	for _, i := range order {
		if !limits[i].less(flows[i].full()) {
			continue
		}
		next, keyframe := flows[i].above(limits[i]), 0.0
		if begins := min(next.encoding, rtpstream.MaxEncodings-1); begins > limits[i].encoding {
			keyframe = layerKeyframe.Seconds() * flows[i].whole(int(begins))
		}
		more := flows[i].cost(next) - flows[i].cost(limits[i])
		switch {
		case refused.less(next): // it is ahead of one that found no room
		case more > room:
			if above := flows[i].above(next); above.less(refused) {
				refused = above
			}
		case keyframe > keyframes && !first: // the next step has room for it
			room -= more
		default:
			limits[i], rose = next, true
			room, keyframes = room-more, keyframes-keyframe
			first = first && keyframe == 0
		}
	}
	return rose
}

// cost is what a flow takes at a limit.
func (f *layerFlow) cost(l layerLimit) (cost float64) {
	if f.audio {
		if f.wanted != 0 {
			cost = f.rate(0, 0)
		}
		return cost
	}
	var buf [maxRungs]layerRung
	for _, r := range f.ladder(buf[:0]) {
		if l.less(r.limit) {
			break
		}
		cost = r.cost
	}
	return cost
}

// above is the first rung above a limit; the last one is everything.
func (f *layerFlow) above(l layerLimit) layerLimit {
	var buf [maxRungs]layerRung
	ladder := f.ladder(buf[:0])
	for i, r := range ladder {
		if l.less(r.limit) && i < len(ladder)-1 {
			return r.limit
		}
	}
	return f.full()
}
