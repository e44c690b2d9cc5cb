package signal

import (
	"context"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/livekit/protocol/livekit"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

func TestRequestsReachTheSession(t *testing.T) {
	f := newFixture(t)
	c, s, _ := f.join(t)
	for _, tc := range []struct {
		msg  *livekit.SignalRequest
		want any
	}{
		{&livekit.SignalRequest{Message: &livekit.SignalRequest_Offer{Offer: &livekit.SessionDescription{Type: "offer", Sdp: "a", Id: 3}}}, offered{"offer", "a", 3}},
		{&livekit.SignalRequest{Message: &livekit.SignalRequest_Answer{Answer: &livekit.SessionDescription{Type: "answer", Sdp: "b", Id: 4}}}, answered{"answer", "b", 4}},
		{&livekit.SignalRequest{Message: &livekit.SignalRequest_Trickle{Trickle: &livekit.TrickleRequest{CandidateInit: "{}", Target: 1, Final: true}}}, trickled{TargetSubscriber, "{}", true}},
		{&livekit.SignalRequest{Message: &livekit.SignalRequest_Mute{Mute: &livekit.MuteTrackRequest{Sid: "TR_1", Muted: true}}}, muted{"TR_1", true}},
		{
			&livekit.SignalRequest{Message: &livekit.SignalRequest_Subscription{Subscription: &livekit.UpdateSubscription{
				TrackSids: []string{"TR_1"}, Subscribe: true, ParticipantTracks: []*livekit.ParticipantTracks{{ParticipantSid: "PA_2", TrackSids: []string{"TR_2", "TR_3"}}},
			}}},
			Subscription{Sources: []mesh.SourceID{"TR_1", "TR_2", "TR_3"}, Subscribe: true},
		},
		{
			&livekit.SignalRequest{Message: &livekit.SignalRequest_TrackSetting{TrackSetting: &livekit.UpdateTrackSettings{
				TrackSids: []string{"TR_1"}, Disabled: true, Quality: livekit.VideoQuality_MEDIUM, Width: 640, Height: 360, Fps: 15, Priority: 2,
			}}},
			TrackSettings{Sources: []mesh.SourceID{"TR_1"}, Disabled: true, Quality: QualityMedium, Width: 640, Height: 360, FPS: 15, Priority: 2},
		},
		{
			&livekit.SignalRequest{Message: &livekit.SignalRequest_SubscriptionPermission{SubscriptionPermission: &livekit.SubscriptionPermission{
				TrackPermissions: []*livekit.TrackPermission{{ParticipantIdentity: "bob", TrackSids: []string{"TR_1"}}, {ParticipantSid: "PA_2", AllTracks: true}},
			}}},
			SubscriptionPermission{Grants: []SubscriptionGrant{{Identity: "bob", Sources: []mesh.SourceID{"TR_1"}}, {Participant: "PA_2", AllSources: true, Sources: []mesh.SourceID{}}}},
		},
		{
			&livekit.SignalRequest{Message: &livekit.SignalRequest_UpdateMetadata{UpdateMetadata: &livekit.UpdateParticipantMetadata{
				Name: "n", Metadata: "m", Attributes: map[string]string{"a": ""}, RequestId: 9,
			}}},
			UpdateMetadata{Name: "n", Metadata: "m", Attributes: map[string]string{"a": ""}, RequestID: 9},
		},
		{
			&livekit.SignalRequest{Message: &livekit.SignalRequest_UpdateAudioTrack{UpdateAudioTrack: &livekit.UpdateLocalAudioTrack{
				TrackSid: "TR_1", Features: []livekit.AudioTrackFeature{livekit.AudioTrackFeature_TF_STEREO, livekit.AudioTrackFeature_TF_NOISE_SUPPRESSION},
			}}},
			UpdateAudioTrack{Source: "TR_1", Features: []int32{0, 4}, Stereo: true},
		},
		{
			&livekit.SignalRequest{Message: &livekit.SignalRequest_UpdateVideoTrack{UpdateVideoTrack: &livekit.UpdateLocalVideoTrack{TrackSid: "TR_1", Width: 1, Height: 2}}},
			UpdateVideoTrack{"TR_1", 1, 2},
		},
		{
			&livekit.SignalRequest{Message: &livekit.SignalRequest_SyncState{SyncState: &livekit.SyncState{
				Offer: &livekit.SessionDescription{Type: "offer"}, Subscription: &livekit.UpdateSubscription{TrackSids: []string{"TR_2"}},
				PublishTracks:            []*livekit.TrackPublishedResponse{{Cid: "c", Track: &livekit.TrackInfo{Sid: "TR_1"}}},
				DataChannels:             []*livekit.DataChannelInfo{{Label: "_reliable", Id: 1, Target: 1}},
				TrackSidsDisabled:        []string{"TR_3"},
				DatachannelReceiveStates: []*livekit.DataChannelReceiveState{{PublisherSid: "PA_2", LastSeq: 5}},
			}}},
			SyncState{
				Offer: &SessionDescription{Type: "offer"}, Subscription: Subscription{Sources: []mesh.SourceID{"TR_2"}},
				Published: []PublishedSource{{"c", "TR_1"}}, DataChannels: []DataChannel{{"_reliable", 1, TargetSubscriber}},
				Disabled: []mesh.SourceID{"TR_3"}, ReceiveStates: []DataReceiveState{{"PA_2", 5}},
			},
		},
		{
			&livekit.SignalRequest{Message: &livekit.SignalRequest_Simulate{Simulate: &livekit.SimulateScenario{Scenario: &livekit.SimulateScenario_SpeakerUpdate{SpeakerUpdate: 3}}}},
			Scenario{SimulateSpeakerUpdate, 3},
		},
	} {
		c.send(tc.msg)
		require.Equal(t, tc.want, s.next(t))
	}
	// What nobody knows is ignored: an empty message, an unset scenario, a field of the future (number 1000, varint 1).
	c.send(&livekit.SignalRequest{})
	c.send(&livekit.SignalRequest{Message: &livekit.SignalRequest_Simulate{Simulate: &livekit.SimulateScenario{}}})
	c.write(websocket.MessageBinary, []byte{0xc0, 0x3e, 0x01})

	c.send(&livekit.SignalRequest{Message: &livekit.SignalRequest_Leave{Leave: &livekit.LeaveRequest{Reason: livekit.DisconnectReason_CLIENT_INITIATED}}})
	require.Equal(t, LeaveClientInitiated, s.next(t))
	leave := c.recv().GetLeave()
	require.Equal(t, livekit.DisconnectReason_CLIENT_INITIATED, leave.GetReason())
	require.Equal(t, livekit.LeaveRequest_DISCONNECT, leave.GetAction())
	require.Equal(t, websocket.StatusNormalClosure, c.closeError().Code)
	require.NoError(t, s.ends(t))
	require.EqualValues(t, 2, f.metric(t, "messages_total", "in", "unknown"))
	require.EqualValues(t, 1, f.metric(t, "messages_total", "in", "offer"))
	require.EqualValues(t, 1, f.metric(t, "messages_total", "out", "join"))
	require.Zero(t, f.metric(t, "connections"))
}

func TestPing(t *testing.T) {
	f := newFixture(t)
	c, _, _ := f.join(t)
	c.send(&livekit.SignalRequest{Message: &livekit.SignalRequest_Ping{Ping: 42}})
	require.NotZero(t, c.recv().GetPong())
	c.send(&livekit.SignalRequest{Message: &livekit.SignalRequest_PingReq{PingReq: &livekit.Ping{Timestamp: 43}}})
	pong := c.recv().GetPongResp()
	require.EqualValues(t, 43, pong.GetLastPingTimestamp())
	require.NotZero(t, pong.GetTimestamp())
}

func TestRefusedRequestsAreAnswered(t *testing.T) {
	f := newFixture(t)
	c, _, _ := f.join(t)
	refused := func(m *livekit.SignalRequest, reason livekit.RequestResponse_Reason) *livekit.RequestResponse {
		t.Helper()
		c.send(m)
		r := c.recv().GetRequestResponse()
		require.Equal(t, reason, r.GetReason())
		require.NotEmpty(t, r.GetMessage())
		return r
	}
	r := refused(&livekit.SignalRequest{Message: &livekit.SignalRequest_AddTrack{AddTrack: &livekit.AddTrackRequest{Cid: "c", Type: livekit.TrackType_DATA}}}, livekit.RequestResponse_UNSUPPORTED_TYPE)
	require.Equal(t, "c", r.GetAddTrack().GetCid())
	r = refused(&livekit.SignalRequest{Message: &livekit.SignalRequest_AddTrack{AddTrack: &livekit.AddTrackRequest{Cid: "c", Name: strings.Repeat("n", 300)}}}, livekit.RequestResponse_LIMIT_EXCEEDED)
	require.Equal(t, "c", r.GetAddTrack().GetCid())
	r = refused(&livekit.SignalRequest{Message: &livekit.SignalRequest_UpdateMetadata{UpdateMetadata: &livekit.UpdateParticipantMetadata{RequestId: 5, Metadata: strings.Repeat("m", 513<<10)}}}, livekit.RequestResponse_LIMIT_EXCEEDED)
	require.EqualValues(t, 5, r.GetRequestId())
	r = refused(&livekit.SignalRequest{Message: &livekit.SignalRequest_PublishDataTrackRequest{PublishDataTrackRequest: &livekit.PublishDataTrackRequest{PubHandle: 3}}}, livekit.RequestResponse_UNSUPPORTED_TYPE)
	require.EqualValues(t, 3, r.GetPublishDataTrack().GetPubHandle())
	r = refused(&livekit.SignalRequest{Message: &livekit.SignalRequest_GetDataBlobRequest{GetDataBlobRequest: &livekit.GetDataBlobRequest{RequestId: 6}}}, livekit.RequestResponse_UNSUPPORTED_TYPE)
	require.EqualValues(t, 6, r.GetRequestId())
}

func TestTextMode(t *testing.T) {
	f := newFixture(t)
	c, s, conn := f.join(t)
	c.write(websocket.MessageText, []byte(`{"mute":{"sid":"TR_1","muted":true},"future":1}`))
	require.Equal(t, muted{"TR_1", true}, s.next(t))
	conn.SendMute("TR_2", true)
	typ, b, err := c.read()
	require.NoError(t, err)
	require.Equal(t, websocket.MessageText, typ)
	m := new(livekit.SignalResponse)
	require.NoError(t, protojson.Unmarshal(b, m))
	require.Equal(t, "TR_2", m.GetMute().GetSid())
	c.send(&livekit.SignalRequest{Message: &livekit.SignalRequest_Mute{Mute: &livekit.MuteTrackRequest{Sid: "TR_3"}}}) // and back
	require.Equal(t, muted{"TR_3", false}, s.next(t))
	conn.SendMute("TR_4", true)
	require.Equal(t, "TR_4", c.recv().GetMute().GetSid())
}

// A client that sends garbage is told so and hurts only itself.
func TestMalformedFrames(t *testing.T) {
	many := make([]string, maxListed+1)
	over, err := proto.Marshal(&livekit.SignalRequest{Message: &livekit.SignalRequest_Subscription{Subscription: &livekit.UpdateSubscription{TrackSids: many}}})
	require.NoError(t, err)
	for name, tc := range map[string]struct {
		typ    websocket.MessageType
		frame  []byte
		code   websocket.StatusCode
		metric string
	}{
		"binary":   {websocket.MessageBinary, []byte{0x0a, 0xff}, 1007, malformedDecode},
		"text":     {websocket.MessageText, []byte("{nonsense"), 1007, malformedDecode},
		"over":     {websocket.MessageBinary, over, 1008, malformedLimit},
		"10 MB":    {websocket.MessageBinary, make([]byte, 10<<20), 1009, malformedSize},
		"one over": {websocket.MessageBinary, make([]byte, 1<<20+1), 1009, malformedSize},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, func(c *Config) { c.CloseTimeout = time.Minute }) // reading 10 MB to their end takes a busy machine long
			other, otherSession, _ := f.join(t)
			c, s, _ := f.join(t)
			c.write(tc.typ, tc.frame)
			ce := c.closeError()
			require.Equal(t, tc.code, ce.Code)
			require.NotEmpty(t, ce.Reason)
			require.ErrorIs(t, s.ends(t), ErrMalformed)
			require.EqualValues(t, 1, f.metric(t, "malformed_frames_total", tc.metric))
			other.send(&livekit.SignalRequest{Message: &livekit.SignalRequest_Mute{Mute: &livekit.MuteTrackRequest{Sid: "TR_1"}}})
			require.Equal(t, muted{"TR_1", false}, otherSession.next(t))
		})
	}
}

// A whole megabyte of offer passes.
func TestLargestFrame(t *testing.T) {
	f := newFixture(t)
	c, s, _ := f.join(t)
	sdp := strings.Repeat("s", 1<<20-64)
	c.send(&livekit.SignalRequest{Message: &livekit.SignalRequest_Offer{Offer: &livekit.SessionDescription{Sdp: sdp}}})
	require.Len(t, s.next(t).(offered).SDP, len(sdp))
}

// A client that declares a huge frame and then stalls cannot hold the connection open during the close handshake.
func TestStalledFrameIsCutOff(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.CloseTimeout = 50 * time.Millisecond })
	var raw net.Conn
	c := f.dial(t, "/rtc", v0(t), &websocket.DialOptions{HTTPClient: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			var d net.Dialer
			var err error
			raw, err = d.DialContext(ctx, network, addr)
			return raw, err
		},
	}}})
	s := f.session(t)
	require.NotNil(t, c.recv().GetJoin())
	// FIN+binary, masked, 2^40 bytes announced, a little more than the limit sent.
	_, err := raw.Write(append([]byte{0x82, 0xff, 0, 0, 1, 0, 0, 0, 0, 0, 1, 2, 3, 4}, make([]byte, 1<<20+1)...))
	require.NoError(t, err)
	require.ErrorIs(t, s.ends(t), ErrMalformed)
}

func TestSlowClient(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.QueueMessages = 8 })
	_, s, conn := f.join(t)
	done := make(chan struct{})
	go func() { // never blocks, whatever the client does
		defer close(done)
		big := strings.Repeat("x", 1<<20)
		for i := 0; i < 1000; i++ {
			select {
			case <-conn.Done():
				return
			default:
				conn.SendRefreshToken(big)
			}
		}
	}()
	select {
	case <-done:
	case <-time.After(patience):
		require.Fail(t, "the sender is blocked")
	}
	require.ErrorIs(t, s.ends(t), ErrSlowClient)
	require.EqualValues(t, 1, f.metric(t, "slow_client_closes_total", closeQueue))
	conn.SendRefreshToken("after the end")
	conn.Close(CloseNormal, "again")
}

func TestWriteTimeout(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.WriteTimeout, c.QueueBytes = 50*time.Millisecond, 1<<30 })
	_, s, conn := f.join(t)
	conn.SendRefreshToken(strings.Repeat("x", 64<<20)) // more than the buffers of a socket hold
	require.ErrorIs(t, s.ends(t), ErrSlowClient)
	require.EqualValues(t, 1, f.metric(t, "slow_client_closes_total", closeWrite))
}

func TestSilentClientTimesOut(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.PingInterval, c.ReadTimeout = 50*time.Millisecond, 300*time.Millisecond })
	_, s, _ := f.join(t) // nobody reads on the client's side, so nothing answers the pings
	require.ErrorIs(t, s.ends(t), ErrReadTimeout)
	require.EqualValues(t, 1, f.metric(t, "read_timeouts_total"))
}

func TestPongsKeepTheConnection(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.PingInterval, c.ReadTimeout = 20*time.Millisecond, 2*time.Second })
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	pings := make(chan struct{}, 1024)
	c := f.dial(t, "/rtc", v0(t), &websocket.DialOptions{OnPingReceived: func(context.Context, []byte) bool { pings <- struct{}{}; return true }})
	go func() {
		for {
			if _, _, err := c.ws.Read(ctx); err != nil {
				return
			}
		}
	}()
	for range 3 { // pings come one at a time: the second means that the first was answered
		select {
		case <-pings:
		case <-ctx.Done():
			require.Fail(t, "no ping")
		}
	}
	require.EqualValues(t, 1, f.metric(t, "connections"))
}

func TestCloseSendsWhatIsQueuedFirst(t *testing.T) {
	f := newFixture(t)
	c, s, conn := f.join(t)
	for range 100 {
		conn.SendMute("TR_1", true)
	}
	conn.SendLeave(LeaveParticipantRemoved, ActionDisconnect)
	conn.Close(ClosePolicy, strings.Repeat("r", 200))
	conn.SendMute("never", true)
	for range 100 {
		require.Equal(t, "TR_1", c.recv().GetMute().GetSid())
	}
	leave := c.recv().GetLeave()
	require.Equal(t, livekit.DisconnectReason_PARTICIPANT_REMOVED, leave.GetReason())
	require.False(t, leave.GetCanReconnect())
	ce := c.closeError()
	require.Equal(t, websocket.StatusPolicyViolation, ce.Code)
	require.Len(t, ce.Reason, 123)
	require.NoError(t, s.ends(t))
}

func TestShutdown(t *testing.T) {
	f := newFixture(t)
	c, s, _ := f.join(t)
	stopped := make(chan error, 1)
	go func() { stopped <- f.stop() }()
	leave := c.recv().GetLeave()
	require.Equal(t, livekit.DisconnectReason_SERVER_SHUTDOWN, leave.GetReason())
	require.Equal(t, livekit.LeaveRequest_RECONNECT, leave.GetAction())
	require.Equal(t, websocket.StatusGoingAway, c.closeError().Code)
	require.ErrorIs(t, s.ends(t), ErrShutdown)
	require.NoError(t, <-stopped)

	resp, err := http.Get(f.http.URL + "/rtc/validate")
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
}

// A client that does not answer the close does not hold up the shutdown.
func TestShutdownIsBounded(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.ShutdownTimeout, c.CloseTimeout = 100*time.Millisecond, 50*time.Millisecond })
	_, s, _ := f.join(t)
	require.NoError(t, f.stop())
	require.ErrorIs(t, s.ends(t), ErrShutdown)
}

func TestFailedUpgradeEndsTheSession(t *testing.T) {
	f := newFixture(t)
	req, err := http.NewRequest(http.MethodGet, f.http.URL+"/rtc?"+v0(t).Encode(), nil)
	require.NoError(t, err)
	req.Header.Set("Upgrade", "websocket") // no key, no version: not an upgrade after all
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.GreaterOrEqual(t, resp.StatusCode, 400)
	e, ok := f.session(t).next(t).(closed)
	require.True(t, ok)
	require.Error(t, e.err)
	require.EqualValues(t, 1, f.metric(t, "joins_total", joinUpgrade))
}

func TestHallWithoutSession(t *testing.T) {
	f := newFixture(t)
	f.hall.session = func(JoinRequest) Session { return nil }
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, resp, err := websocket.Dial(ctx, f.http.URL+"/rtc?"+v0(t).Encode(), nil)
	require.Error(t, err)
	require.Equal(t, http.StatusInternalServerError, resp.StatusCode)
}
