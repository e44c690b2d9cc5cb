package sfm

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/pion/sdp/v3"
	"github.com/pion/webrtc/v4"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

// videoCodecs are those we take part in, with the payload types of our own offers; answers take the client's. The
// retransmissions of each have the next payload type. Clients send what they announced, and VP8 when they did not.
var videoCodecs = []struct {
	payloadType webrtc.PayloadType
	mime, fmtp  string
}{
	{96, webrtc.MimeTypeVP8, ""},
	{98, webrtc.MimeTypeVP9, "profile-id=0"},
	{102, webrtc.MimeTypeH264, "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f"},
	{104, webrtc.MimeTypeH264, "level-asymmetry-allowed=1;packetization-mode=0;profile-level-id=42e01f"},
	{45, webrtc.MimeTypeAV1, ""},
}

// registerVideo names the video codecs and their retransmissions.
func registerVideo(m *webrtc.MediaEngine, feedback []webrtc.RTCPFeedback) error {
	for _, c := range videoCodecs {
		for _, x := range []webrtc.RTPCodecParameters{
			{PayloadType: c.payloadType, RTPCodecCapability: webrtc.RTPCodecCapability{
				MimeType: c.mime, ClockRate: 90000, SDPFmtpLine: c.fmtp, RTCPFeedback: feedback,
			}},
			{PayloadType: c.payloadType + 1, RTPCodecCapability: webrtc.RTPCodecCapability{
				MimeType: webrtc.MimeTypeRTX, ClockRate: 90000, SDPFmtpLine: fmt.Sprintf("apt=%d", c.payloadType),
			}},
		} {
			if err := m.RegisterCodec(x, webrtc.RTPCodecTypeVideo); err != nil {
				return fmt.Errorf("sfm: register %s: %w", c.mime, err)
			}
		}
	}
	return nil
}

// chooseCodec makes an answer's m-line ask for a codec, where the client offers it: the first one is what a client sends.
// Dependency descriptors are for codecs whose payload does not tell of layers.
func chooseCodec(m *sdp.MediaDescription, mime string) {
	_, name, _ := strings.Cut(mime, "/")
	for _, a := range m.Attributes {
		pt, codec, _ := strings.Cut(a.Value, " ")
		codec, _, _ = strings.Cut(codec, "/")
		i := slices.Index(m.MediaName.Formats, pt)
		if a.Key != "rtpmap" || !strings.EqualFold(codec, name) || i < 0 {
			continue
		}
		m.MediaName.Formats = slices.Insert(slices.Delete(m.MediaName.Formats, i, i+1), 0, pt)
		break
	}
	if layered(mime) {
		return
	}
	m.Attributes = slices.DeleteFunc(m.Attributes, func(a sdp.Attribute) bool {
		return a.Key == "extmap" && strings.HasSuffix(a.Value, rtpstream.DependencyDescriptorURI)
	})
}

// chooseCodecs does so on every m-line of an answer on which the client sends video.
func (e *Endpoint) chooseCodecs(d *sdp.SessionDescription, sections []section) {
	sources := e.sendingSources(sections, mesh.Video)
	for _, m := range d.MediaDescriptions {
		mid, _ := m.Attribute("mid")
		i := slices.IndexFunc(sections, func(s section) bool { return s.mid == mid })
		if i < 0 || sections[i].kind() != mesh.Video || !sections[i].sends() {
			continue
		}
		mime := sources[mid].MIMEType
		if mime == "" {
			mime = webrtc.MimeTypeVP8
		}
		chooseCodec(m, mime)
	}
}

// sameFormat reports whether one codec's parameters suit another's: H.264 has forms that do not mix (RFC 6184 §8.1).
func sameFormat(mime, ours, theirs string) bool {
	if !strings.EqualFold(mime, webrtc.MimeTypeH264) {
		return true
	}
	return packetizationMode(ours) == packetizationMode(theirs)
}

func packetizationMode(fmtp string) int {
	for _, parameter := range strings.Split(fmtp, ";") {
		if key, value, _ := strings.Cut(strings.TrimSpace(parameter), "="); key == "packetization-mode" {
			n, _ := strconv.Atoi(value) // what makes no sense counts as the default
			return n
		}
	}
	return 0
}
