package signal

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/livekit/protocol/livekit"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/token"
)

func TestHandles(t *testing.T) {
	for path, want := range map[string]bool{
		"/rtc": true, "//rtc": true, "/rtc/v1": true, "/rtc/validate": true, "/rtc/v1/validate": true, "///rtc//v1///validate/": true,
		"/base/path/rtc/v1": true, "/": false, "/rtcx": false, "/rtc/v2": false, "/rtc/v1/validate/x": false, "/v1": false, "/validate": false,
		"/settings/regions": false, "": false,
	} {
		require.Equal(t, want, Handles(path), path)
	}
}

// The statuses and texts decide what SDKs do next: livekit-client falls back from v1 to v0 on 404, gives up on 401.
func TestStatuses(t *testing.T) {
	f := newFixture(t)
	protocol := &livekit.JoinRequest{ClientInfo: &livekit.ClientInfo{Protocol: 17}}
	long := strings.Repeat("x", mesh.MaxNameLength+1)
	with := func(change func(*token.Claims)) url.Values { return v0(t, "access_token", grant(t, change)) }
	foreign, err := token.Mint("other", testSecret, token.Claims{}, 0, time.Now())
	require.NoError(t, err)
	forged, err := token.Mint(testKey, testSecret+"x", token.Claims{}, 0, time.Now())
	require.NoError(t, err)
	expired, err := token.Mint(testKey, testSecret, token.Claims{}, 1, time.Now().AddDate(0, 0, -1))
	require.NoError(t, err)
	for name, tc := range map[string]struct {
		path    string
		q       url.Values
		refusal error
		status  int
		text    string
	}{
		"v0":                {"/rtc", v0(t), nil, 200, "success"},
		"v1":                {"/rtc/v1", v0(t, "join_request", wrap(t, protocol, true)), nil, 200, "success"},
		"no token":          {"/rtc", url.Values{}, nil, 401, "permissions denied"},
		"garbage token":     {"/rtc", v0(t, "access_token", "abc"), nil, 401, "invalid authorization token"},
		"huge token":        {"/rtc", v0(t, "access_token", strings.Repeat("a", token.MaxTokenBytes+1)), nil, 401, "invalid authorization token"},
		"forged token":      {"/rtc", v0(t, "access_token", forged), nil, 401, "invalid authorization token"},
		"foreign token":     {"/rtc", v0(t, "access_token", foreign), nil, 401, "invalid API key: "},
		"expired token":     {"/rtc", v0(t, "access_token", expired), nil, 401, "invalid token"},
		"no grant":          {"/rtc", with(func(c *token.Claims) { c.Grant = token.Grant{} }), nil, 401, "no permissions to access the room"},
		"no room":           {"/rtc", with(func(c *token.Claims) { c.Grant.Room = "" }), nil, 400, "no room name"},
		"10 kB room":        {"/rtc", with(func(c *token.Claims) { c.Grant.Room = strings.Repeat("r", 10<<10) }), nil, 400, "at most 256"},
		"no identity":       {"/rtc", with(func(c *token.Claims) { c.Identity = "" }), nil, 400, "identity cannot be empty"},
		"long identity":     {"/rtc", with(func(c *token.Claims) { c.Identity = mesh.Identity(long) }), nil, 400, "identity has 257 bytes"},
		"long name":         {"/rtc", with(func(c *token.Claims) { c.Name = long }), nil, 400, "name is too long"},
		"old protocol":      {"/rtc", v0(t, "protocol", "8"), nil, 400, "unsupported protocol"},
		"no protocol":       {"/rtc", v0(t, "protocol", "x"), nil, 400, "unsupported protocol"},
		"bad attributes":    {"/rtc", v0(t, "attributes", "!"), nil, 400, "attributes"},
		"no join request":   {"/rtc/v1", v0(t), nil, 400, "join_request is required"},
		"not base64":        {"/rtc/v1", v0(t, "join_request", "%%%"), nil, 400, "not base64"},
		"not protobuf":      {"/rtc/v1", v0(t, "join_request", "////"), nil, 400, "join_request: not"},
		"bomb":              {"/rtc/v1", v0(t, "join_request", wrap(t, &livekit.JoinRequest{Metadata: strings.Repeat("x", 2<<20)}, true)), nil, 400, "larger than"},
		"too many tracks":   {"/rtc/v1", v0(t, "join_request", wrap(t, &livekit.JoinRequest{AddTrackRequests: make([]*livekit.AddTrackRequest, 65)}, true)), nil, 400, "65 tracks"},
		"refused":           {"/rtc", v0(t), ErrNoSuchRoom, 404, "requested room does not exist"},
		"draining":          {"/rtc", v0(t), ErrDraining, 503, "node is draining"},
		"failed":            {"/rtc", v0(t), errors.New("secret detail"), 500, "internal error"},
		"nonsense refusal":  {"/rtc", v0(t), &RefusedError{200, "yes"}, 500, "internal error"},
		"v1 with v0 params": {"//rtc//v1/", v0(t), nil, 400, "join_request is required"},
	} {
		t.Run(name, func(t *testing.T) {
			f.hall.mu.Lock()
			f.hall.refusal = tc.refusal
			f.hall.mu.Unlock()
			resp, err := http.Get(f.http.URL + strings.TrimSuffix(tc.path, "/") + "/validate?" + tc.q.Encode())
			require.NoError(t, err)
			body, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			require.Equal(t, tc.status, resp.StatusCode, string(body))
			require.Contains(t, string(body), tc.text)
			require.Equal(t, "*", resp.Header.Get("Access-Control-Allow-Origin"))
			if tc.status == 200 {
				require.Equal(t, "success", string(body))
				return
			}
			// The socket says the same as validate: native SDKs read it there.
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			_, resp, err = websocket.Dial(ctx, f.http.URL+tc.path+"?"+tc.q.Encode(), nil)
			require.Error(t, err)
			require.Equal(t, tc.status, resp.StatusCode)
			again, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			require.Equal(t, body[:min(len(body), 1024)], again)
		})
	}
	require.Zero(t, f.metric(t, "connections"))
	require.NotZero(t, f.metric(t, "joins_total", joinDenied))
	require.NotZero(t, f.metric(t, "joins_total", joinBadRequest))
	require.NotZero(t, f.metric(t, "joins_total", joinRefused))
	require.NotZero(t, f.metric(t, "checks_total", joinOK))
	require.NotZero(t, f.metric(t, "checks_total", joinFailed))
}

func TestPlainRequests(t *testing.T) {
	f := newFixture(t)
	for _, tc := range []struct {
		method, path string
		status       int
	}{
		{"GET", "/rtc", 404},
		{"GET", "/rtc/v1", 404},
		{"GET", "/other", 404},
		{"DELETE", "/rtc/validate", 405},
		{"OPTIONS", "/rtc/v1/validate", 204},
	} {
		req, err := http.NewRequest(tc.method, f.http.URL+tc.path, nil)
		require.NoError(t, err)
		req.Header.Set("Access-Control-Request-Headers", "authorization")
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, tc.status, resp.StatusCode, "%s %s", tc.method, tc.path)
		require.Empty(t, body)
		require.Equal(t, "*", resp.Header.Get("Access-Control-Allow-Origin"))
		if tc.method == "OPTIONS" {
			require.Equal(t, "authorization", resp.Header.Get("Access-Control-Allow-Headers"))
			require.Equal(t, "86400", resp.Header.Get("Access-Control-Max-Age"))
		}
	}
}

func TestJoinV0(t *testing.T) {
	f := newFixture(t)
	q := v0(t, "adaptive_stream", "1", "capabilities", "CAP_PACKET_TRAILER,CAP_NONE,CAP_COMPRESSION_DEFLATE_RAW", "subscriber_allow_pause", "0")
	q.Del("access_token")
	q.Del("auto_subscribe")
	c := f.dial(t, "//base//rtc", q, &websocket.DialOptions{HTTPHeader: http.Header{
		"Authorization": {"Bearer " + grant(t)},
		"User-Agent":    {"Mozilla/5.0 (Windows NT 10.0) Gecko/20100101 Firefox/140.0"},
		"Origin":        {"https://elsewhere.example"},
	}})
	join := c.recv().GetJoin()
	require.Equal(t, "r", join.GetRoom().GetName())
	require.Equal(t, "1.13.3", join.GetServerInfo().GetVersion())
	require.Equal(t, "1.13.3", join.GetServerVersion())
	require.Equal(t, "0.1.0", join.GetServerInfo().GetDebugInfo())
	require.EqualValues(t, 17, join.GetServerInfo().GetProtocol())
	require.EqualValues(t, 5, join.GetPingInterval())
	require.EqualValues(t, 15, join.GetPingTimeout())
	require.Equal(t, "video/VP8", join.GetEnabledPublishCodecs()[0].GetMime())

	s := f.session(t)
	r := s.req
	require.Equal(t, mesh.RoomName("r"), r.Room)
	require.Equal(t, mesh.Identity("alice"), r.Identity)
	require.True(t, r.AutoSubscribe, "absent means true in v0")
	require.True(t, r.AdaptiveStream)
	require.False(t, r.SinglePC)
	require.False(t, *r.SubscriberAllowPause)
	require.Nil(t, r.AutoSubscribeData)
	require.True(t, r.RemoteAddr.IsLoopback())
	require.Equal(t, ClientInfo{
		SDK: "js", Version: "2.23.0", Protocol: 17, ClientProtocol: 2, Capabilities: []int32{1, 2}, Browser: "firefox", OS: "windows",
	}, r.Client)
	require.Equal(t, map[string]string{"k": "v"}, r.Attributes)
	require.EqualValues(t, 1, f.metric(t, "connections"))
	require.EqualValues(t, 1, f.metric(t, "joins_total", joinOK))

	require.NoError(t, c.ws.Close(websocket.StatusNormalClosure, ""))
	require.Error(t, s.ends(t), "closed without leave: the signal is lost")
}

func TestJoinV1(t *testing.T) {
	req := &livekit.JoinRequest{
		ClientInfo:            &livekit.ClientInfo{Sdk: livekit.ClientInfo_REACT_NATIVE, Protocol: 16, Capabilities: []livekit.ClientInfo_Capability{1}},
		ConnectionSettings:    &livekit.ConnectionSettings{AdaptiveStream: true},
		Metadata:              "mine",
		ParticipantAttributes: map[string]string{"k": "", "n": "w"},
		AddTrackRequests:      []*livekit.AddTrackRequest{{Cid: "c1", Type: livekit.TrackType_VIDEO, Source: livekit.TrackSource_CAMERA}},
		PublisherOffer:        &livekit.SessionDescription{Type: "offer", Sdp: "v=0", Id: 7},
		SyncState:             &livekit.SyncState{TrackSidsDisabled: []string{"TR_x"}},
	}
	standard := func(s string) string {
		return strings.TrimRight(strings.NewReplacer("-", "+", "_", "/").Replace(s), "=")
	}
	yes := true
	for name, tc := range map[string]struct {
		path, encoded string
		token         string
		own           bool
	}{
		"URL alphabet, gzip":         {"/rtc/v1", wrap(t, req, true), grant(t), false},
		"standard alphabet, plain":   {"/rtc/v1", standard(wrap(t, req, false)), grant(t), false},
		"plus became space":          {"/rtc/v1", strings.ReplaceAll(standard(wrap(t, req, true)), "+", " "), grant(t), false},
		"on v0 path":                 {"/rtc", wrap(t, req, true), grant(t), false},
		"may update its own profile": {"/rtc/v1", wrap(t, req, true), grant(t, func(c *token.Claims) { c.Grant.CanUpdateOwnMetadata = &yes }), true},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			c := f.dial(t, tc.path, url.Values{"access_token": {tc.token}, "join_request": {tc.encoded}})
			require.NotNil(t, c.recv().GetJoin())
			s := f.session(t)
			s.conn(t)
			require.Equal(t, "c1", s.next(t).(AddTrack).ClientID)
			require.Equal(t, offered{"offer", "v=0", 7}, s.next(t))
			r := s.req
			require.True(t, r.SinglePC)
			require.False(t, r.AutoSubscribe, "absent means false in v1")
			require.False(t, *r.AutoSubscribeData)
			require.Equal(t, "reactnative", r.Client.SDK)
			require.Equal(t, []mesh.SourceID{"TR_x"}, r.SyncState.Disabled)
			if tc.own {
				require.Equal(t, "mine", r.Metadata)
				require.Equal(t, map[string]string{"k": "v", "n": "w"}, r.Attributes)
			} else {
				require.Equal(t, "m", r.Metadata)
				require.Equal(t, map[string]string{"k": "v"}, r.Attributes)
			}
		})
	}
}

func TestResumeAndPublishSuffix(t *testing.T) {
	f := newFixture(t)
	f.hall.session = func(JoinRequest) Session { return RefuseWithLeave(LeaveStateMismatch, ActionReconnect) }
	c := f.dial(t, "/rtc", v0(t, "reconnect", "1", "reconnect_reason", "2", "sid", "PA_old"))
	leave := c.recv().GetLeave()
	require.Equal(t, livekit.DisconnectReason_STATE_MISMATCH, leave.GetReason())
	require.Equal(t, livekit.LeaveRequest_RECONNECT, leave.GetAction())
	require.True(t, leave.GetCanReconnect())
	require.Equal(t, websocket.StatusNormalClosure, c.closeError().Code)
	r := f.hall.last()
	require.True(t, r.Reconnect)
	require.EqualValues(t, 2, r.ReconnectReason)
	require.Equal(t, mesh.ParticipantID("PA_old"), r.ParticipantID)

	c = f.dial(t, "/rtc", v0(t, "publish", "screen"))
	require.NotNil(t, c.recv().GetLeave())
	r = f.hall.last()
	require.Equal(t, mesh.Identity("alice#screen"), r.Identity)
	require.False(t, r.Permission.CanSubscribe)
	require.True(t, r.Permission.CanPublish)
}

func TestConfigValidate(t *testing.T) {
	cfg := DefaultConfig()
	require.ErrorContains(t, cfg.Validate(), "NodeID")
	cfg.NodeID = "n1"
	require.NoError(t, cfg.Validate())
	err := (&Config{}).Validate()
	for _, name := range []string{"NodeID", "ServerVersion", "PublishCodecs", "ClientAddr", "MaxMessageBytes", "QueueMessages", "CloseTimeout", "ClientPingInterval"} {
		require.ErrorContains(t, err, name)
	}
	_, err = New(cfg, nil, nil, nil, nil)
	require.Error(t, err)
	reg := prometheus.NewRegistry()
	keys := func() token.Keys { return nil }
	_, err = New(cfg, keys, &fakeHall{}, slog.Default(), reg)
	require.NoError(t, err)
	_, err = New(cfg, keys, &fakeHall{}, slog.Default(), reg)
	require.ErrorContains(t, err, "metrics")
}
