package load

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/internal/meshnet"
	"github.com/meridian-sfu/meridian/internal/token"
	"github.com/meridian-sfu/meridian/node"
)

const secret = "loadsecret-loadsecret-loadsecret-"

// startNode runs a mesh of one node until the test ends and returns its address for clients.
func startNode(t *testing.T) string {
	t.Helper()
	ca, err := meshnet.NewCA("load test", time.Hour)
	require.NoError(t, err)
	dir := t.TempDir()
	require.NoError(t, ca.Save(dir))
	certPEM, keyPEM, err := ca.Issue("alone", time.Hour)
	require.NoError(t, err)
	cfg := node.DefaultConfig()
	cfg.ID, cfg.Region, cfg.DataDir = "alone", "us-east", filepath.Join(dir, "data")
	cfg.Keys = token.Keys{"key": secret}
	cfg.Mesh.Listen, cfg.Mesh.Profile, cfg.Mesh.Bootstrap = freeAddr(t), "dev", true
	cfg.HTTP.Listen = freeAddr(t)
	cfg.Media.UDPPort, cfg.Media.TCPPort, cfg.Media.IncludeLoopback = 0, 0, true
	cfg.Mesh.CAFile, cfg.Mesh.CertFile, cfg.Mesh.KeyFile = filepath.Join(dir, "ca.crt"), filepath.Join(dir, "n.crt"), filepath.Join(dir, "n.key")
	require.NoError(t, os.Mkdir(cfg.DataDir, 0o700))
	require.NoError(t, os.WriteFile(cfg.Mesh.CertFile, certPEM, 0o600))
	require.NoError(t, os.WriteFile(cfg.Mesh.KeyFile, keyPEM, 0o600))
	n, err := node.New(cfg, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-ended)
	})
	return "ws://" + cfg.HTTP.Listen.String()
}

func freeAddr(t *testing.T) netip.AddrPort {
	t.Helper()
	for range 100 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		a := l.Addr().(*net.TCPAddr).AddrPort()
		require.NoError(t, l.Close())
		if pc, err := net.ListenPacket("udp", a.String()); err == nil {
			require.NoError(t, pc.Close())
			return a
		}
	}
	t.Fatal("no free port")
	return netip.AddrPort{}
}

func scenario(url string) Scenario {
	sc := DefaultScenario()
	sc.URLs, sc.Key, sc.Secret = []string{url}, "key", secret
	sc.VideoRate, sc.Duration, sc.Warmup, sc.Patience = 300_000, time.Second, 100*time.Millisecond, 20*time.Second
	sc.ServerPIDs = []int{os.Getpid()}
	return sc
}

// The smallest load of each kind on a real node.
func TestRun(t *testing.T) {
	url := startNode(t)
	ready := scenario(url)
	ready.Patience = time.Second
	require.Eventually(t, func() bool { // a node without a quorum yet refuses
		s, err := dial(t.Context(), credentials{url: url, key: "key", secret: secret, room: "probe", identity: "probe"})
		if err == nil {
			s.leave()
		}
		return err == nil
	}, 20*time.Second, 50*time.Millisecond)

	t.Run("video", func(t *testing.T) {
		sc := scenario(url)
		sc.Subscribers = 3
		r, err := Run(t.Context(), sc, nil)
		require.NoError(t, err)
		require.Equal(t, 3, r.SubscribersConnected, r.Failures)
		require.Len(t, r.PerSubscriber, 3)
		require.Zero(t, r.NoFrame)
		require.Positive(t, r.ForwardedPackets)
		require.Positive(t, r.FirstFrameP50)
		require.Positive(t, r.DelaySamples)
		require.Positive(t, r.DelayP50)
		require.NotNil(t, r.CPUPerPacket)
		var out bytes.Buffer
		require.NoError(t, WriteTable(&out, []Row{{"node", r}}))
		require.Equal(t, 3, strings.Count(out.String(), "\n"))
		b, err := json.Marshal(r)
		require.NoError(t, err)
		for _, key := range []string{"forwarded_packets", "loss", "cpu_us_per_packet", "rss_per_subscriber_bytes", "delay_p50_ms", "delay_p99_ms", "first_frame_p50_ms"} {
			require.Contains(t, string(b), `"`+key+`"`)
		}
	})
	t.Run("speaker layout, two rooms, churn, mutes", func(t *testing.T) {
		sc := scenario(url)
		sc.Media, sc.Layout, sc.Publishers, sc.Rooms, sc.Subscribers = "both", "speaker", 4, 2, 2
		sc.Churn, sc.MuteStorm, sc.Duration = 2, 2*muteTime, 2500*time.Millisecond
		r, err := Run(t.Context(), sc, nil)
		require.NoError(t, err)
		require.Greater(t, r.SubscribersConnected, 2, "some came again")
		require.Zero(t, r.SubscribersFailed, r.Failures)
		require.Equal(t, 4, r.PerSubscriber[0].Streams, "two cameras, two microphones")
	})
	t.Run("joins", func(t *testing.T) {
		sc := scenario(url)
		sc.Joins, sc.JoinWindow, sc.Stay = 5, time.Second, 500*time.Millisecond
		r, err := Run(t.Context(), sc, func(Progress) {})
		require.NoError(t, err)
		require.Equal(t, 5, r.SubscribersConnected, r.Failures)
		require.LessOrEqual(t, r.KeyframeRequests, r.ByEncoding[0]+r.ByEncoding[1]+r.ByEncoding[2])
		require.LessOrEqual(t, r.KeyframeRequests5s, r.KeyframeRequests)
		require.GreaterOrEqual(t, r.FirstFrameP95, r.FirstFrameP50)
	})
	t.Run("audio, ended early", func(t *testing.T) {
		sc := scenario(url)
		sc.Media, sc.Subscribers, sc.Duration = "audio", 2, time.Minute
		ctx, cancel := context.WithCancel(t.Context())
		r, err := Run(ctx, sc, func(p Progress) {
			if p.Stage == "measuring" {
				cancel()
			}
		})
		require.ErrorIs(t, err, context.Canceled)
		require.Positive(t, r.ForwardedPackets)
	})
	t.Run("wrong secret", func(t *testing.T) {
		sc := scenario(url)
		sc.Secret = "another secret of a good length!!"
		_, err := Run(t.Context(), sc, nil)
		require.ErrorContains(t, err, "401")
	})
}
