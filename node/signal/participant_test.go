//nolint:staticcheck // the deprecated fields have to be right as well
package signal

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/livekit/protocol/livekit"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

// fromInfo is what a client makes of a ParticipantInfo: all that may be seen from outside.
func fromInfo(info *livekit.ParticipantInfo) mesh.Participant {
	perm := info.GetPermission()
	p := mesh.Participant{
		ID: mesh.ParticipantID(info.GetSid()), Identity: mesh.Identity(info.GetIdentity()), Name: info.GetName(), Metadata: info.GetMetadata(),
		Attributes: info.GetAttributes(), Kind: strings.ToLower(info.GetKind().String()), State: mesh.ParticipantState(info.GetState()),
		Permission: mesh.Permission{
			CanSubscribe: perm.GetCanSubscribe(), CanPublish: perm.GetCanPublish(), CanPublishData: perm.GetCanPublishData(),
			CanUpdateMetadata: perm.GetCanUpdateMetadata(), CanSubscribeMetrics: perm.GetCanSubscribeMetrics(), Hidden: perm.GetHidden(),
			Recorder: perm.GetRecorder(), Agent: perm.GetAgent(),
		},
		JoinedAt: time.UnixMilli(info.GetJoinedAtMs()), Version: info.GetVersion(), Region: mesh.Region(info.GetRegion()),
		ClientProtocol: info.GetClientProtocol(), Publisher: info.GetIsPublisher(), DisconnectReason: int32(info.GetDisconnectReason()),
	}
	for _, s := range perm.GetCanPublishSources() {
		p.Permission.CanPublishSources = append(p.Permission.CanPublishSources, mesh.SourceType(s))
	}
	for _, c := range info.GetCapabilities() {
		p.Capabilities = append(p.Capabilities, int32(c))
	}
	for _, t := range info.GetTracks() {
		s := mesh.Source{
			ID: mesh.SourceID(t.GetSid()), Kind: mesh.Audio, Type: mesh.SourceType(t.GetSource()), Name: t.GetName(), Muted: t.GetMuted(),
			Width: t.GetWidth(), Height: t.GetHeight(), MIMEType: t.GetMimeType(), MID: t.GetMid(), StreamName: t.GetStream(),
			Encryption: mesh.Encryption(t.GetEncryption()), Stereo: slices.Contains(t.GetAudioFeatures(), livekit.AudioTrackFeature_TF_STEREO),
			DisableDTX: slices.Contains(t.GetAudioFeatures(), livekit.AudioTrackFeature_TF_NO_DTX), DisableRED: t.GetDisableRed(),
			ClientID: t.GetCodecs()[0].GetCid(),
		}
		if t.GetType() == livekit.TrackType_VIDEO {
			s.Kind = mesh.Video
			s.Encodings = encodingsFromLayers(t.GetCodecs()[0].GetLayers(), livekit.VideoLayer_MODE_UNUSED)
		}
		p.Sources = append(p.Sources, s)
	}
	return p
}

func TestParticipantRoundTrip(t *testing.T) {
	p := mesh.Participant{
		ID: "PA_1", Identity: "alice", Name: "Alice", Metadata: "m", Attributes: map[string]string{"a": "b"}, Kind: "agent", State: mesh.StateActive,
		Permission: mesh.Permission{CanSubscribe: true, CanPublish: true, CanPublishSources: []mesh.SourceType{mesh.SourceCamera}, Hidden: true, Agent: true},
		JoinedAt:   time.UnixMilli(1_800_000_000_123), Version: 7, Region: "eu-west", ClientProtocol: 2, Capabilities: []int32{1, 2}, Publisher: true,
		Sources: []mesh.Source{
			{
				ID: "TR_VC1", ClientID: "c1", Kind: mesh.Video, Type: mesh.SourceCamera, Name: "cam", Width: 1280, Height: 720, MIMEType: "video/VP8", MID: "1",
				StreamName: "camera", Encryption: mesh.EncryptionGCM,
				Encodings: []mesh.Encoding{{RID: "q", Width: 320, Height: 180, Bitrate: 1, SSRC: 1}, {RID: "h", Width: 640, Height: 360, SSRC: 2}, {RID: "f", Width: 1280, Height: 720, SSRC: 3}},
			},
			{ID: "TR_AM1", ClientID: "c2", Kind: mesh.Audio, Type: mesh.SourceMicrophone, Muted: true, MIMEType: "audio/opus", MID: "0", StreamName: "camera", Stereo: true, DisableDTX: true, DisableRED: true},
		},
	}
	info := participantInfo(&p)
	b, err := proto.Marshal(info)
	require.NoError(t, err)
	back := new(livekit.ParticipantInfo)
	require.NoError(t, proto.Unmarshal(b, back))
	require.Equal(t, p, fromInfo(back))

	video := info.GetTracks()[0]
	require.True(t, video.GetSimulcast())
	require.Len(t, video.GetLayers(), 3)
	require.Equal(t, livekit.VideoLayer_ONE_SPATIAL_LAYER_PER_STREAM, video.GetCodecs()[0].GetVideoLayerMode())
	require.EqualValues(t, 1_800_000_000, info.GetJoinedAt())
	later := p
	later.Version++
	require.Greater(t, participantInfo(&later).GetTracks()[0].GetVersion().GetTicks(), video.GetVersion().GetTicks())
}

func TestParticipantDefaults(t *testing.T) {
	info := participantInfo(&mesh.Participant{Kind: "what", Sources: []mesh.Source{{ID: "TR_V", Kind: mesh.Video, Width: 2, Height: 1}}})
	require.Equal(t, livekit.ParticipantInfo_STANDARD, info.GetKind())
	require.Zero(t, info.GetJoinedAtMs())
	track := info.GetTracks()[0]
	require.False(t, track.GetSimulcast())
	require.Empty(t, track.GetCodecs())
	require.Equal(t, livekit.VideoQuality_HIGH, track.GetLayers()[0].GetQuality())
	require.EqualValues(t, 2, track.GetLayers()[0].GetWidth())
}

func TestAddTrack(t *testing.T) {
	layers := []*livekit.VideoLayer{
		{Quality: livekit.VideoQuality_HIGH, Width: 1280, Height: 720},
		{Quality: livekit.VideoQuality_LOW, Width: 320, Height: 180},
		{Quality: livekit.VideoQuality_MEDIUM, Width: 640, Height: 360, Rid: "m"},
		{Quality: livekit.VideoQuality_LOW, Width: 1, Height: 1},
		{Quality: livekit.VideoQuality_OFF},
		{Quality: 77},
	}
	a, err := addTrack(&livekit.AddTrackRequest{
		Cid: "c", Type: livekit.TrackType_VIDEO, Source: livekit.TrackSource_SCREEN_SHARE, Layers: layers,
		SimulcastCodecs: []*livekit.SimulcastCodec{{Codec: "VP8", Cid: "c"}, {Codec: "h264"}},
	})
	require.NoError(t, err)
	require.Equal(t, []mesh.Encoding{{RID: "q", Width: 320, Height: 180}, {RID: "m", Width: 640, Height: 360}, {RID: "f", Width: 1280, Height: 720}}, a.Encodings)
	require.Equal(t, "screen_share", a.StreamName)
	require.EqualValues(t, 1280, a.Width)
	s := a.Source("TR_VS1")
	require.Equal(t, "video/VP8", s.MIMEType)
	require.Equal(t, mesh.SourceID("TR_VS1"), s.ID)
	require.Equal(t, a.Encodings, s.Encodings)

	a, err = addTrack(&livekit.AddTrackRequest{Cid: "c", Type: livekit.TrackType_VIDEO, SimulcastCodecs: []*livekit.SimulcastCodec{
		{Codec: "vp9", Cid: "c", Layers: layers, VideoLayerMode: livekit.VideoLayer_MULTIPLE_SPATIAL_LAYERS_PER_STREAM},
	}})
	require.NoError(t, err)
	require.Equal(t, []mesh.Encoding{{Width: 1280, Height: 720}}, a.Encodings, "one stream carries all spatial layers")

	a, err = addTrack(&livekit.AddTrackRequest{
		Cid: "c", Source: 99, Layers: layers, Stream: "s", Encryption: livekit.Encryption_CUSTOM,
		AudioFeatures: []livekit.AudioTrackFeature{livekit.AudioTrackFeature_TF_NO_DTX, livekit.AudioTrackFeature_TF_PRECONNECT_BUFFER},
	})
	require.NoError(t, err)
	require.Equal(t, mesh.Audio, a.Kind)
	require.Equal(t, mesh.SourceUnknown, a.Type)
	require.Empty(t, a.Encodings)
	require.True(t, a.DisableDTX)
	require.Equal(t, []int32{1, 6}, a.AudioFeatures)
	require.Equal(t, mesh.EncryptionCustom, a.Encryption)
	require.Equal(t, "s", a.StreamName)

	for _, bad := range []*livekit.AddTrackRequest{
		{Type: livekit.TrackType_DATA},
		{Cid: strings.Repeat("c", 300)},
		{Layers: make([]*livekit.VideoLayer, 100)},
		{SimulcastCodecs: []*livekit.SimulcastCodec{{Layers: make([]*livekit.VideoLayer, 100)}}},
	} {
		_, err := addTrack(bad)
		require.Error(t, err)
	}
}

func TestQualityOf(t *testing.T) {
	require.Equal(t, QualityHigh, QualityOf([]mesh.Encoding{{RID: "q"}}, 0))
	for i, e := range [][]mesh.Encoding{{{RID: "q"}, {RID: "h"}, {RID: "f"}}, {{RID: "2"}, {RID: "1"}, {RID: "0"}}, {{}, {}, {}, {}}, {{RID: "q"}, {RID: "h"}}} {
		for j := range e {
			require.Equal(t, Quality(min(j, 2)), QualityOf(e, j), "%d %d", i, j)
		}
	}
}

func TestSourceIDPrefix(t *testing.T) {
	require.Equal(t, "TR_VC", SourceIDPrefix(mesh.Video, mesh.SourceCamera))
	require.Equal(t, "TR_AM", SourceIDPrefix(mesh.Audio, mesh.SourceMicrophone))
	require.Equal(t, "TR_VS", SourceIDPrefix(mesh.Video, mesh.SourceScreenShare))
	require.Equal(t, "TR_As", SourceIDPrefix(mesh.Audio, mesh.SourceScreenShareAudio))
	require.Equal(t, "TR_A", SourceIDPrefix(mesh.Audio, mesh.SourceUnknown))
}

func TestMIMEType(t *testing.T) {
	require.Equal(t, "video/H264", mimeType(mesh.Video, "video/h264"))
	require.Equal(t, "audio/opus", mimeType(mesh.Audio, "OPUS"))
	require.Empty(t, mimeType(mesh.Audio, ""))
	require.Equal(t, "av1", codecName("video/AV1"))
}

func TestSubscriptionPermissionACL(t *testing.T) {
	lookup := func(id mesh.ParticipantID) (mesh.Identity, bool) { return "bob", id == "PA_bob" }
	require.Nil(t, (&SubscriptionPermission{All: true}).ACL(lookup))
	acl := (&SubscriptionPermission{Grants: []SubscriptionGrant{
		{Identity: "alice", Sources: []mesh.SourceID{"TR_1"}},
		{Identity: "alice", Sources: []mesh.SourceID{"TR_2"}},
		{Participant: "PA_bob", AllSources: true},
		{Identity: "bob", Sources: []mesh.SourceID{"TR_1"}}, // adds nothing to all
		{Identity: "carol"}, // names no source: allowed nothing
		{Participant: "PA_gone", AllSources: true},
	}}).ACL(lookup)
	require.Equal(t, &mesh.SubscriberACL{Identities: map[mesh.Identity][]mesh.SourceID{"alice": {"TR_1", "TR_2"}, "bob": nil}}, acl)
}

func TestScenarios(t *testing.T) {
	for _, tc := range []struct {
		in   *livekit.SimulateScenario
		want Scenario
		ok   bool
	}{
		{&livekit.SimulateScenario{Scenario: &livekit.SimulateScenario_NodeFailure{NodeFailure: true}}, Scenario{Kind: SimulateNodeFailure}, true},
		{&livekit.SimulateScenario{Scenario: &livekit.SimulateScenario_NodeFailure{}}, Scenario{Kind: SimulateNodeFailure}, false},
		{&livekit.SimulateScenario{Scenario: &livekit.SimulateScenario_Migration{Migration: true}}, Scenario{Kind: SimulateMigration}, true},
		{&livekit.SimulateScenario{Scenario: &livekit.SimulateScenario_ServerLeave{ServerLeave: true}}, Scenario{Kind: SimulateServerLeave}, true},
		{&livekit.SimulateScenario{Scenario: &livekit.SimulateScenario_SwitchCandidateProtocol{SwitchCandidateProtocol: 1}}, Scenario{SimulateCandidateProtocol, 1}, true},
		{&livekit.SimulateScenario{Scenario: &livekit.SimulateScenario_SubscriberBandwidth{SubscriberBandwidth: 5}}, Scenario{SimulateSubscriberBandwidth, 5}, true},
		{&livekit.SimulateScenario{Scenario: &livekit.SimulateScenario_DisconnectSignalOnResume{DisconnectSignalOnResume: true}}, Scenario{Kind: SimulateDisconnectOnResume}, true},
		{&livekit.SimulateScenario{Scenario: &livekit.SimulateScenario_DisconnectSignalOnResumeNoMessages{DisconnectSignalOnResumeNoMessages: true}}, Scenario{Kind: SimulateDisconnectOnResumeSilent}, true},
		{&livekit.SimulateScenario{Scenario: &livekit.SimulateScenario_LeaveRequestFullReconnect{LeaveRequestFullReconnect: true}}, Scenario{Kind: SimulateLeaveFullReconnect}, true},
	} {
		got, ok := scenario(tc.in)
		require.Equal(t, tc.want, got)
		require.Equal(t, tc.ok, ok)
	}
}
