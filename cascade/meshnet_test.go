package cascade

import (
	"context"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/meshnet"
	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

// realMesh runs cascades over meshnet on loopback.
type realMesh struct {
	ca *meshnet.CA

	mu    sync.Mutex
	addrs map[mesh.NodeID]netip.AddrPort
}

func (m *realMesh) resolve(id mesh.NodeID) (netip.AddrPort, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	a, ok := m.addrs[id]
	return a, ok
}

type realNode struct {
	*Cascade
	reg  *prometheus.Registry
	stop func()
	src  atomic.Pointer[rtpstream.Source]
}

func newRealMesh(t testing.TB) *realMesh {
	t.Helper()
	ca, err := meshnet.NewCA("test", time.Hour)
	require.NoError(t, err)
	return &realMesh{ca: ca, addrs: make(map[mesh.NodeID]netip.AddrPort)}
}

func (m *realMesh) start(t testing.TB, id mesh.NodeID, wrap func(net.PacketConn) net.PacketConn, change ...func(*meshnet.Config)) *realNode {
	t.Helper()
	cert, key, err := m.ca.Issue(id, time.Hour)
	require.NoError(t, err)
	identity, err := meshnet.NewIdentity(m.ca.CertPEM(), cert, key)
	require.NoError(t, err)
	var pc net.PacketConn
	if wrap != nil {
		udp, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		require.NoError(t, err)
		pc = wrap(udp)
	}
	cfg := meshnet.DefaultConfig()
	cfg.Listen = netip.MustParseAddrPort("127.0.0.1:0")
	for _, f := range change {
		f(&cfg)
	}
	nw, err := meshnet.New(cfg, identity, pc, quiet(), prometheus.NewRegistry())
	require.NoError(t, err)
	nw.SetResolver(m.resolve)
	n := &realNode{reg: prometheus.NewRegistry()}
	n.Cascade, err = New(DefaultConfig(), Deps{
		Net: Over(nw), Resolve: m.resolve,
		Local: func(mesh.NodeID, mesh.RoomName, mesh.SourceID) (*rtpstream.Source, bool) {
			s := n.src.Load()
			return s, s != nil
		},
	}, quiet(), n.reg)
	require.NoError(t, err)
	m.mu.Lock()
	m.addrs[id] = nw.LocalAddr()
	m.mu.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	netCtx, netCancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = nw.Run(netCtx) })
	ran := make(chan struct{})
	wg.Go(func() { _ = n.Run(ctx); close(ran) })
	var once sync.Once
	n.stop = func() {
		once.Do(func() {
			cancel()
			<-ran
			netCancel()
			wg.Wait()
		})
	}
	t.Cleanup(n.stop)
	return n
}

// lossy drops every nth packet of datagram size it sends.
type lossy struct {
	net.PacketConn
	every int64
	n     atomic.Int64
}

func (l *lossy) WriteTo(b []byte, to net.Addr) (int, error) {
	if len(b) > 300 && len(b) < 1250 && l.n.Add(1)%l.every == 0 {
		return len(b), nil
	}
	return l.PacketConn.WriteTo(b, to)
}

func TestOverRealQUIC(t *testing.T) {
	before := runtime.NumGoroutine()
	m := newRealMesh(t)
	a := m.start(t, "a", func(pc net.PacketConn) net.PacketConn { return &lossy{PacketConn: pc, every: 20} })
	b := m.start(t, "b", nil)
	cam := newCamera("TR_1", false, 2)
	a.src.Store(cam.Source)
	r := b.Remote(room, cam.mesh(), "a")
	tv := new(screen)
	r.Media().Subscribe(tv).SetDemand(all(0))
	eventually := func(f func() bool, what string) {
		t.Helper()
		require.Eventually(t, f, 10*time.Second, 5*time.Millisecond, what)
	}
	eventually(func() bool { return cam.Subscribers() == 1 && a.Links()[0].Up && a.Links()[0].Lanes == 2 }, "flow")
	const packets = 400
	for range packets {
		cam.write(0)
		time.Sleep(500 * time.Microsecond) // the pace of video, nothing waits for it
	}
	eventually(func() bool { return tv.count() == packets }, "every packet, repaired where lost")
	cam.Stream(0).SetClock(rtpstream.SenderClock{NTP: 3})
	eventually(func() bool { c := r.Media().Stream(0).Clock(); return c != nil && c.NTP == 3 }, "clock")
	require.NotZero(t, a.Links()[0].RTT)
	require.NotZero(t, a.Links()[0].Retransmissions)

	families, err := b.reg.Gather()
	require.NoError(t, err)
	names := make(map[string]bool)
	for _, f := range families {
		names[f.GetName()] = true
	}
	for _, want := range []string{
		"link_up", "link_rtt_seconds", "link_loss_ratio", "lanes_up", "flows_open", "packets_total", "bytes_total", "drops_total",
		"nacks_total", "retransmissions_total", "keyframe_requests_total", "queue_delay_seconds",
	} {
		require.True(t, names[metricPrefix+want], want)
	}

	r.Close()
	eventually(func() bool { return cam.Subscribers() == 0 }, "flow closed")
	a.stop()
	eventually(func() bool { _, known := b.Alive("a"); return !known }, "the peer says goodbye")
	b.stop()
	eventually(func() bool { return runtime.NumGoroutine() <= before+1 }, "no goroutine left but the one that looks")
}
