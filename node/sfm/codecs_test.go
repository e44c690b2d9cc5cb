package sfm

import (
	"testing"

	"github.com/pion/sdp/v3"
	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

func TestChooseCodec(t *testing.T) {
	section := func() *sdp.MediaDescription {
		return &sdp.MediaDescription{
			MediaName: sdp.MediaName{Media: "video", Formats: []string{"96", "97", "98", "45"}},
			Attributes: []sdp.Attribute{
				{Key: "rtpmap", Value: "96 VP8/90000"},
				{Key: "rtpmap", Value: "97 rtx/90000"},
				{Key: "rtpmap", Value: "98 VP9/90000"},
				{Key: "rtpmap", Value: "45 AV1/90000"},
				{Key: "extmap", Value: "12 " + rtpstream.DependencyDescriptorURI},
			},
		}
	}
	for mime, want := range map[string]struct {
		first      string
		attributes int
	}{"video/VP8": {"96", 4}, "video/VP9": {"98", 5}, "video/AV1": {"45", 5}, "video/H264": {"96", 4}} {
		m := section()
		chooseCodec(m, mime)
		require.Equal(t, want.first, m.MediaName.Formats[0], mime)
		require.ElementsMatch(t, section().MediaName.Formats, m.MediaName.Formats)
		require.Len(t, m.Attributes, want.attributes, mime)
	}
}

func TestSameFormat(t *testing.T) {
	require.True(t, sameFormat("video/VP9", "profile-id=0", ""))
	require.True(t, sameFormat("video/H264", "a=1; packetization-mode=1", "packetization-mode=1;b=2"))
	require.False(t, sameFormat("video/H264", "packetization-mode=1", "profile-level-id=42e01f"))
	require.True(t, sameFormat("video/H264", "packetization-mode=x", ""))
}

func TestChooseSpatial(t *testing.T) {
	three := &rtpstream.Structure{Spatials: 3, HasSizes: true}
	for l := range uint16(3) {
		three.Sizes[l] = rtpstream.PictureSize{Width: 320 << l, Height: 180 << l}
	}
	unsized := &rtpstream.Structure{Spatials: 2}
	for _, tc := range []struct {
		st   *rtpstream.Structure
		w    Wanted
		want uint8
	}{
		{nil, Wanted{Quality: QualityUnset, Width: 100}, rtpstream.AllSpatial},
		{nil, Wanted{}, 0},
		{three, Wanted{Quality: QualityUnset, Width: 300, Height: 170}, 0},
		{three, Wanted{Quality: QualityUnset, Width: 330}, 1},
		{three, Wanted{Quality: QualityUnset, Width: 641}, rtpstream.AllSpatial},
		{three, Wanted{Quality: 1}, 1},
		{three, Wanted{Quality: 2}, rtpstream.AllSpatial},
		{three, Wanted{Disabled: true}, rtpstream.AllSpatial},
		{unsized, Wanted{Quality: QualityUnset, Width: 500}, 0},
		{unsized, Wanted{Quality: QualityUnset, Width: 900}, rtpstream.AllSpatial},
		{&rtpstream.Structure{Spatials: 1}, Wanted{}, rtpstream.AllSpatial},
	} {
		require.Equal(t, tc.want, chooseSpatial(tc.st, 1280, tc.w), tc)
	}
	vp8 := newLayerChoice(mesh.Source{MIMEType: "video/VP8"}, 1, Wanted{}, 0)
	require.Equal(t, rtpstream.AllLayers, vp8.layers(nil))
	vp9 := newLayerChoice(mesh.Source{MIMEType: "video/VP9", Width: 1280}, 1, Wanted{Quality: QualityUnset, Width: 160, Height: 90}, 0)
	require.Equal(t, rtpstream.Layers{Temporal: 1}, vp9.layers(three))
}

// Of a stream with spatial layers (VP9, L3T1_KEY) a client gets those its picture needs: without gap, the marker at the
// end of what it gets, more from a keyframe on.
func TestSenderChoosesSpatialLayers(t *testing.T) {
	x := benchOf(t, rtpstream.SourceInfo{ID: "TR_V", MIMEType: "video/VP9", ClockRate: 90000, Encodings: 1}, binding{ssrc: 7, payloadType: 98})
	structure := []byte{0x50, 1, 64, 0, 180, 2, 128, 1, 104, 5, 0, 2, 208} // three layers, up to 1280×720
	picture := func(key bool) (layers int) {
		before := len(x.w.list)
		ts := uint32(x.seq) * 3000
		for spatial := range byte(3) {
			x.seq++
			first, rest := byte(0x3c), []byte(nil) // L F B E
			switch {
			case !key:
				first, rest = 0x7c, []byte{1 << 1} // P
			case spatial == 0:
				first, rest = 0x3e, structure // V
			}
			x.putAt(0, ts, spatial == 2, append(append([]byte{first, spatial << 1}, rest...), 0xff))
			x.drain(1)
		}
		sent := x.w.list[before:]
		for i, w := range sent {
			require.Equal(t, i == len(sent)-1, w.header.Marker, i)
			require.EqualValues(t, i, w.payload[1]>>1)
		}
		return len(sent)
	}
	require.Equal(t, 3, picture(true))
	require.Equal(t, 3, picture(false))

	x.s.want(Wanted{Quality: QualityUnset, Width: 300, Height: 170}, 1)
	require.EqualValues(t, 0, x.media.Demand().Layers[0].Spatial)
	require.Equal(t, 1, picture(false))
	require.Equal(t, 1, picture(true))
	asked := x.feedback.keyframes

	x.s.want(Wanted{Quality: QualityUnset, Width: 600, Height: 340}, 1)
	require.EqualValues(t, 1, x.media.Demand().Layers[0].Spatial)
	require.Equal(t, 1, picture(false))
	require.Equal(t, asked+1, x.feedback.keyframes, "asked for, once")
	require.Equal(t, 2, picture(true))
	require.Equal(t, 2, picture(false))
	require.Equal(t, asked+1, x.feedback.keyframes)
	for i, w := range x.w.list[1:] {
		require.Equal(t, x.w.list[i].header.SequenceNumber+1, w.header.SequenceNumber)
	}
}
