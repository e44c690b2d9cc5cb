package node

import (
	"bytes"
	"context"
	"crypto/rand"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/livekit/protocol/livekit"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/meshnet"
	"github.com/meridian-sfu/meridian/internal/token"
)

// Whatever comes in by any door, the one who sent it gets an answer, a counter moves, and a call between others goes on.
func TestHostileInputHurtsOnlyItsSender(t *testing.T) {
	nodes := startMesh(t, "us-east", "eu-west")
	target := nodes[0]
	alice := join(t, target, "quiet room", "alice", personOptions{})
	bob := join(t, nodes[1], "quiet room", "bob", personOptions{single: true})
	alice.gets(t, bob)
	bob.gets(t, alice)

	refused := func(query url.Values, status int, text string) {
		t.Helper()
		res, err := http.Get(target.http() + "/rtc/validate?" + query.Encode())
		require.NoError(t, err)
		defer res.Body.Close()
		body, _ := io.ReadAll(res.Body)
		require.Equal(t, status, res.StatusCode, string(body))
		require.Contains(t, string(body), text)
	}
	mint := func(key, secret, room string, ttl time.Duration) string {
		jwt, err := token.Mint(key, secret, token.Claims{Identity: "mallory", Grant: token.Grant{RoomJoin: true, Room: room}}, ttl, time.Now())
		require.NoError(t, err)
		return jwt
	}
	t.Run("tokens", func(t *testing.T) {
		refused(url.Values{"protocol": {"15"}}, http.StatusUnauthorized, "")
		refused(url.Values{"protocol": {"15"}, "access_token": {"nonsense"}}, http.StatusUnauthorized, "invalid authorization token")
		refused(url.Values{"protocol": {"15"}, "access_token": {mint("otherkey", testSecret, "r", time.Hour)}}, http.StatusUnauthorized, "invalid API key")
		refused(url.Values{"protocol": {"15"}, "access_token": {mint(testKey, strings.Repeat("x", 32), "r", time.Hour)}}, http.StatusUnauthorized, "signature is invalid")
		expired, err := token.Mint(testKey, testSecret, token.Claims{Identity: "m", Grant: token.Grant{RoomJoin: true, Room: "r"}}, time.Second, time.Now().Add(-time.Hour))
		require.NoError(t, err)
		refused(url.Values{"protocol": {"15"}, "access_token": {expired}}, http.StatusUnauthorized, "expired")
		refused(url.Values{"protocol": {"15"}, "access_token": {mint(testKey, testSecret, strings.Repeat("r", 10_000), time.Hour)}}, http.StatusBadRequest, "256")
	})

	mallory := func(t *testing.T) *websocket.Conn {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		t.Cleanup(cancel)
		c, _, err := websocket.Dial(ctx, target.url+"/rtc?protocol=15&access_token="+mint(testKey, testSecret, "quiet room", time.Hour), nil)
		require.NoError(t, err)
		c.SetReadLimit(1 << 20)
		t.Cleanup(func() { _ = c.CloseNow() })
		return c
	}
	untilClosed := func(t *testing.T, c *websocket.Conn) websocket.CloseError {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
		defer cancel()
		for {
			if _, _, err := c.Read(ctx); err != nil {
				var closed websocket.CloseError
				require.ErrorAs(t, err, &closed)
				return closed
			}
		}
	}
	t.Run("garbage frame", func(t *testing.T) {
		c := mallory(t)
		require.NoError(t, c.Write(context.Background(), websocket.MessageBinary, []byte{0xff, 0xff, 0xff}))
		require.Equal(t, websocket.StatusCode(1007), untilClosed(t, c).Code)
	})
	t.Run("10 MB frame", func(t *testing.T) {
		c := mallory(t)
		go func() { _ = c.Write(context.Background(), websocket.MessageBinary, make([]byte, 10<<20)) }()
		require.Equal(t, websocket.StatusMessageTooBig, untilClosed(t, c).Code)
	})
	t.Run("SDP that makes no sense", func(t *testing.T) {
		c := mallory(t)
		for _, sdp := range []string{"", "v=0", "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=video 9 RTP/AVP 1\r\n", strings.Repeat("m=video 9 UDP/TLS/RTP/SAVPF 96\r\n", 5000)} {
			for _, msg := range []*livekit.SignalRequest{
				{Message: &livekit.SignalRequest_Offer{Offer: &livekit.SessionDescription{Type: "offer", Sdp: sdp, Id: 1}}},
				{Message: &livekit.SignalRequest_Answer{Answer: &livekit.SessionDescription{Type: "answer", Sdp: sdp}}},
				{Message: &livekit.SignalRequest_Trickle{Trickle: &livekit.TrickleRequest{CandidateInit: "{" + sdp}}},
				{Message: &livekit.SignalRequest_Mute{Mute: &livekit.MuteTrackRequest{Sid: "TR_nobody", Muted: true}}},
				{Message: &livekit.SignalRequest_Subscription{Subscription: &livekit.UpdateSubscription{TrackSids: []string{"TR_nobody"}, Subscribe: true}}},
			} {
				raw, err := proto.Marshal(msg)
				require.NoError(t, err)
				require.NoError(t, c.Write(context.Background(), websocket.MessageBinary, raw))
			}
		}
		require.Eventually(t, func() bool {
			return counter(t, target, "meridian_node_negotiation_failures_total") > 0
		}, 10*time.Second, 10*time.Millisecond)
	})
	t.Run("garbage on every port", func(t *testing.T) {
		noise := make([]byte, 1200)
		_, _ = rand.Read(noise)
		for _, addr := range []string{target.cfg.Mesh.Listen.String()} {
			c, err := net.Dial("udp", addr)
			require.NoError(t, err)
			for i := range 200 {
				noise[0] = byte(i)
				_, _ = c.Write(noise)
			}
			_ = c.Close()
		}
		c, err := net.Dial("tcp", target.cfg.HTTP.Listen.String())
		require.NoError(t, err)
		_, _ = c.Write(noise)
		_ = c.Close()
		require.Eventually(t, func() bool {
			return counter(t, target, "meridian_meshnet_stray_packets_total") > 0
		}, 10*time.Second, 10*time.Millisecond)
	})
	t.Run("a node of another mesh", func(t *testing.T) {
		ca, err := meshnet.NewCA("another mesh", time.Hour)
		require.NoError(t, err)
		cert, key, err := ca.Issue("us-east-9", time.Hour)
		require.NoError(t, err)
		id, err := meshnet.NewIdentity(ca.CertPEM(), cert, key)
		require.NoError(t, err)
		cfg := meshnet.DefaultConfig()
		cfg.Listen = mustAddrPort("127.0.0.1:0")
		stranger, err := meshnet.New(cfg, id, nil, testLogger(t, "stranger"), newRegistry())
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		done := make(chan struct{})
		go func() { defer close(done); _ = stranger.Run(ctx) }()
		_, err = stranger.Dial(ctx, target.cfg.Mesh.Listen, mesh.NodeID("us-east"), meshnet.ALPNControl)
		require.Error(t, err)
		cancel()
		<-done
	})
	t.Run("nobody else noticed", func(t *testing.T) {
		alice.gets(t, bob)
		bob.gets(t, alice)
		require.Empty(t, alice.left)
		require.Empty(t, bob.left)
	})
}

// counter sums a metric over its labels as /metrics shows it.
func counter(t *testing.T, n *testNode, name string) float64 {
	t.Helper()
	res, err := http.Get(n.http() + "/metrics")
	require.NoError(t, err)
	defer res.Body.Close()
	var text bytes.Buffer
	_, err = copyBody(&text, res)
	require.NoError(t, err)
	return sumMetric(t, text.String(), name)
}
