package rtpstream

// Layers are a spatial and a temporal layer; of what is wanted, all below as well.
type Layers struct{ Spatial, Temporal uint8 }

// AllTemporal and AllSpatial want every layer.
const (
	AllTemporal = 255
	AllSpatial  = 255
)

// AllLayers wants all of an encoding.
var AllLayers = Layers{Spatial: AllSpatial, Temporal: AllTemporal}

// Union returns what satisfies both.
func (l Layers) Union(o Layers) Layers {
	return Layers{max(l.Spatial, o.Spatial), max(l.Temporal, o.Temporal)}
}

// Intersect returns what neither goes beyond.
func (l Layers) Intersect(o Layers) Layers {
	return Layers{min(l.Spatial, o.Spatial), min(l.Temporal, o.Temporal)}
}

// Has reports whether a layer is among those wanted.
func (l Layers) Has(spatial, temporal uint8) bool {
	return spatial <= l.Spatial && temporal <= l.Temporal
}

// LayerGate lets those layers of one stream pass that its consumer wants and can decode.
//
//	wanted    T2         T0           T2             S2             S0
//	picture   0  2  1  2 │0  2  1  2  │0  2  1y 2y   │0 … K         │0 …
//	passes    0  2  1  2 │0           │0     1  2    │0 … K with S2 │0 without S1, S2
//
// Temporal layers go at once and come where their pictures build on nothing that was left out (y). Spatial layers go
// with the next picture and come with the next keyframe (K). It is pure. The zero value lets the base layer pass.
type LayerGate struct {
	want, now Layers
	picture   uint64 // ExtTimestamp of the newest one
}

// Open lets a consumer begin that can decode whatever it is given next.
func (g *LayerGate) Open(l Layers) { *g = LayerGate{want: l, now: l} }

// Want says what shall pass from here on.
func (g *LayerGate) Want(l Layers) {
	g.want = l
	g.now.Temporal = min(g.now.Temporal, l.Temporal)
}

// Lose tells that a packet of a spatial layer which passed never left, though others build on it: until the next keyframe
// only the layers below pass. Of the lowest there are none, and it goes on.
func (g *LayerGate) Lose(spatial uint8) {
	if spatial > 0 {
		g.now.Spatial = min(g.now.Spatial, spatial-1)
	}
}

// Now is what passes.
func (g *LayerGate) Now() Layers { return g.now }

// Pass reports whether p passes, or whether it waits for a keyframe to do so.
func (g *LayerGate) Pass(p *Packet) (pass, waits bool) {
	if p.ExtTimestamp > g.picture {
		g.picture = p.ExtTimestamp
		g.now.Spatial = min(g.now.Spatial, g.want.Spatial)
	}
	switch {
	case p.ExtTimestamp < g.picture: // late
	case p.Keyframe:
		g.now = g.want
	case g.now.Temporal < g.want.Temporal:
		g.rise(p)
	}
	waits = p.Spatial > g.now.Spatial && g.want.Has(p.Spatial, p.Temporal)
	return g.now.Has(p.Spatial, p.Temporal), waits
}

// rise lets higher temporal layers pass if they can begin with p.
func (g *LayerGate) rise(p *Packet) {
	to := p.RiseTo
	switch {
	case !p.Described:
		to = p.Temporal
	case p.Spatial > 0 || !p.FrameStart || p.RiseFrom > g.now.Temporal:
		return
	}
	g.now.Temporal = max(g.now.Temporal, min(to, g.want.Temporal))
}

// Last reports whether p ends what passes of its picture.
func (g *LayerGate) Last(p *Packet) bool { return p.Marker || p.FrameEnd && p.Spatial == g.now.Spatial }
