package meshnet

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// opaque hides that a packet connection is a UDP socket.
type opaque struct{ net.PacketConn }

func (o opaque) SetReadBuffer(n int) error { return o.PacketConn.(*net.UDPConn).SetReadBuffer(n) }

func opaqueConn(t testing.TB) net.PacketConn {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	return opaque{pc}
}

func directOf(t testing.TB, x, y *Conn) (*Direct, *Direct) {
	t.Helper()
	dx, err := x.Direct()
	require.NoError(t, err)
	dy, err := y.Direct()
	require.NoError(t, err)
	return dx, dy
}

// reaches says that what d sends arrives at e.
func reaches(t testing.TB, d, e *Direct, word string) {
	t.Helper()
	ctx := testCtx(t)
	require.NoError(t, d.Send([]byte(word)))
	for {
		b, err := e.Receive(ctx)
		require.NoError(t, err)
		if string(b) == word {
			return
		}
	}
}

func TestDirectBothWays(t *testing.T) {
	listen := func(s string) Config {
		cfg := testConfig()
		cfg.Listen = netip.MustParseAddrPort(s)
		return cfg
	}
	for _, tc := range []struct {
		name     string
		cfg      Config
		pcx, pcy func(testing.TB) net.PacketConn
	}{
		{name: "UDP sockets", cfg: testConfig()},
		{name: "all IPv4 addresses", cfg: listen("0.0.0.0:0")},
		{name: "all addresses", cfg: listen("[::]:0")},
		{name: "IPv6", cfg: listen("[::1]:0")},
		{name: "plain packet connections", cfg: testConfig(), pcx: opaqueConn, pcy: opaqueConn},
		{name: "one plain", cfg: testConfig(), pcy: opaqueConn},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if ip := tc.cfg.Listen.Addr(); ip.Is6() {
				pc, err := net.ListenPacket("udp", net.JoinHostPort(ip.String(), "0"))
				if err != nil {
					t.Skip("no IPv6 here")
				}
				require.NoError(t, pc.Close())
			}
			var px, py net.PacketConn
			if tc.pcx != nil {
				px = tc.pcx(t)
			}
			if tc.pcy != nil {
				py = tc.pcy(t)
			}
			x, y := pairOf(t, tc.cfg, tc.cfg, px, py)
			require.Equal(t, ALPNMedia, x.ALPN())
			dx, dy := directOf(t, x, y)
			require.Equal(t, dx.sendID, dy.recvID)
			require.Equal(t, dy.sendID, dx.recvID)
			require.NotEqual(t, dx.sendID, dx.recvID)
			require.Equal(t, dx.keys.secret, dy.in.keys.secret)
			require.Equal(t, dy.keys.secret, dx.in.keys.secret)
			require.NotEqual(t, dx.keys.secret, dy.keys.secret, "each direction has its keys")

			reaches(t, dx, dy, "out, and nobody flushes")
			reaches(t, dy, dx, "back")
			largest := bytes.Repeat([]byte{7}, dx.MaxDatagramBytes())
			require.GreaterOrEqual(t, len(largest), safeDirectBytes)
			reaches(t, dx, dy, string(largest))
			require.ErrorIs(t, dx.Send(append(largest, make([]byte, 300)...)), ErrDatagramTooLarge)

			mixed := [][]byte{make([]byte, 900), make([]byte, 900), make([]byte, 10), make([]byte, 1000), {}, make([]byte, 900)}
			for i, b := range mixed[:4] {
				b[0] = byte(i)
			}
			require.NoError(t, dy.SendBatch(mixed))
			for i := range mixed {
				b, err := dx.Receive(testCtx(t))
				require.NoError(t, err)
				require.Equal(t, mixed[i], b, "packet %d", i)
			}
			require.EqualValues(t, 7, dx.Stats().PacketsReceived)
			require.Equal(t, dy.Stats().PacketsSent, dx.Stats().PacketsReceived)
			require.Equal(t, dy.Stats().BytesSent, dx.Stats().BytesReceived)
			require.Zero(t, dx.Stats().Moved)
		})
	}
}

// A node that does not offer direct media, as of the release before, gets datagrams.
func TestDirectOfOneSide(t *testing.T) {
	without := testConfig()
	without.Direct = false
	for _, cfgs := range [][2]Config{{without, testConfig()}, {testConfig(), without}, {without, without}} {
		x, y := pairOf(t, cfgs[0], cfgs[1], nil, nil)
		for _, c := range []*Conn{x, y} {
			_, err := c.Direct()
			require.ErrorIs(t, err, ErrNoDirect)
			require.Equal(t, ALPNMedia, c.ALPN())
		}
		require.NoError(t, x.SendDatagram([]byte("hello")))
		b, err := y.ReceiveDatagram(testCtx(t))
		require.NoError(t, err)
		require.Equal(t, "hello", string(b))
	}
}

// QUIC streams, QUIC datagrams, direct media and garbage share a socket.
func TestDirectBesideQUIC(t *testing.T) {
	for _, plain := range []bool{false, true} {
		var px, py net.PacketConn
		if plain {
			px, py = opaqueConn(t), opaqueConn(t)
		}
		x, y := pairOf(t, testConfig(), testConfig(), px, py)
		dx, dy := directOf(t, x, y)
		ctx := testCtx(t)
		noise, err := net.Dial("udp", x.RemoteAddr().String())
		require.NoError(t, err)
		defer noise.Close()
		stop := make(chan struct{})
		var wg, flood sync.WaitGroup
		flood.Go(func() {
			p := appendDirect(nil, directPacket{session: dy.recvID, number: 5})
			p = append(p, make([]byte, 500)...)
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				p[1] = byte(i) // now and then of a session that is there
				if i%3 == 0 {
					p[1] = byte(dy.recvID >> 24)
				}
				_, _ = noise.Write(p)
				if i%20 == 0 {
					time.Sleep(time.Millisecond) // the pace of a flood, nothing waits for it
				}
			}
		})
		const packets, streamBytes = 3000, 2 << 20
		var got, answered atomic.Int64
		dy.Handle(Handler{Each: func(b []byte, _ time.Time) {
			got.Add(1)
			_ = dy.Send(b)
		}})
		dx.Handle(Handler{Each: func([]byte, time.Time) { answered.Add(1) }})
		wg.Go(func() {
			s, err := x.OpenStream(ctx)
			if err == nil {
				_, _ = s.Write(make([]byte, streamBytes))
				_ = s.CloseWrite()
			}
		})
		wg.Go(func() {
			for range 50 {
				_ = x.SendDatagram([]byte("beside"))
			}
		})
		wg.Go(func() {
			for sent := int64(0); sent < packets && ctx.Err() == nil; sent += 10 {
				for range 10 {
					_ = dx.Send(make([]byte, 1000))
				}
				_ = dx.Flush()
				for i := 0; sent-got.Load() > 200 && i < 5; i++ {
					time.Sleep(time.Millisecond) // pace
				}
			}
		})
		s, err := y.AcceptStream(ctx)
		require.NoError(t, err)
		n, err := io.Copy(io.Discard, s)
		require.NoError(t, err)
		require.EqualValues(t, streamBytes, n)
		_, err = y.ReceiveDatagram(ctx)
		require.NoError(t, err)
		wg.Wait()
		require.Eventually(t, func() bool { return got.Load() >= packets/2 && answered.Load() >= packets/4 }, patience, time.Millisecond)
		m := dy.metrics
		require.Eventually(t, func() bool {
			return value(m.refusedDirect[refusedSession]) > 0 && value(m.refusedDirect[refusedForged])+value(m.refusedDirect[refusedReplay]) > 0
		}, patience, time.Millisecond)
		close(stop)
		flood.Wait()
		require.EqualValues(t, 0, dy.Stats().Moved)
	}
}

// nat passes packets of one client on to a server, and may forget its mapping.
type nat struct {
	inside  *net.UDPConn
	server  *net.UDPAddr
	client  atomic.Pointer[net.UDPAddr]
	outside atomic.Pointer[net.UDPConn]
	wg      sync.WaitGroup
}

func newNAT(t *testing.T, server netip.AddrPort) *nat {
	t.Helper()
	in, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	n := &nat{inside: in, server: net.UDPAddrFromAddrPort(server)}
	n.rebind(t)
	n.wg.Go(func() {
		b := make([]byte, 1<<16)
		for {
			k, from, err := in.ReadFromUDP(b)
			if err != nil {
				return
			}
			n.client.Store(from)
			_, _ = n.outside.Load().WriteToUDP(b[:k], n.server)
		}
	})
	t.Cleanup(func() {
		_ = in.Close()
		_ = n.outside.Load().Close()
		n.wg.Wait()
	})
	return n
}

func (n *nat) rebind(t *testing.T) {
	t.Helper()
	out, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	if old := n.outside.Swap(out); old != nil {
		_ = old.Close()
	}
	n.wg.Go(func() {
		b := make([]byte, 1<<16)
		for {
			k, _, err := out.ReadFromUDP(b)
			if err != nil {
				return
			}
			_, _ = n.inside.WriteToUDP(b[:k], n.client.Load())
		}
	})
}

func TestDirectNATRebinding(t *testing.T) {
	ca := testCA(t)
	got := make(chan *Conn, 1)
	b := testNet(t, ca, "b", func(n *Network) { n.Handle(ALPNMedia, func(c *Conn) { got <- c; <-c.Done() }) })
	a := testNet(t, ca, "a", nil)
	n := newNAT(t, b.LocalAddr())
	x, err := a.Dial(testCtx(t), addrPort(n.inside.LocalAddr()), "b", ALPNMedia)
	require.NoError(t, err)
	dx, dy := directOf(t, x, <-got)
	reaches(t, dx, dy, "before")
	reaches(t, dy, dx, "before")
	n.rebind(t)
	require.Eventually(t, func() bool {
		_ = dx.SendBatch([][]byte{[]byte("after")})
		return dy.Stats().Moved == 1
	}, patience, 10*time.Millisecond)
	reaches(t, dy, dx, "after")
	reaches(t, dx, dy, "at last")
}

func TestDirectEnds(t *testing.T) {
	x, y := testPair(t)
	settled := runtime.NumGoroutine()
	dx, dy := directOf(t, x, y)
	reaches(t, dx, dy, "alive")
	waiting := make(chan error, 2)
	for _, d := range []*Direct{dx, dy} {
		go func() { _, err := d.Receive(context.Background()); waiting <- err }()
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := dy.Receive(ctx)
	require.ErrorIs(t, err, context.Canceled)
	require.NoError(t, dx.Send([]byte("in the batch")))
	require.NoError(t, x.Close(CodeOK, "done"))
	for range 2 {
		select {
		case err := <-waiting:
			if err != nil {
				continue
			}
			go func() { _, err := dy.Receive(context.Background()); waiting <- err }() // the batch was faster
			require.Error(t, <-waiting)
		case <-time.After(patience):
			t.Fatal("Receive does not return")
		}
	}
	for _, d := range []*Direct{dx, dy} {
		require.Eventually(t, func() bool { return d.Send([]byte("late")) != nil }, patience, time.Millisecond)
		require.Eventually(t, func() bool {
			d.mu.Lock()
			defer d.mu.Unlock()
			return d.ended && d.batch.buf == nil && d.queue.ring == nil
		}, patience, time.Millisecond)
		require.NoError(t, d.Flush(), "nothing is left to send")
	}
	require.Eventually(t, func() bool { return runtime.NumGoroutine() <= settled }, patience, time.Millisecond)
}

// A new connection has new keys and another session.
func TestDirectRekey(t *testing.T) {
	ca := testCA(t)
	got := make(chan *Conn, 2)
	b := testNet(t, ca, "b", func(n *Network) { n.Handle(ALPNMedia, func(c *Conn) { got <- c; <-c.Done() }) })
	a := testNet(t, ca, "a", nil)
	var sessions []*Direct
	for range 2 {
		x, err := a.Dial(testCtx(t), b.LocalAddr(), "b", ALPNMedia)
		require.NoError(t, err)
		dx, dy := directOf(t, x, <-got)
		reaches(t, dx, dy, "hello")
		sessions = append(sessions, dx)
	}
	require.NotEqual(t, sessions[0].sendID, sessions[1].sendID)
	require.NotEqual(t, sessions[0].keys.secret, sessions[1].keys.secret)
	require.Len(t, *a.sessions.live.Load(), 2)
	require.NoError(t, sessions[0].conn.Close(CodeOK, "replaced"))
	require.Eventually(t, func() bool { return len(*a.sessions.live.Load()) == 1 && len(*b.sessions.live.Load()) == 1 }, patience, time.Millisecond)
}

// A release that knows longer packets only gets them, and is understood.
func TestDirectVersions(t *testing.T) {
	for _, tc := range []struct {
		dialer, listener byte // knows the versions before this one
		session          uint64
		overhead         uint64
	}{
		{0, 0, lightSession, directOverheadLight},
		{directVersionLight, 0, shortSession, directOverheadShort},
		{0, directVersionLight, shortSession, directOverheadShort},
		{directVersionShort, 0, 0, directOverhead},
		{directVersionLight, directVersionShort, 0, directOverhead},
	} {
		cx, cy := testConfig(), testConfig()
		cx.directBefore, cy.directBefore = tc.dialer, tc.listener
		x, y := pairOf(t, cx, cy, nil, nil)
		dx, dy := directOf(t, x, y)
		require.Equal(t, ALPNMedia, x.ALPN())
		for _, d := range []*Direct{dx, dy} {
			require.Equal(t, tc.session, d.sendID&lightSession)
		}
		ctx := testCtx(t)
		for _, way := range [][2]*Direct{{dx, dy}, {dy, dx}} {
			require.NoError(t, way[0].SendBatch([][]byte{[]byte("whoever you are")}))
			b, err := way[1].Receive(ctx)
			require.NoError(t, err)
			require.Equal(t, "whoever you are", string(b))
		}
		require.Equal(t, uint64(len("whoever you are"))+tc.overhead, dx.Stats().BytesSent)
	}
}
