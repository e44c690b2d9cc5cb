package cascade

import (
	"strings"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/meshpb/cascadepb"
	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

// demandMessage says what is wanted, and of which encodings the receiver has nothing yet.
func demandMessage(d rtpstream.Demand, begin rtpstream.EncodingSet) *cascadepb.Demand {
	m := &cascadepb.Demand{Encodings: uint32(d.Encodings), Replay: uint32(begin)}
	for _, l := range d.Layers {
		m.MaxTemporal = max(m.MaxTemporal, uint32(l.Temporal))
	}
	says := 0 // encodings there is something to say of
	for e, l := range d.Layers {
		if d.Encodings.Has(uint8(e)) && (l.Spatial != rtpstream.AllSpatial || uint32(l.Temporal) != m.MaxTemporal) {
			says = e + 1
		}
	}
	for _, l := range d.Layers[:says] {
		m.Layers = append(m.Layers, &cascadepb.LayerDemand{MaxSpatial: uint32(l.Spatial), MaxTemporal: uint32(l.Temporal)})
	}
	return m
}

// demandOf is the reverse: what a peer wants.
func demandOf(m *cascadepb.Demand) rtpstream.Demand {
	set := rtpstream.EncodingSet(m.GetEncodings() & (1<<rtpstream.MaxEncodings - 1))
	d := rtpstream.UpTo(set, rtpstream.Layers{Spatial: rtpstream.AllSpatial, Temporal: layerNumber(m.GetMaxTemporal())})
	for e, l := range m.GetLayers() {
		if e < rtpstream.MaxEncodings && set.Has(uint8(e)) {
			d.Layers[e] = rtpstream.Layers{Spatial: layerNumber(l.GetMaxSpatial()), Temporal: layerNumber(l.GetMaxTemporal())}
		}
	}
	return d
}

func layerNumber(v uint32) uint8 { return uint8(min(v, 255)) }

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
		DependencyDescriptor: uint32(info.DependencyDescriptor),
	}
}

func sourceOf(id mesh.SourceID, m *cascadepb.SourceInfo) mesh.Source {
	src := mesh.Source{
		ID: id, Kind: kindOf(m.GetAudio()), MIMEType: m.GetMimeType(), ClockRate: m.GetClockRate(),
		Encodings: make([]mesh.Encoding, m.GetEncodings()),
	}
	if x := m.GetDependencyDescriptor(); x != 0 {
		src.Extensions = []mesh.HeaderExtension{{ID: layerNumber(x), URI: rtpstream.DependencyDescriptorURI}}
	}
	return src
}

// dependencyDescriptor is the ID of that header extension, 0 without.
func dependencyDescriptor(src mesh.Source) uint8 {
	for _, x := range src.Extensions {
		if x.URI == rtpstream.DependencyDescriptorURI {
			return x.ID
		}
	}
	return 0
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
