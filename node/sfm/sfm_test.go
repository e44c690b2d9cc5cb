package sfm

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/pion/sdp/v3"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

func TestPortInUse(t *testing.T) {
	s := newSFM(t, nil)
	require.NotZero(t, s.UDPPort())
	require.NotZero(t, s.TCPPort())
	cfg := s.cfg
	cfg.UDPPort = s.UDPPort()
	_, err := New(cfg, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	require.ErrorContains(t, err, "UDP 127.0.0.1:")
	cfg.UDPPort, cfg.TCPPort = 0, s.TCPPort()
	_, err = New(cfg, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	require.ErrorContains(t, err, "TCP port")
	cfg.TCPPort = -2
	_, err = New(cfg, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	require.ErrorContains(t, err, "TCPPort -2")
}

func TestRunEndsEndpoints(t *testing.T) {
	cfg := DefaultConfig()
	cfg.IncludeLoopback, cfg.TCPPort, cfg.MaxEndpoints = true, -1, 1
	s, err := New(cfg, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	require.NoError(t, err)
	c := newClient(t, s, "PA_x", false, nil)
	_, err = s.NewEndpoint(EndpointConfig{}, c)
	require.ErrorIs(t, err, ErrFull)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	require.NoError(t, s.Run(ctx))
	<-c.ep.Done()
	_, err = s.NewEndpoint(EndpointConfig{}, c)
	require.ErrorIs(t, err, ErrClosed)
	require.Equal(t, Failed, c.ep.Stats().State)
}

func TestCommandOverflowEndsTheEndpoint(t *testing.T) {
	s := newSFM(t, nil)
	c := newClient(t, s, "PA_x", true, nil)
	block := make(chan struct{})
	c.ep.do(func() { <-block })
	for range 2 * maxCommands {
		c.ep.Unsubscribe("TR_x")
	}
	close(block)
	select {
	case <-c.ep.Done():
	case <-time.After(patience):
		t.Fatal("goes on")
	}
	require.ErrorIs(t, c.ep.Err(), ErrOverloaded)
}

func TestOutgoingDescription(t *testing.T) {
	const in = "v=0\r\no=- 0 0 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n" +
		"m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\na=fmtp:111 minptime=10\r\na=recvonly\r\n" +
		"m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:1\r\na=sendonly\r\n" +
		"m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:2\r\na=ssrc:5 cname:PA_x|TR_y\r\na=sendonly\r\n"
	var d sdp.SessionDescription
	require.NoError(t, d.UnmarshalString(in))
	out, err := outgoing{
		silent: map[string]bool{"0": true, "1": true}, opus: map[string]mesh.Source{"0": {Stereo: true}},
	}.apply(&d)
	require.NoError(t, err)
	require.Contains(t, out, "a=fmtp:111 minptime=10;useinbandfec=1;usedtx=1;stereo=1;maxaveragebitrate=510000\r\n")
	require.Contains(t, out, "a=mid:1\r\na=inactive\r\n")
	require.Contains(t, out, "a=mid:2\r\na=ssrc:5 cname:PA_x\r\na=sendonly\r\n")
	require.Equal(t, "minptime=10;useinbandfec=1", opusParameters(mesh.Source{DisableDTX: true}))
}

func TestParseRemoteKeepsOneSSRC(t *testing.T) {
	const head = "v=0\r\no=- 0 0 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=ice-ufrag:x\r\na=ice-pwd:y\r\na=fingerprint:sha-256 00\r\n"
	const in = head + "m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:0\r\na=msid:s t\r\na=sendonly\r\na=ssrc-group:SIM 1 2 3\r\n" +
		"a=ssrc-group:FID 1 11\r\na=ssrc-group:FID 2 12\r\na=ssrc:1 cname:a\r\na=ssrc:2 cname:a\r\na=ssrc:3 cname:a\r\n" +
		"a=ssrc:11 cname:a\r\na=ssrc:12 cname:a\r\n"
	sections, text, err := parseRemote(in)
	require.NoError(t, err)
	require.Equal(t, []section{{mid: "0", media: "video", direction: "sendonly", track: "t"}}, sections)
	require.True(t, strings.HasSuffix(text, "a=sendonly\r\na=ssrc-group:FID 1 11\r\na=ssrc:1 cname:a\r\na=ssrc:11 cname:a\r\n"), text)
	bare, _, _ := strings.Cut(in, "a=ssrc-group:SIM")
	_, text, err = parseRemote(bare)
	require.NoError(t, err)
	require.NotContains(t, text, "ssrc")
}

func TestSortRIDs(t *testing.T) {
	require.Equal(t, []string{"q", "h", "f"}, sortRIDs([]string{"f", "h", "q"}))
	require.Equal(t, []string{"2", "1", "0"}, sortRIDs([]string{"0", "1", "2"}))
	require.Equal(t, []string{"x", "a"}, sortRIDs([]string{"x", "a"}))
	require.Len(t, sortRIDs([]string{"a", "b", "c", "d", "e"}), 4)
}

func FuzzParseRemote(f *testing.F) {
	f.Add("v=0\r\no=- 0 0 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:0\r\na=ssrc:1 msid:a b\r\n")
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		sections, out, err := parseRemote(text)
		if err != nil {
			return
		}
		again, _, err := parseRemote(out)
		if err != nil || len(again) != len(sections) {
			t.Fatalf("%v after a second reading", err)
		}
	})
}
