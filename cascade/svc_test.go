package cascade

import (
	"encoding/binary"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/meshpb/cascadepb"
	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

// layeredSpatials is how many spatial layers a layered publisher sends, in two temporal ones.
const layeredSpatials = 3

// layered publishes one stream with three spatial layers, the upper ones predicted from the lower in keyframes only
// (L3T2_KEY), 30 pictures a second: of VP9, or of AV1 with layers in OBU headers.
type layered struct {
	*rtpstream.Source
	av1   bool
	pool  rtpstream.Pool
	seq   uint16
	frame int
	stop  chan struct{}

	mu    sync.Mutex
	key   bool // the next picture is a keyframe
	asked int
}

func newLayered(mime string) *layered {
	p := &layered{av1: mime == "video/AV1", key: true, stop: make(chan struct{})}
	p.Source = rtpstream.NewSource(rtpstream.SourceInfo{ID: "TR_1", MIMEType: mime, ClockRate: 90000, Encodings: 1}, p)
	return p
}

func (p *layered) RequestKeyframe(uint8, rtpstream.KeyframeReason) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.key, p.asked = true, p.asked+1
}
func (p *layered) DemandChanged() {}

func (p *layered) requests() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked
}

func (p *layered) run(now func() time.Duration) {
	tick := time.NewTicker(time.Second / 30)
	defer tick.Stop()
	for {
		select {
		case <-p.stop:
			return
		case <-tick.C:
		}
		p.mu.Lock()
		key := p.key
		p.key = false
		p.mu.Unlock()
		for spatial := range uint8(layeredSpatials) {
			for part := range 2 {
				p.send(key, spatial, part, now())
			}
		}
		p.frame++
	}
}

func (p *layered) send(key bool, spatial uint8, part int, now time.Duration) {
	pkt := p.pool.Get()
	tid := uint8(p.frame & 1)
	if key {
		tid = 0
	}
	raw := pkt.Buffer()[:12]
	clear(raw)
	raw[0], raw[1] = 0x80, 96
	if spatial == layeredSpatials-1 && part == 1 {
		raw[1] |= 0x80
	}
	binary.BigEndian.PutUint16(raw[2:], p.seq)
	binary.BigEndian.PutUint32(raw[4:], uint32(p.frame)*3000+90000)
	p.seq++
	switch {
	case p.av1 && part == 0:
		raw = append(raw, 0x50|bit(key && spatial == 0, 3), 0x34, tid<<5|spatial<<3)
	case p.av1:
		raw = append(raw, 0x90, 0, 0)
	default:
		first := 0xb0 | bit(!key, 6) | bit(part == 0, 3) | bit(part == 1, 2) // I L F, P, B, E
		raw = append(raw, first, 0x80|byte(p.frame>>8&0x7f), byte(p.frame), tid<<5|bit(tid > 0, 4)|spatial<<1|bit(key && spatial > 0, 0))
		if !key {
			raw = append(raw, 1<<1)
		}
	}
	raw = raw[:len(raw)+100*(1+int(spatial)*2)] // 100, 300 and 500 bytes
	if err := pkt.Parse(len(raw)); err != nil {
		panic(err)
	}
	pkt.Arrival = now
	stream := p.Stream(0)
	stream.Describe(pkt)
	if p.av1 && part == 1 { // an OBU that continues tells no layer
		pkt.Spatial, pkt.Temporal = spatial, tid
	}
	stream.Write(pkt)
	pkt.Release()
}

// pictures is a sink that remembers which layers of each picture came.
type pictures struct {
	mu   sync.Mutex
	list []pictureSeen
}

type pictureSeen struct {
	ts      uint64
	key     bool
	packets [layeredSpatials]int
}

func (s *pictures) WritePacket(p *rtpstream.Packet) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.list); n == 0 || s.list[n-1].ts != p.ExtTimestamp {
		s.list = append(s.list, pictureSeen{ts: p.ExtTimestamp})
	}
	last := &s.list[len(s.list)-1]
	last.key = last.key || p.Keyframe
	last.packets[p.Spatial]++
}

// take returns what came since the last call.
func (s *pictures) take() []pictureSeen {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.list
	s.list = nil
	return out
}

// top is the highest spatial layer of a picture, whose layers below must be whole.
func (x pictureSeen) top(t *testing.T) int {
	t.Helper()
	top := -1
	for l, n := range x.packets {
		if n > 0 {
			require.Equal(t, 2, n, "a layer in part: %+v", x)
			require.Equal(t, top+1, l, "without the layer below: %+v", x)
			top = l
		}
	}
	return top
}

// Of a stream with spatial layers those cross that are watched, over two hops; down with a picture, up with a keyframe.
func TestSpatialLayersCrossOnDemand(t *testing.T) {
	for _, mime := range []string{"video/VP9", "video/AV1"} {
		t.Run(mime, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { testSpatialLayers(t, mime) })
		})
	}
}

func testSpatialLayers(t *testing.T, mime string) {
	h := newHub(20 * time.Millisecond)
	a, b, c := startStation(t, h, "a"), startStation(t, h, "b"), startStation(t, h, "c")
	p := newLayered(mime)
	a.offer("TR_1", p.Source)
	src := mesh.Source{ID: "TR_1", Kind: mesh.Video, MIMEType: mime, ClockRate: 90000, Encodings: make([]mesh.Encoding, 1)}
	rb := b.Remote(room, src, "a")
	defer rb.Close()
	b.deps.Relay = func(RelayRequest) (*rtpstream.Source, bool) { return rb.Media(), true }
	rc := c.Remote(room, src, "a")
	defer rc.Close()
	rc.PullFrom("b")
	go p.run(a.now)
	defer close(p.stop)

	near, far := new(pictures), new(pictures)
	small := rtpstream.Layers{Spatial: 0, Temporal: rtpstream.AllTemporal}
	rb.Media().Subscribe(near).SetDemand(rtpstream.UpTo(1, small))
	sub := rc.Media().Subscribe(far)
	sub.SetDemand(rtpstream.UpTo(1, small))
	time.Sleep(2 * time.Second)
	require.Equal(t, rtpstream.UpTo(1, small), p.Demand())
	for _, s := range []*pictures{near, far} {
		got := s.take()
		require.InDelta(t, 58, len(got), 5)
		for _, x := range got {
			require.Zero(t, x.top(t))
		}
	}
	mbit := func(from *station, to string) float64 {
		return float64(from.status(t, mesh.NodeID(to)).Out.VideoBytes) * 8 / 1e6
	}
	before := mbit(a, "b")
	require.InDelta(t, 2*30*2*112*8/1e6, before, 0.02, "a ninth of 0.97 Mbit/s")

	// One of them wants the middle layer, with half the pictures.
	asked := p.requests()
	sub.SetDemand(rtpstream.UpTo(1, rtpstream.Layers{Spatial: 1, Temporal: 0}))
	time.Sleep(2 * time.Second)
	require.Equal(t, rtpstream.UpTo(1, rtpstream.Layers{Spatial: 1, Temporal: rtpstream.AllTemporal}), p.Demand(), "the union")
	got := far.take()
	began := 0
	for i, x := range got {
		if began == 0 && x.top(t) > 0 {
			require.True(t, x.key, "a layer begins with a keyframe")
			began = i
		}
		if began > 0 {
			require.Equal(t, 1, x.top(t), i)
		}
	}
	require.InDelta(t, 31, len(got), 6, "half of the pictures")
	require.Positive(t, began)
	require.Less(t, began, 12)
	require.Equal(t, asked+1, p.requests(), "one keyframe for it")

	// And nobody wants it any more, in the middle of a picture or not.
	sub.SetDemand(rtpstream.UpTo(1, small))
	time.Sleep(time.Second)
	got = far.take()
	require.Zero(t, got[len(got)-1].top(t))
	for _, x := range got {
		x.top(t)
	}
	for _, r := range []*RemoteSource{rb, rc} {
		st := r.Media().Stream(0).Stats()
		require.Zero(t, st.Lost)
		require.Positive(t, st.Withheld)
	}
}

// To a peer that says nothing of layers everything is sent.
func TestDemandMessage(t *testing.T) {
	type layers = rtpstream.Layers
	for name, tc := range map[string]struct {
		want rtpstream.Demand
		says int
	}{
		"nothing":                  {rtpstream.Demand{}, 0},
		"everything":               {rtpstream.Everything(0b101), 0},
		"one limit for all":        {rtpstream.UpTo(0b11, layers{Spatial: rtpstream.AllSpatial, Temporal: 1}), 0},
		"limits of their own":      {rtpstream.UpTo(0b01, layers{Spatial: rtpstream.AllSpatial}).Union(rtpstream.Everything(0b10)), 1},
		"a spatial layer":          {rtpstream.UpTo(0b1, layers{Spatial: 1, Temporal: 2}), 1},
		"a spatial layer of three": {rtpstream.UpTo(0b100, layers{Spatial: 0, Temporal: 2}), 3},
	} {
		m := demandMessage(tc.want, 0)
		require.Equal(t, tc.want, demandOf(m), name)
		require.Len(t, m.GetLayers(), tc.says, name)
	}
	old := &cascadepb.Demand{Encodings: 0xff, MaxTemporal: 1}
	require.Equal(t, rtpstream.UpTo(rtpstream.AllEncodings, layers{Spatial: rtpstream.AllSpatial, Temporal: 1}), demandOf(old))
	lie := &cascadepb.Demand{Encodings: 2, MaxTemporal: 1 << 20, Layers: []*cascadepb.LayerDemand{
		{MaxSpatial: 3}, {MaxSpatial: 1 << 30, MaxTemporal: 300}, {}, {}, {MaxSpatial: 1}, nil,
	}}
	require.Equal(t, rtpstream.Everything(2), demandOf(lie), "of no encoding, or of none that is wanted")
}

// A stream with spatial layers is stepped down by them before its temporal ones, and up again.
func TestPlanSpatialLayers(t *testing.T) {
	f := layerFlow{id: 1, wanted: 1, layers: rtpstream.Everything(1).Layers, encodings: 1}
	f.rates[0] = [layerTemporals]float64{60e3, 20e3, 20e3}
	f.uppers[0] = [layerUppers]float64{300e3, 900e3}
	for budget, want := range map[float64]layerLimit{
		0: layerEverything, 50e3: layerNothing, 70e3: {}, 90e3: {temporal: 1}, 200e3: {temporal: rtpstream.AllTemporal},
		500e3: {temporal: rtpstream.AllTemporal, spatial: 1}, 1300e3: layerEverything,
	} {
		require.Equal(t, want, planLayers([]layerFlow{f}, budget).limits[0], budget)
	}
	f.layers = rtpstream.UpTo(1, rtpstream.Layers{Spatial: 1, Temporal: 1}).Layers
	require.Equal(t, layerEverything, planLayers([]layerFlow{f}, 390e3).limits[0], "what is not wanted costs nothing")
	require.Equal(t, layerLimit{temporal: 0}, planLayers([]layerFlow{f}, 70e3).limits[0])
	require.InDelta(t, 380e3, f.own(0), 1)
}
