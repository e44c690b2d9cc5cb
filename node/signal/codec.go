package signal

import (
	"cmp"
	"slices"
	"strings"

	"github.com/livekit/protocol/livekit"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

// rids are the restriction IDs clients use for simulcast, by Quality.
var rids = [...]string{"q", "h", "f"}

// QualityOf returns the quality clients know the i-th encoding of a source by: by its RID where it is one they use, else by its
// place. A single encoding is QualityHigh.
func QualityOf(encodings []mesh.Encoding, i int) Quality {
	if len(encodings) <= 1 {
		return QualityHigh
	}
	switch encodings[i].RID {
	case "q", "2":
		return QualityLow
	case "h", "1":
		return QualityMedium
	case "f", "0":
		return QualityHigh
	}
	return Quality(min(i, int(QualityHigh)))
}

// mimeNames are the codecs whose RFC 4855 names are not in lower case.
var mimeNames = map[string]string{"vp8": "VP8", "vp9": "VP9", "h264": "H264", "h265": "H265", "av1": "AV1", "pcmu": "PCMU", "pcma": "PCMA"}

// mimeType returns the media type of a codec named as clients do ("vp8", "video/vp8"); empty stays empty.
func mimeType(kind mesh.MediaKind, codec string) string {
	if codec == "" {
		return ""
	}
	if _, after, ok := strings.Cut(codec, "/"); ok {
		codec = after
	}
	codec = strings.ToLower(codec)
	if name, ok := mimeNames[codec]; ok {
		codec = name
	}
	if kind == mesh.Audio {
		return "audio/" + codec
	}
	return "video/" + codec
}

// codecName is the reverse of mimeType: "vp8".
func codecName(s string) string {
	if _, after, ok := strings.Cut(s, "/"); ok {
		s = after
	}
	return strings.ToLower(s)
}

// encodingsFromLayers keeps at most one encoding per quality, lowest first.
func encodingsFromLayers(layers []*livekit.VideoLayer, mode livekit.VideoLayer_Mode) []mesh.Encoding {
	byQuality := slices.Clone(layers)
	slices.SortStableFunc(byQuality, func(a, b *livekit.VideoLayer) int { return cmp.Compare(a.GetQuality(), b.GetQuality()) })
	byQuality = slices.CompactFunc(byQuality, func(a, b *livekit.VideoLayer) bool { return a.GetQuality() == b.GetQuality() })
	byQuality = slices.DeleteFunc(byQuality, func(l *livekit.VideoLayer) bool {
		return l.GetQuality() < livekit.VideoQuality_LOW || l.GetQuality() > livekit.VideoQuality_HIGH
	})
	if len(byQuality) == 0 {
		return nil
	}
	if mode == livekit.VideoLayer_MULTIPLE_SPATIAL_LAYERS_PER_STREAM {
		byQuality = byQuality[len(byQuality)-1:] // one stream carries all of them: one encoding of the full size
	}
	encodings := make([]mesh.Encoding, len(byQuality))
	for i, l := range byQuality {
		encodings[i] = mesh.Encoding{RID: l.GetRid(), Width: l.GetWidth(), Height: l.GetHeight(), Bitrate: l.GetBitrate(), SSRC: l.GetSsrc()}
		if encodings[i].RID == "" && len(byQuality) > 1 {
			encodings[i].RID = rids[l.GetQuality()]
		}
	}
	return encodings
}

func layersFromEncodings(encodings []mesh.Encoding) []*livekit.VideoLayer {
	layers := make([]*livekit.VideoLayer, len(encodings))
	for i, e := range encodings {
		q := QualityOf(encodings, i)
		layers[i] = &livekit.VideoLayer{
			Quality: livekit.VideoQuality(q), Width: e.Width, Height: e.Height, Bitrate: e.Bitrate, Ssrc: e.SSRC, Rid: e.RID,
			SpatialLayer: int32(min(q, QualityHigh)),
		}
	}
	return layers
}

// SourceIDPrefix returns what the ID of a source of this kind and type starts with: "TR_" and a letter for each.
func SourceIDPrefix(kind mesh.MediaKind, t mesh.SourceType) string {
	prefix := "TR_V"
	if kind == mesh.Audio {
		prefix = "TR_A"
	}
	switch t {
	case mesh.SourceCamera:
		return prefix + "C"
	case mesh.SourceMicrophone:
		return prefix + "M"
	case mesh.SourceScreenShare:
		return prefix + "S"
	case mesh.SourceScreenShareAudio:
		return prefix + "s"
	default:
		return prefix
	}
}

// streamName is what a source lip-syncs with when the client does not say.
func streamName(t mesh.SourceType) string {
	switch t {
	case mesh.SourceScreenShare, mesh.SourceScreenShareAudio:
		return "screen_share"
	default:
		return "camera"
	}
}
