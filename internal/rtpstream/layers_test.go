package rtpstream

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// described is a packet as Describe leaves it, of a stream of the codec.
func described(t *testing.T, s *Stream, seq uint16, ts uint32, extension []byte, payload ...byte) *Packet {
	t.Helper()
	raw := rtpBytes(seq, ts, payload...)
	if extension != nil {
		words := (len(extension) + 2 + 3) / 4
		head := []byte{0x10, 0, 0, byte(words), 5, byte(len(extension))} // two-byte form, ID 5
		head = append(append(head, extension...), make([]byte, 4*words-2-len(extension))...)
		raw[0] |= 0x10
		raw = append(raw[:12:12], append(head, payload...)...)
	}
	p, err := fill(new(Pool), raw)
	require.NoError(t, err)
	s.Describe(p)
	return p
}

// told is what Describe sets.
type told struct {
	described, keyframe, start, end, discardable bool
	spatial, temporal, from, to                  uint8
}

func tell(p *Packet) told {
	return told{p.Described, p.Keyframe, p.FrameStart, p.FrameEnd, p.Discardable, p.Spatial, p.Temporal, p.RiseFrom, p.RiseTo}
}

func streamOf(mime string, dependencies uint8) *Stream {
	return NewSource(SourceInfo{MIMEType: mime, ClockRate: 90000, DependencyDescriptor: dependencies}, &fakeFeedback{}).Stream(0)
}

func TestDescribeVP8(t *testing.T) {
	s := streamOf("video/VP8", 0)
	d := VP8Descriptor{Start: true, HasTID: true, TID: 2, LayerSync: true, NonReference: true}
	p := described(t, s, 1, 0, nil, append(d.Append(nil), 1, 0)...)
	require.Equal(t, told{described: true, start: true, discardable: true, temporal: 2, to: 2}, tell(p))
	require.Nil(t, s.Structure())
}

func TestDescribeVP9(t *testing.T) {
	s := streamOf("video/vp9", 0)
	p := described(t, s, 1, 0, nil, 0xba, 0x80, 0x01, 0x00, 0x50, 1, 64, 0, 180, 2, 128, 1, 104, 5, 0, 2, 208, 0xff)
	require.Equal(t, told{described: true, keyframe: true, start: true}, tell(p))
	require.Equal(t, 3, s.Structure().Spatials)
	require.Equal(t, PictureSize{1280, 720}, s.Structure().Sizes[2])

	p = described(t, s, 2, 0, nil, 0x3c, 0x03, 0xff) // L F B E, SID 1 D
	require.Equal(t, told{described: true, start: true, end: true, spatial: 1}, tell(p), "no keyframe of its own")

	p = described(t, s, 3, 0, nil, 0x7c, 0x50, 2, 0xff) // P L F B E, TID 2 U
	require.Equal(t, told{described: true, start: true, end: true, temporal: 2, from: 1, to: 2}, tell(p))

	p = described(t, s, 4, 0, nil, 0x80)
	require.Equal(t, told{}, tell(p), "malformed")
}

func TestDescribeAV1(t *testing.T) {
	s := streamOf("video/AV1", 5)
	p := described(t, s, 1, 0, spatial(0).b, 0x18, 0x08, 0)
	require.Equal(t, told{described: true, keyframe: true, start: true, end: true, to: 1}, tell(p))
	require.Equal(t, Structure{Spatials: 2, HasSizes: true, Sizes: [MaxSpatial]PictureSize{{320, 180}, {640, 360}}}, *s.Structure())

	p = described(t, s, 2, 0, []byte{0xc5, 0, 3}, 0x10, 0x30, 0)
	require.Equal(t, told{described: true, start: true, end: true, discardable: true, spatial: 1, temporal: 1, from: 1}, tell(p))

	p = described(t, s, 3, 0, []byte{0xf0, 0, 3}, 0x10, 0x34, 0x28)
	require.Equal(t, told{spatial: 1, temporal: 1}, tell(p), "a descriptor that cannot be read, then the payload")

	plain := streamOf("video/AV1", 0)
	p = described(t, plain, 1, 0, nil, 0x18, 0x34, 0x10)
	require.Equal(t, told{keyframe: true, spatial: 2}, tell(p))
	require.Equal(t, Structure{Spatials: 3}, *plain.Structure())
}

func TestDescribeH264(t *testing.T) {
	s := streamOf("video/H264", 0)
	for name, tc := range map[string]struct {
		payload []byte
		want    bool
	}{
		"parameter set":         {[]byte{0x67, 1}, true},
		"interframe":            {[]byte{0x41, 1}, false},
		"picture after its set": {[]byte{0x65, 1}, false},
		"set among others":      {[]byte{0x78, 0, 2, 0x68, 1, 0, 2, 0x67, 1}, true},
		"none among others":     {[]byte{0x78, 0, 2, 0x68, 1, 0, 2, 0x41, 1}, false},
		"others cut":            {[]byte{0x78, 0, 9, 0x67, 1}, false},
		"nothing":               {[]byte{0x67}, false},
	} {
		require.Equal(t, tc.want, described(t, s, 1, 0, nil, tc.payload...).Keyframe, name)
	}
}

func TestComplete(t *testing.T) {
	s := streamOf("video/VP9", 0)
	p, err := fill(new(Pool), rtpBytes(1, 0, 0x7c, 0x50, 2, 0xff))
	require.NoError(t, err)
	p.Spatial, p.Temporal = 1, 2
	s.Complete(p)
	require.Equal(t, told{described: true, start: true, end: true, spatial: 1, temporal: 2, from: 1, to: 2}, tell(p), "what was known stays")
}

func TestDemandUnion(t *testing.T) {
	small, large := Layers{0, 1}, Layers{2, 0}
	d := UpTo(0b01, small).Union(UpTo(0b11, large))
	require.Equal(t, Demand{Encodings: 0b11, Layers: [MaxEncodings]Layers{{2, 1}, {2, 0}}}, d)
	require.Equal(t, d, Demand{}.Union(d))
	require.Equal(t, UpTo(0b10, large), d.Only(0b10))
	require.Equal(t, Layers{0, 0}, small.Intersect(large))
}

// picture is one picture of three spatial layers.
type picture struct {
	tid      uint8
	key      bool
	from, to uint8
}

// passes gives pictures to a gate and tells which spatial layers of each passed, and where the marker would stand.
func passes(g *LayerGate, at *uint64, pictures ...picture) (out []int, waited bool) {
	for _, x := range pictures {
		*at++
		n := 0
		for spatial := range uint8(3) {
			p := &Packet{
				ExtTimestamp: *at, Keyframe: x.key && spatial == 0, Described: true, FrameStart: true, FrameEnd: true, Marker: spatial == 2,
				Spatial: spatial, Temporal: x.tid, RiseFrom: x.from, RiseTo: x.to,
			}
			pass, waits := g.Pass(p)
			waited = waited || waits
			if pass {
				n++
				if g.Last(p) {
					n += 10
				}
			}
		}
		out = append(out, n)
	}
	return out, waited
}

func TestLayerGateSpatial(t *testing.T) {
	var g LayerGate
	at := uint64(0)
	g.Open(AllLayers)
	got, _ := passes(&g, &at, picture{key: true}, picture{})
	require.Equal(t, []int{13, 13}, got)

	at++
	pass, _ := g.Pass(&Packet{ExtTimestamp: at})
	require.True(t, pass)
	g.Want(Layers{Spatial: 0, Temporal: 2})
	pass, _ = g.Pass(&Packet{ExtTimestamp: at, Spatial: 2})
	require.True(t, pass, "down at the end of the picture")
	got, _ = passes(&g, &at, picture{}, picture{key: true})
	require.Equal(t, []int{11, 11}, got)

	g.Want(Layers{Spatial: 1, Temporal: 2})
	got, waited := passes(&g, &at, picture{}, picture{})
	require.Equal(t, []int{11, 11}, got, "up at a keyframe")
	require.True(t, waited)
	got, waited = passes(&g, &at, picture{key: true}, picture{})
	require.Equal(t, []int{12, 12}, got)
	require.False(t, waited)

	pass, _ = g.Pass(&Packet{ExtTimestamp: at - 1, Spatial: 2})
	require.False(t, pass, "late")
}

func TestLayerGateLoses(t *testing.T) {
	var g LayerGate
	at := uint64(0)
	g.Open(AllLayers)
	g.Lose(2)
	got, waited := passes(&g, &at, picture{}, picture{})
	require.Equal(t, []int{12, 12}, got)
	require.True(t, waited, "for a keyframe")
	g.Lose(1)
	g.Lose(2)
	g.Lose(0)
	got, _ = passes(&g, &at, picture{}, picture{key: true}, picture{})
	require.Equal(t, []int{11, 13, 13}, got)
}

func TestLayerGateTemporal(t *testing.T) {
	var g LayerGate
	at := uint64(0)
	g.Open(AllLayers)
	g.Want(Layers{Spatial: 2, Temporal: 0})
	base, middle, high, highSync := picture{}, picture{tid: 1, to: 1}, picture{tid: 2}, picture{tid: 2, from: 1, to: 2}
	got, _ := passes(&g, &at, base, high, middle, high)
	require.Equal(t, []int{13, 0, 0, 0}, got, "down at once")

	g.Want(AllLayers)
	got, _ = passes(&g, &at, highSync, high, base, high, middle, high, highSync, high)
	require.Equal(t, []int{0, 0, 13, 0, 13, 0, 13, 13}, got, "up where it can be decoded, one after the other")

	g.Want(Layers{Spatial: 2, Temporal: 1})
	g.Want(AllLayers)
	got, _ = passes(&g, &at, high, picture{to: 2}, high)
	require.Equal(t, []int{0, 13, 13}, got, "after a picture after which they can be (DTI)")

	g.Want(Layers{Spatial: 2})
	g.Want(AllLayers)
	got, _ = passes(&g, &at, picture{key: true}, high)
	require.Equal(t, []int{13, 13}, got, "at a keyframe")

	g.Want(Layers{Spatial: 2})
	g.Want(Layers{Spatial: 2, Temporal: 1})
	pass, _ := g.Pass(&Packet{ExtTimestamp: at, Temporal: 2})
	require.False(t, pass)
	pass, _ = g.Pass(&Packet{ExtTimestamp: at, Temporal: 1})
	require.True(t, pass, "who tells nothing is believed")
}
