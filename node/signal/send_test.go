//nolint:staticcheck // the deprecated fields have to be right as well
package signal

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/livekit/protocol/livekit"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

// Each message arrives as the client expects it, in order.
func TestResponses(t *testing.T) {
	f := newFixture(t)
	c, _, conn := f.join(t)
	joined := time.Unix(1_800_000_000, 0)
	alice := mesh.Participant{ID: "PA_1", Identity: "alice", State: mesh.StateActive, Version: 2, JoinedAt: joined}
	bob := mesh.Participant{ID: "PA_2", Identity: "bob", Metadata: strings.Repeat("m", 100<<10)}
	carol := mesh.Participant{ID: "PA_3", Identity: "carol", Metadata: strings.Repeat("m", 100<<10)}
	room := mesh.Room{Name: "r", ID: "RM_1", Metadata: "x", CreatedAt: joined, EmptyTimeout: 300 * time.Second, DepartureTimeout: 20 * time.Second, MaxParticipants: 9}
	camera := mesh.Source{ID: "TR_VC1", Kind: mesh.Video, Type: mesh.SourceCamera}
	add := AddTrack{ClientID: "c", Kind: mesh.Video, Type: mesh.SourceCamera}

	conn.SendReconnect(ReconnectResponse{LastMessageSequence: 4, ForceRelay: true, ICEServers: []ICEServer{{URLs: []string{"turn:t"}, Username: "u", Credential: "p"}}})
	conn.SendUpdate([]mesh.Participant{alice, bob, carol})
	conn.SendUpdate(nil)
	conn.SendOffer(SessionDescription{"offer", "o", 5}, nil)
	conn.SendAnswer(SessionDescription{"answer", "a", 6}, map[string]string{"0": "TR_VC1"})
	conn.SendTrickle(TargetSubscriber, "{}", true)
	conn.SendTrackPublished("c", camera)
	conn.SendTrackUnpublished("TR_VC1")
	conn.SendMute("TR_VC1", true)
	conn.SendRoomUpdate(room, RoomCounts{Participants: 3, Publishers: 2, Recording: true})
	conn.SendSpeakers([]Speaker{{"PA_1", 0.5, true}})
	conn.SendConnectionQuality([]ConnectionQuality{{"PA_1", ConnectionExcellent, 4.5}})
	conn.SendStreamState([]StreamState{{"PA_1", "TR_VC1", true}})
	conn.SendSubscribedQuality("TR_VC1", []SubscribedCodec{{"video/VP8", [3]bool{true, true, false}}})
	conn.SendSubscriptionPermission("PA_1", "TR_VC1", true)
	conn.SendSubscriptionResponse("TR_VC1", SubscriptionCodecUnsupported)
	conn.SendTrackSubscribed("TR_VC1")
	conn.SendMediaSections(1, 2)
	conn.SendRefreshToken("token")
	conn.SendRequestResponse(RequestResponse{Reason: RequestNotAllowed, Message: "no", AddTrack: &add})
	conn.SendRequestResponse(RequestResponse{Reason: RequestNotFound, Mute: &MuteRequest{"TR_9", true}})
	conn.SendRequestResponse(RequestResponse{RequestID: 8, UpdateMetadata: &UpdateMetadata{Name: "n", RequestID: 8}})
	conn.SendRequestResponse(RequestResponse{Reason: RequestNotFound, UpdateAudioTrack: &UpdateAudioTrack{Source: "TR_9", Features: []int32{1}}})
	conn.SendRequestResponse(RequestResponse{Reason: RequestNotFound, UpdateVideoTrack: &UpdateVideoTrack{"TR_9", 1, 2}})

	info := f.server.cfg.serverInfo()
	for _, want := range []*livekit.SignalResponse{
		{Message: &livekit.SignalResponse_Reconnect{Reconnect: &livekit.ReconnectResponse{
			LastMessageSeq: 4, ServerInfo: info, ClientConfiguration: &livekit.ClientConfiguration{ForceRelay: livekit.ClientConfigSetting_ENABLED},
			IceServers: []*livekit.ICEServer{{Urls: []string{"turn:t"}, Username: "u", Credential: "p"}},
		}}},
		{Message: &livekit.SignalResponse_Update{Update: &livekit.ParticipantUpdate{Participants: []*livekit.ParticipantInfo{participantInfo(&alice), participantInfo(&bob)}}}},
		{Message: &livekit.SignalResponse_Update{Update: &livekit.ParticipantUpdate{Participants: []*livekit.ParticipantInfo{participantInfo(&carol)}}}},
		{Message: &livekit.SignalResponse_Offer{Offer: &livekit.SessionDescription{Type: "offer", Sdp: "o", Id: 5}}},
		{Message: &livekit.SignalResponse_Answer{Answer: &livekit.SessionDescription{Type: "answer", Sdp: "a", Id: 6, MidToTrackId: map[string]string{"0": "TR_VC1"}}}},
		{Message: &livekit.SignalResponse_Trickle{Trickle: &livekit.TrickleRequest{CandidateInit: "{}", Target: livekit.SignalTarget_SUBSCRIBER, Final: true}}},
		{Message: &livekit.SignalResponse_TrackPublished{TrackPublished: &livekit.TrackPublishedResponse{Cid: "c", Track: trackInfo(&camera)}}},
		{Message: &livekit.SignalResponse_TrackUnpublished{TrackUnpublished: &livekit.TrackUnpublishedResponse{TrackSid: "TR_VC1"}}},
		{Message: &livekit.SignalResponse_Mute{Mute: &livekit.MuteTrackRequest{Sid: "TR_VC1", Muted: true}}},
		{Message: &livekit.SignalResponse_RoomUpdate{RoomUpdate: &livekit.RoomUpdate{Room: &livekit.Room{
			Sid: "RM_1", Name: "r", Metadata: "x", EmptyTimeout: 300, DepartureTimeout: 20, MaxParticipants: 9, NumParticipants: 3, NumPublishers: 2,
			ActiveRecording: true, CreationTime: 1_800_000_000, CreationTimeMs: 1_800_000_000_000, EnabledCodecs: f.server.cfg.codecs(),
		}}}},
		{Message: &livekit.SignalResponse_SpeakersChanged{SpeakersChanged: &livekit.SpeakersChanged{Speakers: []*livekit.SpeakerInfo{{Sid: "PA_1", Level: 0.5, Active: true}}}}},
		{Message: &livekit.SignalResponse_ConnectionQuality{ConnectionQuality: &livekit.ConnectionQualityUpdate{Updates: []*livekit.ConnectionQualityInfo{
			{ParticipantSid: "PA_1", Quality: livekit.ConnectionQuality_EXCELLENT, Score: 4.5},
		}}}},
		{Message: &livekit.SignalResponse_StreamStateUpdate{StreamStateUpdate: &livekit.StreamStateUpdate{StreamStates: []*livekit.StreamStateInfo{
			{ParticipantSid: "PA_1", TrackSid: "TR_VC1", State: livekit.StreamState_PAUSED},
		}}}},
		{Message: &livekit.SignalResponse_SubscribedQualityUpdate{SubscribedQualityUpdate: &livekit.SubscribedQualityUpdate{
			TrackSid: "TR_VC1", SubscribedQualities: subscribedQualities([3]bool{true, true, false}),
			SubscribedCodecs: []*livekit.SubscribedCodec{{Codec: "vp8", Qualities: []*livekit.SubscribedQuality{
				{Quality: livekit.VideoQuality_LOW, Enabled: true},
				{Quality: livekit.VideoQuality_MEDIUM, Enabled: true},
				{Quality: livekit.VideoQuality_HIGH},
			}}},
		}}},
		{Message: &livekit.SignalResponse_SubscriptionPermissionUpdate{SubscriptionPermissionUpdate: &livekit.SubscriptionPermissionUpdate{ParticipantSid: "PA_1", TrackSid: "TR_VC1", Allowed: true}}},
		{Message: &livekit.SignalResponse_SubscriptionResponse{SubscriptionResponse: &livekit.SubscriptionResponse{TrackSid: "TR_VC1", Err: livekit.SubscriptionError_SE_CODEC_UNSUPPORTED}}},
		{Message: &livekit.SignalResponse_TrackSubscribed{TrackSubscribed: &livekit.TrackSubscribed{TrackSid: "TR_VC1"}}},
		{Message: &livekit.SignalResponse_MediaSectionsRequirement{MediaSectionsRequirement: &livekit.MediaSectionsRequirement{NumAudios: 1, NumVideos: 2}}},
		{Message: &livekit.SignalResponse_RefreshToken{RefreshToken: "token"}},
		requestResponse(&livekit.RequestResponse{Reason: livekit.RequestResponse_NOT_ALLOWED, Message: "no", Request: &livekit.RequestResponse_AddTrack{
			AddTrack: &livekit.AddTrackRequest{Cid: "c", Type: livekit.TrackType_VIDEO, Source: livekit.TrackSource_CAMERA},
		}}),
		requestResponse(&livekit.RequestResponse{Reason: livekit.RequestResponse_NOT_FOUND, Request: &livekit.RequestResponse_Mute{Mute: &livekit.MuteTrackRequest{Sid: "TR_9", Muted: true}}}),
		requestResponse(&livekit.RequestResponse{RequestId: 8, Request: &livekit.RequestResponse_UpdateMetadata{UpdateMetadata: &livekit.UpdateParticipantMetadata{Name: "n", RequestId: 8}}}),
		requestResponse(&livekit.RequestResponse{Reason: livekit.RequestResponse_NOT_FOUND, Request: &livekit.RequestResponse_UpdateAudioTrack{
			UpdateAudioTrack: &livekit.UpdateLocalAudioTrack{TrackSid: "TR_9", Features: []livekit.AudioTrackFeature{livekit.AudioTrackFeature_TF_NO_DTX}},
		}}),
		requestResponse(&livekit.RequestResponse{Reason: livekit.RequestResponse_NOT_FOUND, Request: &livekit.RequestResponse_UpdateVideoTrack{
			UpdateVideoTrack: &livekit.UpdateLocalVideoTrack{TrackSid: "TR_9", Width: 1, Height: 2},
		}}),
	} {
		got := c.recv()
		require.True(t, proto.Equal(want, got), "want %v\n got %v", want, got)
	}
}

func requestResponse(r *livekit.RequestResponse) *livekit.SignalResponse {
	return &livekit.SignalResponse{Message: &livekit.SignalResponse_RequestResponse{RequestResponse: r}}
}

// The numbers of our own types are those of the protocol: they are converted by a cast.
func TestNumbersMatchTheProtocol(t *testing.T) {
	for ours, theirs := range map[LeaveReason]livekit.DisconnectReason{
		LeaveClientInitiated: livekit.DisconnectReason_CLIENT_INITIATED, LeaveDuplicateIdentity: livekit.DisconnectReason_DUPLICATE_IDENTITY,
		LeaveServerShutdown: livekit.DisconnectReason_SERVER_SHUTDOWN, LeaveParticipantRemoved: livekit.DisconnectReason_PARTICIPANT_REMOVED,
		LeaveRoomDeleted: livekit.DisconnectReason_ROOM_DELETED, LeaveStateMismatch: livekit.DisconnectReason_STATE_MISMATCH,
		LeaveJoinFailure: livekit.DisconnectReason_JOIN_FAILURE, LeaveMigration: livekit.DisconnectReason_MIGRATION,
		LeaveSignalClose: livekit.DisconnectReason_SIGNAL_CLOSE, LeaveRoomClosed: livekit.DisconnectReason_ROOM_CLOSED,
		LeaveConnectionTimeout: livekit.DisconnectReason_CONNECTION_TIMEOUT, LeaveMediaFailure: livekit.DisconnectReason_MEDIA_FAILURE,
	} {
		require.EqualValues(t, theirs, ours)
	}
	require.EqualValues(t, livekit.LeaveRequest_RECONNECT, ActionReconnect)
	require.EqualValues(t, livekit.VideoQuality_OFF, QualityOff)
	require.EqualValues(t, livekit.ConnectionQuality_LOST, ConnectionLost)
	require.EqualValues(t, livekit.RequestResponse_UNCLASSIFIED_ERROR, RequestFailed)
	require.EqualValues(t, livekit.RequestResponse_UNSUPPORTED_TYPE, RequestUnsupportedType)
	require.EqualValues(t, livekit.SubscriptionError_SE_TRACK_NOTFOUND, SubscriptionSourceNotFound)
	require.EqualValues(t, livekit.TrackSource_SCREEN_SHARE_AUDIO, mesh.SourceScreenShareAudio)
	require.EqualValues(t, livekit.ParticipantInfo_DISCONNECTED, mesh.StateDisconnected)
	require.EqualValues(t, livekit.Encryption_CUSTOM, mesh.EncryptionCustom)
}
