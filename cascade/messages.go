package cascade

import (
	"strings"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/meshpb/cascadepb"
	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

func demandMessage(d rtpstream.Demand) *cascadepb.Demand {
	return &cascadepb.Demand{Encodings: uint32(d.Encodings), MaxTemporal: uint32(d.MaxTemporal)}
}

func pathMessage(path []mesh.NodeID) []string {
	out := make([]string, 0, len(path))
	for _, id := range path {
		out = append(out, string(id))
	}
	return out
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
