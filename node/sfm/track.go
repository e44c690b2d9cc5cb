package sfm

import (
	"strings"
	"sync/atomic"

	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

// rtpWriter is what a sender writes to: Pion's write stream, or a fake in tests.
type rtpWriter interface {
	WriteRTP(header *rtp.Header, payload []byte) (int, error)
}

// binding is what was negotiated for an outgoing stream.
type binding struct {
	writer         rtpWriter
	ssrc           uint32
	rtxSSRC        uint32 // 0 without RTX
	payloadType    uint8
	rtxPayloadType uint8
	extensions     [3]extensionMap // from the publisher's ID to the subscriber's; an unused one is zero
}

// extensionMap is a header extension that is passed on, with a value of so many octets at most.
type extensionMap struct {
	from, to uint8
	most     int
}

// localTrack lends Pion the shape of a track and learns from it what was negotiated. Packets pass it by.
type localTrack struct {
	id, stream string
	kind       webrtc.RTPCodecType
	mime, fmtp string
	publisher  []mesh.HeaderExtension
	bound      atomic.Pointer[binding]
}

var _ webrtc.TrackLocal = (*localTrack)(nil)

// newLocalTrack names the track as clients expect it: stream "<participant>|<source>", track "<source>".
func newLocalTrack(s Subscribe) *localTrack {
	t := &localTrack{
		id: string(s.Source.ID), stream: string(s.Publisher) + "|" + string(s.Source.ID),
		kind: webrtc.RTPCodecTypeVideo, mime: s.Source.MIMEType, fmtp: s.Source.FMTP, publisher: s.Source.Extensions,
	}
	if s.Source.Kind == mesh.Audio {
		t.kind = webrtc.RTPCodecTypeAudio
	}
	if t.mime == "" {
		t.mime = s.Media.Info.MIMEType
	}
	return t
}

// Bind learns SSRCs, payload types and extension IDs. It never fails, for that would fail the whole negotiation: without
// a common codec the track stays silent.
func (t *localTrack) Bind(ctx webrtc.TrackLocalContext) (webrtc.RTPCodecParameters, error) {
	codecs := ctx.CodecParameters()
	var chosen *webrtc.RTPCodecParameters
	for i := range codecs {
		if strings.EqualFold(codecs[i].MimeType, t.mime) && (chosen == nil || !sameFormat(t.mime, chosen.SDPFmtpLine, t.fmtp)) {
			chosen = &codecs[i]
		}
	}
	if chosen == nil {
		if len(codecs) == 0 {
			return webrtc.RTPCodecParameters{}, nil
		}
		return codecs[0], nil
	}
	b := &binding{
		writer: ctx.WriteStream(), ssrc: uint32(ctx.SSRC()), payloadType: uint8(chosen.PayloadType),
	}
	if rtx := uint32(ctx.SSRCRetransmission()); rtx != 0 {
		apt := "apt=" + itoa(uint8(chosen.PayloadType))
		for _, c := range codecs {
			if strings.EqualFold(c.MimeType, webrtc.MimeTypeRTX) && c.SDPFmtpLine == apt {
				b.rtxSSRC, b.rtxPayloadType = rtx, uint8(c.PayloadType)
			}
		}
	}
	n := 0
	for _, uri := range []string{rtpstream.DependencyDescriptorURI, uriAbsCaptureTime, uriAudioLevel} {
		most := 16 // in the one-byte form
		if uri == rtpstream.DependencyDescriptorURI {
			if most = 255; !strings.EqualFold(t.mime, webrtc.MimeTypeAV1) { // others tell in their payload what is rewritten there
				continue
			}
		}
		from, to := extensionID(t.publisher, uri), uint8(0)
		for _, x := range ctx.HeaderExtensions() {
			if x.URI == uri && x.ID > 0 && x.ID < 15 {
				to = uint8(x.ID)
			}
		}
		if from != 0 && to != 0 {
			b.extensions[n] = extensionMap{from: from, to: to, most: most}
			n++
		}
	}
	t.bound.Store(b)
	return *chosen, nil
}

// Unbind forgets what was negotiated.
func (t *localTrack) Unbind(webrtc.TrackLocalContext) error {
	t.bound.Store(nil)
	return nil
}

// ID is the track's name in the SDP.
func (t *localTrack) ID() string { return t.id }

// RID is empty: what goes to a client has one encoding.
func (t *localTrack) RID() string { return "" }

// StreamID is the stream's name in the SDP.
func (t *localTrack) StreamID() string { return t.stream }

// Kind is audio or video.
func (t *localTrack) Kind() webrtc.RTPCodecType { return t.kind }

func extensionID(list []mesh.HeaderExtension, uri string) uint8 {
	for _, x := range list {
		if x.URI == uri {
			return x.ID
		}
	}
	return 0
}
