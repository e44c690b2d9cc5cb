package meshnet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

func echoDatagrams(c *Conn) {
	for {
		b, err := c.ReceiveDatagram(context.Background())
		if err != nil || c.SendDatagram(b) != nil {
			return
		}
	}
}

func TestDialMatrix(t *testing.T) {
	ca := testCA(t)
	b := testNet(t, ca, "b", func(n *Network) { n.Handle(ALPNMedia, echoDatagrams) })
	a := testNet(t, ca, "a", nil)
	stranger := testNet(t, testCA(t), "a", nil)
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	defer silent.Close()

	for _, tc := range []struct {
		name   string
		from   *Network
		addr   netip.AddrPort
		want   mesh.NodeID
		alpn   ALPN
		is     error
		reason string
	}{
		{name: "named", from: a, addr: b.LocalAddr(), want: "b", alpn: ALPNMedia},
		{name: "any node", from: a, addr: b.LocalAddr(), alpn: ALPNMedia},
		{name: "another node", from: a, addr: b.LocalAddr(), want: "c", alpn: ALPNMedia, is: ErrWrongNode, reason: reasonWrongNode},
		{name: "unserved ALPN", from: a, addr: b.LocalAddr(), want: "b", alpn: ALPNRaft, is: ErrALPN, reason: reasonALPN},
		{name: "another mesh", from: stranger, addr: b.LocalAddr(), alpn: ALPNMedia, is: ErrForeignCertificate, reason: reasonForeignCA},
		{name: "silence", from: a, addr: addrPort(silent.LocalAddr()), want: "b", alpn: ALPNMedia, is: ErrTimeout, reason: reasonTimeout},
	} {
		t.Run(tc.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			if errors.Is(tc.is, ErrTimeout) {
				ctx, cancel = context.WithTimeout(context.Background(), 300*time.Millisecond)
			}
			defer cancel()
			c, err := tc.from.Dial(ctx, tc.addr, tc.want, tc.alpn)
			if tc.is != nil {
				require.ErrorIs(t, err, tc.is)
				require.Equal(t, 1, failures(tc.from, dirOut, tc.reason))
				return
			}
			require.NoError(t, err)
			require.Equal(t, mesh.NodeID("b"), c.Peer())
			require.Equal(t, tc.addr, c.RemoteAddr())
			require.GreaterOrEqual(t, c.MaxDatagramBytes(), 1100)
			require.NoError(t, c.SendDatagram([]byte("ping")))
			got, err := c.ReceiveDatagram(ctx)
			require.NoError(t, err)
			require.Equal(t, "ping", string(got))
			require.ErrorIs(t, c.SendDatagram(make([]byte, 20_000)), ErrDatagramTooLarge)
			require.Positive(t, c.Stats().BytesSent)
			require.NoError(t, c.Err())
			require.NoError(t, c.Close(CodeOK, "done"))
			require.NoError(t, c.Close(CodeOK, "again"))
			<-c.Done()
			require.Error(t, c.Err())
			require.Zero(t, c.MaxDatagramBytes())
		})
	}
	require.Eventually(t, func() bool { return failures(b, dirIn, reasonALPN) == 1 }, patience, time.Millisecond)
	require.Eventually(t, func() bool {
		return value(b.metrics.open.WithLabelValues(string(ALPNMedia))) == 0
	}, patience, time.Millisecond, "closed connections leave the gauge")
	require.Equal(t, 2, accepted(b, ALPNMedia))
}

// A node that trusts our CA but shows another mesh's certificate is refused by the listener, and counted.
func TestListenerRefusesForeignCertificate(t *testing.T) {
	ca, foreign := testCA(t), testCA(t)
	b := testNet(t, ca, "b", func(n *Network) { n.Handle(ALPNMedia, echoDatagrams) })
	cert, key, err := foreign.Issue("a", time.Hour)
	require.NoError(t, err)
	both := append(append([]byte{}, ca.CertPEM()...), foreign.CertPEM()...)
	id, err := NewIdentity(both, cert, key)
	require.NoError(t, err)
	a := runNet(t, testConfig(), id, nil)
	c, err := a.Dial(testCtx(t), b.LocalAddr(), "b", ALPNMedia)
	if err == nil { // the client's side of a TLS 1.3 handshake ends first
		select {
		case <-c.Done():
		case <-time.After(patience):
			t.Fatal("not refused")
		}
		err = c.Err()
	}
	require.ErrorIs(t, err, ErrCertificateRefused)
	require.Equal(t, 1, failures(b, dirIn, reasonForeignCA))
	require.Zero(t, accepted(b, ALPNMedia))
}

func TestGarbageOnPort(t *testing.T) {
	ca := testCA(t)
	b := testNet(t, ca, "b", func(n *Network) { n.Handle(ALPNMedia, echoDatagrams) })
	a := testNet(t, ca, "a", nil)
	c, err := a.Dial(testCtx(t), b.LocalAddr(), "b", ALPNMedia)
	require.NoError(t, err)
	noise, err := net.Dial("udp", b.LocalAddr().String())
	require.NoError(t, err)
	defer noise.Close()
	count := func(reason string) float64 { return value(b.metrics.stray.WithLabelValues(reason)) }
	send := func(p []byte) {
		_, err := noise.Write(p)
		require.NoError(t, err)
	}
	require.Eventually(t, func() bool {
		send([]byte("GET / HTTP/1.1\r\n\r\n")[:1:1])                     // 'G' has the QUIC bit: a short header
		send(bytes.Repeat([]byte{0x00, 0x01}, 40))                       // STUN-like: no QUIC bit
		send(append([]byte{0xc3, 0, 0, 0, 1, 255}, make([]byte, 30)...)) // long header, connection ID too long
		return count(strayNotQUIC) > 3 && count(strayMalformed) > 3
	}, patience, time.Millisecond)
	require.NoError(t, c.SendDatagram([]byte("still here")))
	got, err := c.ReceiveDatagram(testCtx(t))
	require.NoError(t, err)
	require.Equal(t, "still here", string(got))
}

func TestPortInUse(t *testing.T) {
	ca := testCA(t)
	b := testNet(t, ca, "b", nil)
	cfg := testConfig()
	cfg.Listen = b.LocalAddr()
	_, err := New(cfg, testIdentity(t, ca, "c"), nil, slog.New(slog.DiscardHandler), nil)
	require.ErrorContains(t, err, cfg.Listen.String())
}

func TestConfigValidate(t *testing.T) {
	require.NoError(t, DefaultConfig().Validate())
	err := Config{KeepAlive: time.Hour}.Validate()
	for _, field := range []string{"listen", "keep_alive", "idle_timeout", "handshake_timeout", "max_streams", "stream_window_bytes"} {
		require.ErrorContains(t, err, field)
	}
}

func TestCloseWithoutRun(t *testing.T) {
	n, err := New(testConfig(), testIdentity(t, testCA(t), "a"), nil, slog.New(slog.DiscardHandler), nil)
	require.NoError(t, err)
	addr := n.LocalAddr()
	require.NoError(t, n.Close())
	require.NoError(t, n.Close())
	_, err = n.Dial(testCtx(t), addr, "", ALPNControl)
	require.ErrorIs(t, err, ErrClosed)
	require.ErrorIs(t, n.Run(t.Context()), ErrClosed)
	again, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(addr))
	require.NoError(t, err, "the socket is free again")
	require.NoError(t, again.Close())
}

func TestBytesAreCounted(t *testing.T) {
	ca := testCA(t)
	b := testNet(t, ca, "b", func(n *Network) { n.Handle(ALPNMedia, echoDatagrams) })
	reg := prometheus.NewRegistry()
	a, err := New(testConfig(), testIdentity(t, ca, "a"), nil, slog.New(slog.DiscardHandler), reg)
	require.NoError(t, err)
	defer a.Close()
	c, err := a.Dial(testCtx(t), b.LocalAddr(), "b", ALPNMedia)
	require.NoError(t, err)
	sent := func() float64 {
		mfs, err := reg.Gather()
		require.NoError(t, err)
		for _, mf := range mfs {
			if mf.GetName() == "meridian_meshnet_sent_bytes_total" {
				return mf.Metric[0].GetCounter().GetValue()
			}
		}
		return 0
	}
	before := sent()
	require.Positive(t, before)
	require.NoError(t, c.Close(CodeOK, ""))
	require.Eventually(t, func() bool { return len(a.conns.snapshot()) == 0 }, patience, time.Millisecond)
	require.GreaterOrEqual(t, sent(), before, "a counter never falls")
}

// A restarted node is reached again before the idle timeout of its old connections: stateless reset, RFC 9000 §10.3.
func TestRestartedPeer(t *testing.T) {
	ca := testCA(t)
	idB := testIdentity(t, ca, "b")
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	log := slog.New(slog.DiscardHandler)
	echo := func(_ mesh.NodeID, s *Stream) { _, _ = s.Write([]byte("hi")); _ = s.Close() }
	b, err := New(testConfig(), idB, pc, log, nil)
	require.NoError(t, err)
	b.HandleService("echo", echo)
	go func() { _ = b.Run(context.Background()) }()
	addr := b.LocalAddr()
	cfg := testConfig()
	cfg.IdleTimeout, cfg.KeepAlive = 10*time.Minute, 50*time.Millisecond
	a := runNet(t, cfg, testIdentity(t, ca, "a"), func(n *Network) {
		n.SetResolver(resolver(map[mesh.NodeID]netip.AddrPort{"b": addr}))
	})
	require.NoError(t, ask(testCtx(t), a, "b", "echo"))
	require.NoError(t, pc.Close()) // SIGKILL: nobody says goodbye
	require.NoError(t, b.Close())

	cfg = testConfig()
	cfg.Listen = addr
	runNet(t, cfg, idB, func(n *Network) { n.HandleService("echo", echo) })
	require.Eventually(t, func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		return ask(ctx, a, "b", "echo") == nil
	}, patience, time.Millisecond)
}

func ask(ctx context.Context, n *Network, peer mesh.NodeID, service string) error {
	s, err := n.OpenService(ctx, peer, service)
	if err != nil {
		return err
	}
	defer s.Close()
	if dl, ok := ctx.Deadline(); ok {
		_ = s.SetDeadline(dl)
	}
	var b strings.Builder
	buf := make([]byte, 16)
	for b.Len() < 2 {
		k, err := s.Read(buf)
		b.Write(buf[:k])
		if err != nil && b.Len() < 2 {
			return fmt.Errorf("read %q: %w", b.String(), err)
		}
	}
	return nil
}
