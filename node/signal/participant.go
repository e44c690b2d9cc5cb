package signal

import (
	"strings"
	"time"

	"github.com/livekit/protocol/livekit"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

// participantInfo converts a participant for clients.
func participantInfo(p *mesh.Participant) *livekit.ParticipantInfo {
	info := &livekit.ParticipantInfo{
		Sid: string(p.ID), Identity: string(p.Identity), Name: p.Name, Metadata: p.Metadata, Attributes: p.Attributes,
		State: livekit.ParticipantInfo_State(p.State), Version: p.Version, Region: string(p.Region), IsPublisher: p.Publisher,
		Kind: participantKind(p.Kind), Permission: participantPermission(&p.Permission), ClientProtocol: p.ClientProtocol,
		DisconnectReason: livekit.DisconnectReason(p.DisconnectReason),
	}
	if !p.JoinedAt.IsZero() {
		info.JoinedAt, info.JoinedAtMs = p.JoinedAt.Unix(), p.JoinedAt.UnixMilli()
	}
	for _, c := range p.Capabilities {
		info.Capabilities = append(info.Capabilities, livekit.ClientInfo_Capability(c))
	}
	for i := range p.Sources {
		t := trackInfo(&p.Sources[i])
		// The participant's version grows with every change of a source, so it orders the versions of a track as well.
		t.Version = &livekit.TimedVersion{UnixMicro: joinedMicro(p.JoinedAt), Ticks: int32(p.Version & 0x7fffffff)}
		info.Tracks = append(info.Tracks, t)
	}
	return info
}

func joinedMicro(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func participantInfos(ps []mesh.Participant) []*livekit.ParticipantInfo {
	infos := make([]*livekit.ParticipantInfo, len(ps))
	for i := range ps {
		infos[i] = participantInfo(&ps[i])
	}
	return infos
}

func participantKind(kind string) livekit.ParticipantInfo_Kind {
	// What no one knows becomes 0, the standard kind.
	return livekit.ParticipantInfo_Kind(livekit.ParticipantInfo_Kind_value[strings.ToUpper(kind)])
}

// participantPermission converts what a participant may do for clients.
//
//nolint:staticcheck // older clients know only the deprecated fields
func participantPermission(p *mesh.Permission) *livekit.ParticipantPermission {
	out := &livekit.ParticipantPermission{
		CanSubscribe: p.CanSubscribe, CanPublish: p.CanPublish, CanPublishData: p.CanPublishData,
		CanUpdateMetadata: p.CanUpdateMetadata, CanSubscribeMetrics: p.CanSubscribeMetrics,
		Hidden: p.Hidden, Recorder: p.Recorder, Agent: p.Agent,
	}
	for _, t := range p.CanPublishSources {
		out.CanPublishSources = append(out.CanPublishSources, livekit.TrackSource(t))
	}
	return out
}

// trackInfo converts a source for clients.
//
//nolint:staticcheck // older clients know only the deprecated fields
func trackInfo(s *mesh.Source) *livekit.TrackInfo {
	t := &livekit.TrackInfo{
		Sid: string(s.ID), Type: trackType(s.Kind), Source: livekit.TrackSource(s.Type), Name: s.Name, Muted: s.Muted,
		Width: s.Width, Height: s.Height, MimeType: s.MIMEType, Mid: s.MID, Stream: s.StreamName,
		Encryption: livekit.Encryption_Type(s.Encryption), Stereo: s.Stereo, DisableDtx: s.DisableDTX, DisableRed: s.DisableRED,
	}
	codec := &livekit.SimulcastCodecInfo{MimeType: s.MIMEType, Mid: s.MID, Cid: s.ClientID}
	if s.Kind == mesh.Video {
		encodings := s.Encodings
		if len(encodings) == 0 {
			encodings = []mesh.Encoding{{Width: s.Width, Height: s.Height}}
		}
		t.Layers, codec.Layers = layersFromEncodings(encodings), layersFromEncodings(encodings)
		t.Simulcast = len(encodings) > 1
		codec.VideoLayerMode = livekit.VideoLayer_ONE_SPATIAL_LAYER_PER_STREAM
		if len(encodings) == 1 && (s.MIMEType == "video/VP9" || s.MIMEType == "video/AV1") {
			codec.VideoLayerMode = livekit.VideoLayer_MULTIPLE_SPATIAL_LAYERS_PER_STREAM
		}
	} else {
		if s.Stereo {
			t.AudioFeatures = append(t.AudioFeatures, livekit.AudioTrackFeature_TF_STEREO)
		}
		if s.DisableDTX {
			t.AudioFeatures = append(t.AudioFeatures, livekit.AudioTrackFeature_TF_NO_DTX)
		}
	}
	if s.MIMEType != "" {
		t.Codecs = []*livekit.SimulcastCodecInfo{codec}
	}
	return t
}

func trackType(k mesh.MediaKind) livekit.TrackType {
	if k == mesh.Video {
		return livekit.TrackType_VIDEO
	}
	return livekit.TrackType_AUDIO
}

// room converts a room for clients.
func (c *Config) room(r *mesh.Room, counts RoomCounts) *livekit.Room {
	out := &livekit.Room{
		Sid: string(r.ID), Name: string(r.Name), Metadata: r.Metadata,
		EmptyTimeout: seconds(r.EmptyTimeout), DepartureTimeout: seconds(r.DepartureTimeout), MaxParticipants: r.MaxParticipants,
		NumParticipants: counts.Participants, NumPublishers: counts.Publishers, ActiveRecording: counts.Recording,
		EnabledCodecs: c.codecs(),
	}
	if !r.CreatedAt.IsZero() {
		out.CreationTime, out.CreationTimeMs = r.CreatedAt.Unix(), r.CreatedAt.UnixMilli()
	}
	return out
}

func (c *Config) codecs() []*livekit.Codec {
	out := make([]*livekit.Codec, len(c.PublishCodecs))
	for i, codec := range c.PublishCodecs {
		out[i] = &livekit.Codec{Mime: codec.MIMEType, FmtpLine: codec.FMTP}
	}
	return out
}

func (c *Config) serverInfo() *livekit.ServerInfo {
	return &livekit.ServerInfo{
		Edition: livekit.ServerInfo_Standard, Version: c.ServerVersion, Protocol: serverProtocol, Region: string(c.Region),
		NodeId: "ND_" + string(c.NodeID), DebugInfo: c.SoftwareVersion, AgentProtocol: 1,
	}
}

// serverProtocol is the version of the signalling protocol this package speaks.
const serverProtocol = 17

func seconds(d time.Duration) uint32 {
	return uint32(min(max(d/time.Second, 0), 1<<31))
}
