package cascade

import (
	"strings"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/meshpb/cascadepb"
	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

// demandMessage says what is wanted, and of which encodings the receiver has nothing yet.
func demandMessage(d rtpstream.Demand, begin rtpstream.EncodingSet) *cascadepb.Demand {
	return &cascadepb.Demand{Encodings: uint32(d.Encodings), MaxTemporal: uint32(d.MaxTemporal), Replay: uint32(begin)}
}

func pathMessage(path []mesh.NodeID) []string {
	out := make([]string, 0, len(path))
	for _, id := range path {
		out = append(out, string(id))
	}
	return out
}

// sourceInfo describes the source to a node that may have to relay it.
func (pl *pull) sourceInfo() *cascadepb.SourceInfo {
	if pl.peer.id == pl.remote.origin {
		return nil
	}
	info := pl.media.Info
	return &cascadepb.SourceInfo{
		Audio: info.Audio, MimeType: info.MIMEType, ClockRate: info.ClockRate, Encodings: uint32(info.Encodings),
	}
}

func sourceOf(id mesh.SourceID, m *cascadepb.SourceInfo) mesh.Source {
	return mesh.Source{
		ID: id, Kind: kindOf(m.GetAudio()), MIMEType: m.GetMimeType(), ClockRate: m.GetClockRate(),
		Encodings: make([]mesh.Encoding, m.GetEncodings()),
	}
}

// sensibleOrigin checks what a FlowOpen says of its source's origin.
func sensibleOrigin(m *cascadepb.FlowOpen) bool {
	if m.GetOrigin() != "" {
		if _, err := mesh.ParseNodeID(m.GetOrigin()); err != nil {
			return false
		}
	}
	info := m.GetSourceInfo()
	return len(info.GetMimeType()) <= mesh.MaxNameLength && info.GetEncodings() <= rtpstream.MaxEncodings
}

func closeMessage(reason cascadepb.CloseReason) *cascadepb.LinkMessage {
	return &cascadepb.LinkMessage{Version: protocolVersion, Body: &cascadepb.LinkMessage_LinkClose{
		LinkClose: &cascadepb.LinkClose{Reason: reason},
	}}
}

// closeName is a reason as logs show it.
func closeName(r cascadepb.CloseReason) string {
	return strings.ToLower(strings.TrimPrefix(r.String(), "CLOSE_REASON_"))
}
