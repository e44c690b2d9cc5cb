//nolint:staticcheck // the deprecated fields have to be right as well
package signal

import (
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/livekit/protocol/livekit"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/token"
)

func FuzzJoinRequest(f *testing.F) {
	r := &livekit.JoinRequest{
		ClientInfo: &livekit.ClientInfo{Protocol: 17}, ParticipantAttributes: map[string]string{"a": "b"}, SyncState: &livekit.SyncState{},
		AddTrackRequests: []*livekit.AddTrackRequest{{Cid: "c", Type: livekit.TrackType_VIDEO, Layers: []*livekit.VideoLayer{{Quality: 2}}}},
		PublisherOffer:   &livekit.SessionDescription{Sdp: "v=0"},
	}
	f.Add(wrap(f, r, true))
	f.Add(wrap(f, r, false))
	f.Add("")
	f.Add("////")
	f.Fuzz(func(t *testing.T, s string) {
		msg, err := decodeJoinRequest(s)
		if err != nil {
			return
		}
		j := JoinRequest{Claims: &token.Claims{Identity: "a", Grant: token.Grant{Room: "r"}}}
		if j.fromJoinRequest(msg) == nil {
			j.Client.settle("")
			_ = j.settle()
		}
		for _, a := range j.AddTracks {
			require.LessOrEqual(t, len(a.Encodings), 3)
		}
	})
}

func FuzzQuery(f *testing.F) {
	f.Add("protocol=17&sdk=js&attributes=e30&capabilities=CAP_PACKET_TRAILER,x&publish=s", "Mozilla/5.0")
	f.Add("protocol=-1&client_protocol=99999999999999999999", "\xff")
	f.Fuzz(func(_ *testing.T, s, userAgent string) {
		q, _ := url.ParseQuery(s)
		yes := true
		j := JoinRequest{Claims: &token.Claims{Identity: "a", Grant: token.Grant{Room: "r", CanUpdateOwnMetadata: &yes}}}
		if j.fromQuery(q) == nil {
			j.Client.settle(userAgent)
			_ = j.settle()
		}
	})
}

type sink struct{ n int }

func (s *sink) SendRequestResponse(r RequestResponse) {
	if r.AddTrack != nil {
		addTrackRequest(r.AddTrack)
	}
	s.n++
}
func (s *sink) send(*livekit.SignalResponse) { s.n++ }

// sources checks what reaches a session.
type sources struct {
	nobody
	t *testing.T
}

func (s *sources) AddTrack(a AddTrack) {
	src := a.Source("TR_1")
	require.LessOrEqual(s.t, len(src.Encodings), 3)
	require.NotZero(s.t, src.Kind)
	require.NotEmpty(s.t, src.StreamName)
	trackInfo(&src)
}

func (s *sources) Subscription(v Subscription) { require.LessOrEqual(s.t, len(v.Sources), maxListed) }

func (s *sources) SubscriptionPermission(v SubscriptionPermission) {
	v.ACL(func(id mesh.ParticipantID) (mesh.Identity, bool) { return mesh.Identity(id), true })
}

func FuzzSignalRequest(f *testing.F) {
	for _, m := range []*livekit.SignalRequest{
		{Message: &livekit.SignalRequest_Offer{Offer: &livekit.SessionDescription{Sdp: "v=0"}}},
		{Message: &livekit.SignalRequest_AddTrack{AddTrack: &livekit.AddTrackRequest{Cid: "c", Type: 1, Layers: []*livekit.VideoLayer{{}, {Quality: 1}}, SimulcastCodecs: []*livekit.SimulcastCodec{{Codec: "vp8"}}}}},
		{Message: &livekit.SignalRequest_Subscription{Subscription: &livekit.UpdateSubscription{TrackSids: []string{"a"}, ParticipantTracks: []*livekit.ParticipantTracks{{TrackSids: []string{"b"}}}}}},
		{Message: &livekit.SignalRequest_SubscriptionPermission{SubscriptionPermission: &livekit.SubscriptionPermission{TrackPermissions: []*livekit.TrackPermission{{ParticipantSid: "p", AllTracks: true}}}}},
		{Message: &livekit.SignalRequest_SyncState{SyncState: &livekit.SyncState{PublishTracks: []*livekit.TrackPublishedResponse{{}}}}},
		{Message: &livekit.SignalRequest_PingReq{PingReq: &livekit.Ping{Timestamp: 1}}},
		{Message: &livekit.SignalRequest_Leave{Leave: &livekit.LeaveRequest{}}},
		{Message: &livekit.SignalRequest_Simulate{Simulate: &livekit.SimulateScenario{}}},
	} {
		b, err := proto.Marshal(m)
		require.NoError(f, err)
		f.Add(b, false)
	}
	f.Add([]byte(`{"offer":null,"mute":{"sid":"x"}}`), true)
	f.Fuzz(func(t *testing.T, frame []byte, text bool) {
		req, err := decodeRequest(frame, text)
		if err != nil {
			return
		}
		kindOf(req.ProtoReflect(), requestOneof)
		out := &sink{}
		_, _ = dispatch(req, &sources{t: t}, out, func() time.Time { return time.Unix(0, 0) })
		require.LessOrEqual(t, out.n, 1)
	})
}

func FuzzStampData(f *testing.F) {
	for _, p := range []*livekit.DataPacket{
		{Value: &livekit.DataPacket_User{User: &livekit.UserPacket{Payload: []byte("x"), DestinationIdentities: []string{"b"}}}},
		{ParticipantIdentity: "b", Value: &livekit.DataPacket_ChatMessage{ChatMessage: &livekit.ChatMessage{}}},
		{Sequence: 4, Value: &livekit.DataPacket_EncryptedPacket{EncryptedPacket: &livekit.EncryptedPacket{}}},
	} {
		b, err := proto.Marshal(p)
		require.NoError(f, err)
		f.Add(b, true)
	}
	f.Add([]byte{0xff}, false)
	f.Fuzz(func(t *testing.T, raw []byte, reliable bool) {
		m, err := StampData(raw, reliable, dataSender)
		if err != nil {
			return
		}
		p := new(livekit.DataPacket)
		require.NoError(t, proto.Unmarshal(m.Payload, p))
		require.Equal(t, "alice", p.GetParticipantIdentity())
		require.Equal(t, "PA_1", p.GetParticipantSid())
		require.Equal(t, reliable, p.GetKind() == livekit.DataPacket_RELIABLE)
		require.LessOrEqual(t, len(m.Payload), len(raw)*3+256)
	})
}
