package api

import (
	"strings"
	"time"

	"github.com/livekit/protocol/livekit"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

func roomProto(r RoomInfo) *livekit.Room {
	return &livekit.Room{
		Sid: string(r.ID), Name: string(r.Name), Metadata: r.Metadata,
		EmptyTimeout: seconds(r.EmptyTimeout), DepartureTimeout: seconds(r.DepartureTimeout), MaxParticipants: r.MaxParticipants,
		CreationTime: unix(r.CreatedAt), CreationTimeMs: unixMs(r.CreatedAt),
		NumParticipants: r.Participants, NumPublishers: r.Publishers,
	}
}

func participantProto(p *mesh.Participant) *livekit.ParticipantInfo {
	out := &livekit.ParticipantInfo{
		Sid: string(p.ID), Identity: string(p.Identity), Name: p.Name, Metadata: p.Metadata, Attributes: p.Attributes,
		State:    livekit.ParticipantInfo_State(p.State), // same numbers
		JoinedAt: unix(p.JoinedAt), JoinedAtMs: unixMs(p.JoinedAt), Version: p.Version, Region: string(p.Region),
		Kind:        livekit.ParticipantInfo_Kind(livekit.ParticipantInfo_Kind_value[strings.ToUpper(p.Kind)]), // unknown: standard
		IsPublisher: p.Publisher, DisconnectReason: livekit.DisconnectReason(p.DisconnectReason),
		ClientProtocol: p.ClientProtocol,
		Permission: &livekit.ParticipantPermission{
			CanSubscribe: p.Permission.CanSubscribe, CanPublish: p.Permission.CanPublish, CanPublishData: p.Permission.CanPublishData,
			CanUpdateMetadata: p.Permission.CanUpdateMetadata, CanSubscribeMetrics: p.Permission.CanSubscribeMetrics,
			Hidden: p.Permission.Hidden, Recorder: p.Permission.Recorder, Agent: p.Permission.Agent, //nolint:staticcheck // read by older server SDKs
		},
	}
	for _, t := range p.Permission.CanPublishSources {
		out.Permission.CanPublishSources = append(out.Permission.CanPublishSources, livekit.TrackSource(t))
	}
	for _, c := range p.Capabilities {
		out.Capabilities = append(out.Capabilities, livekit.ClientInfo_Capability(c))
	}
	for i := range p.Sources {
		out.Tracks = append(out.Tracks, trackProto(&p.Sources[i]))
	}
	return out
}

func trackProto(s *mesh.Source) *livekit.TrackInfo {
	out := &livekit.TrackInfo{
		Sid: string(s.ID), Name: s.Name, Muted: s.Muted, Width: s.Width, Height: s.Height,
		Type:      livekit.TrackType_AUDIO,
		Source:    livekit.TrackSource(s.Type), // same numbers
		Simulcast: len(s.Encodings) > 1,        //nolint:staticcheck // read by older server SDKs
		MimeType:  s.MIMEType, Mid: s.MID, Stream: s.StreamName,
		Encryption: livekit.Encryption_Type(s.Encryption),                        // same numbers
		Stereo:     s.Stereo, DisableDtx: s.DisableDTX, DisableRed: s.DisableRED, //nolint:staticcheck // read by older server SDKs
	}
	if s.Kind == mesh.Video {
		out.Type = livekit.TrackType_VIDEO
		var layers []*livekit.VideoLayer
		for i, e := range s.Encodings {
			layers = append(layers, &livekit.VideoLayer{
				Quality: quality(e.RID, i, len(s.Encodings)), Width: e.Width, Height: e.Height, Bitrate: e.Bitrate, Ssrc: e.SSRC, Rid: e.RID,
			})
		}
		out.Codecs = []*livekit.SimulcastCodecInfo{{MimeType: s.MIMEType, Mid: s.MID, Cid: s.ClientID, Layers: layers}}
		out.Layers = layers //nolint:staticcheck // read by older server SDKs
	}
	return out
}

// quality is what clients call the i-th of n encodings, lowest first: by its RID where it is one they use, else by its
// place. A single one is the highest.
func quality(rid string, i, n int) livekit.VideoQuality {
	switch {
	case n == 1 || rid == "f":
		return livekit.VideoQuality_HIGH
	case rid == "h":
		return livekit.VideoQuality_MEDIUM
	case rid == "q":
		return livekit.VideoQuality_LOW
	}
	return livekit.VideoQuality(min(i, int(livekit.VideoQuality_HIGH))) // #nosec G115 -- 0 to 2
}

// permissionOf returns nil for nil: nothing is to change.
func permissionOf(p *livekit.ParticipantPermission) *mesh.Permission {
	if p == nil {
		return nil
	}
	out := &mesh.Permission{
		CanSubscribe: p.CanSubscribe, CanPublish: p.CanPublish, CanPublishData: p.CanPublishData,
		CanUpdateMetadata: p.CanUpdateMetadata, CanSubscribeMetrics: p.CanSubscribeMetrics,
		Hidden: p.Hidden, Recorder: p.Recorder, Agent: p.Agent, //nolint:staticcheck // written by older server SDKs
	}
	for _, t := range p.CanPublishSources {
		if t >= 0 && t <= livekit.TrackSource_SCREEN_SHARE_AUDIO {
			out.CanPublishSources = append(out.CanPublishSources, mesh.SourceType(t)) // #nosec G115 -- 0 to 4
		}
	}
	if len(p.CanPublishSources) > 0 && len(out.CanPublishSources) == 0 {
		out.CanPublish = false // a restriction to sources nobody knows must not become no restriction at all
	}
	return out
}

// dataPacket is the message clients get: from the server, so without a sender.
func dataPacket(m *livekit.SendDataRequest, to []mesh.Identity) *livekit.DataPacket {
	ids := make([]string, len(to))
	for i, id := range to {
		ids[i] = string(id)
	}
	return &livekit.DataPacket{
		Kind:                  m.Kind, //nolint:staticcheck // read by older clients
		DestinationIdentities: ids,
		Value: &livekit.DataPacket_User{User: &livekit.UserPacket{
			Payload: m.Data, Topic: m.Topic, Nonce: m.Nonce,
			DestinationIdentities: ids, //nolint:staticcheck // read by older clients
		}},
	}
}

func seconds(d time.Duration) uint32 { return uint32(max(0, d/time.Second)) } // #nosec G115 -- timeouts of hours at most

func unix(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

func unixMs(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}
