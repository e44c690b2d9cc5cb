package cascade

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

// A camera of 150, 500 and 1800 kbit/s in three temporal layers each, and a microphone of 50.
func cameraFlow(id uint32, wanted rtpstream.EncodingSet) layerFlow {
	f := layerFlow{id: id, wanted: wanted, layers: rtpstream.Everything(wanted).Layers, encodings: 3}
	for e, rate := range []float64{150e3, 500e3, 1800e3} {
		f.rates[e] = [layerTemporals]float64{rate * 0.5, rate * 0.2, rate * 0.3}
	}
	return f
}

func microphoneFlow(id uint32) layerFlow {
	f := layerFlow{id: id, audio: true, wanted: 1, encodings: 1}
	f.rates[0][0] = 50e3
	return f
}

func TestPlanLayers(t *testing.T) {
	const all = rtpstream.AllTemporal
	top := cameraFlow(2, 0b100)
	slow := cameraFlow(3, 0b100)
	slow.layers = rtpstream.UpTo(slow.wanted, rtpstream.Layers{}).Layers
	never := layerFlow{id: 4, wanted: 0b111, layers: rtpstream.Everything(0b111).Layers, encodings: 3}
	for _, x := range []struct {
		name   string
		flows  []layerFlow
		budget float64
		want   []layerLimit
		spent  float64
	}{
		{"no limit", []layerFlow{microphoneFlow(1), top}, 0, []layerLimit{layerEverything, layerEverything}, 1850e3},
		{"all fits", []layerFlow{microphoneFlow(1), top}, 1850e3, []layerLimit{layerEverything, layerEverything}, 1850e3},
		{"audio always", []layerFlow{top, microphoneFlow(1), microphoneFlow(5)}, 60e3, []layerLimit{layerNothing, layerEverything, layerEverything}, 100e3},
		{"base layer first", []layerFlow{top, cameraFlow(5, 0b100)}, 160e3, []layerLimit{{encoding: 0, temporal: 0}, {encoding: 0, temporal: 0}}, 150e3},
		{"one more temporal layer", []layerFlow{top, cameraFlow(5, 0b100)}, 190e3, []layerLimit{{encoding: 0, temporal: 1}, {encoding: 0, temporal: 0}}, 180e3},
		{"a lower encoding stands in", []layerFlow{top}, 1000e3, []layerLimit{{encoding: 2, temporal: 0}}, 900e3},
		{"in full", []layerFlow{top}, 800e3, []layerLimit{{encoding: 1, temporal: all}}, 500e3},
		{"lower ones that are watched are sent as well", []layerFlow{cameraFlow(2, 0b111)}, 1600e3, []layerLimit{{encoding: 2, temporal: 0}}, 1550e3},
		{"what is not wanted costs nothing", []layerFlow{cameraFlow(2, 0)}, 10e3, []layerLimit{layerEverything}, 0},
		{"few frames wanted", []layerFlow{slow}, 900e3, []layerLimit{layerEverything}, 900e3},
		{"never seen", []layerFlow{never}, 1e6, []layerLimit{{encoding: 1, temporal: all}}, 750e3},
	} {
		t.Run(x.name, func(t *testing.T) {
			p := planLayers(x.flows, x.budget)
			require.Equal(t, x.want, p.limits)
			require.InDelta(t, x.spent, p.spent, 1)
		})
	}
}

// Nobody gets a second encoding before everybody has a first.
func TestPlanLayersIsFair(t *testing.T) {
	var flows []layerFlow
	for i := range uint32(8) {
		flows = append(flows, cameraFlow(i, 0b111))
	}
	for budget := 100e3; budget < 25e6; budget *= 1.07 {
		p := planLayers(flows, budget)
		require.LessOrEqual(t, p.spent, budget)
		least, most := p.limits[0], p.limits[0]
		for _, l := range p.limits {
			if l.less(least) {
				least = l
			}
			if most.less(l) {
				most = l
			}
		}
		require.LessOrEqual(t, most.encoding-least.encoding, int8(rtpstream.MaxEncodings-2))
		if least.encoding >= 0 && most != layerEverything {
			require.LessOrEqual(t, most.encoding-least.encoding, int8(1))
		}
	}
	require.InDelta(t, 8*2450e3, planLayers(flows, 0).all, 1)
}

func TestLayerPlannerGoesDownAtOnceAndUpStepwise(t *testing.T) {
	var p layerPlanner
	flows := []layerFlow{cameraFlow(1, 0b111), cameraFlow(2, 0b111), microphoneFlow(3)}
	now := time.Second
	require.Equal(t, []layerLimit{layerEverything, layerEverything, layerEverything}, p.step(flows, 0, now))
	require.Zero(t, p.held)
	now += 10 * ms
	low := p.step(flows, 700e3, now)
	require.Equal(t, 2, p.held)
	require.Less(t, low[0].encoding, int8(2))
	require.InDelta(t, 4950e3, p.all, 1)

	steps := []time.Duration{}
	last := low
	for ; now < 10*time.Second; now += 25 * ms { // the way is wide again
		next := p.step(flows, 8e6, now)
		for i := range next {
			require.False(t, next[i].less(last[i]))
			if next[i] != layerEverything {
				require.LessOrEqual(t, next[i].encoding, last[i].encoding+1)
			}
		}
		if next[0] != last[0] {
			steps = append(steps, now)
		}
		last = next
	}
	require.Zero(t, p.held)
	require.GreaterOrEqual(t, len(steps), 3)
	for i := 1; i < len(steps); i++ {
		require.GreaterOrEqual(t, steps[i]-steps[i-1], layerStep)
	}
	require.Less(t, steps[len(steps)-1], 4*time.Second)
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// Rates and budgets that vary a little move nothing.
func TestLayerPlannerStaysWhereItIs(t *testing.T) {
	var p layerPlanner
	flows := []layerFlow{cameraFlow(1, 0b111), cameraFlow(2, 0b111), cameraFlow(3, 0b111)}
	p.step(flows, 0, 0)
	var last []layerLimit
	changes := 0
	for i := range 400 {
		budget := 3e6
		if i%2 == 0 {
			budget *= 0.98
		}
		for f := range flows {
			flows[f] = cameraFlow(flows[f].id, 0b111)
			for e := range flows[f].rates {
				flows[f].rates[e][0] *= 1 + 0.02*float64((i*7+f*3)%5-2)
			}
		}
		next := p.step(flows, budget, time.Duration(i)*100*ms)
		if i > 50 {
			for f := range next {
				changes += b2i(next[f] != last[f])
			}
		}
		last = next
	}
	require.LessOrEqual(t, changes, 4)
}

// A step up that has to be taken back is not tried again at once.
func TestLayerPlannerBacksOff(t *testing.T) {
	var p layerPlanner
	flows := []layerFlow{cameraFlow(1, 0b111)}
	p.step(flows, 0, 0)
	p.step(flows, 700e3, ms)
	ups := 0
	for now := 10 * ms; now < 20*time.Second; now += 50 * ms {
		before := p.limits[1]
		budget := 1800e3
		if before.encoding == 2 {
			budget = 700e3 // whatever was promised, it does not fit
		}
		p.step(flows, budget, now)
		ups += b2i(before.less(p.limits[1]))
	}
	require.Less(t, ups, 16)
}

// A flow that is new, or wanted anew, gets at once what fits.
func TestLayerPlannerServesNewFlows(t *testing.T) {
	var p layerPlanner
	p.step([]layerFlow{cameraFlow(1, 0b111)}, 9e6, time.Second)
	limits := p.step([]layerFlow{cameraFlow(1, 0b111), cameraFlow(2, 0b100)}, 9e6, time.Second+ms)
	require.Equal(t, []layerLimit{layerEverything, layerEverything}, limits)
	limits = p.step([]layerFlow{cameraFlow(1, 0b111), cameraFlow(2, 0b100)}, 3e6, time.Second+2*ms)
	require.True(t, limits[1].less(layerEverything))
	limits = p.step([]layerFlow{cameraFlow(2, 0b100), cameraFlow(3, 0b001)}, 3e6, time.Second+3*ms)
	require.Equal(t, layerEverything, limits[1])
	require.Len(t, p.limits, 2, "what ended is forgotten")
}
