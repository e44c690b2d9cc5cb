package meshnet

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

const patience = 10 * time.Second

func testCA(t testing.TB) *CA {
	t.Helper()
	ca, err := NewCA("test mesh", time.Hour)
	require.NoError(t, err)
	return ca
}

func testIdentity(t testing.TB, ca *CA, id mesh.NodeID) *Identity {
	t.Helper()
	cert, key, err := ca.Issue(id, time.Hour)
	require.NoError(t, err)
	i, err := NewIdentity(ca.CertPEM(), cert, key)
	require.NoError(t, err)
	return i
}

func testConfig() Config {
	cfg := DefaultConfig()
	cfg.Listen = netip.MustParseAddrPort("127.0.0.1:0")
	return cfg
}

// testNet makes a node; setup runs before Run.
func testNet(t testing.TB, ca *CA, id mesh.NodeID, setup func(*Network)) *Network {
	t.Helper()
	return runNet(t, testConfig(), testIdentity(t, ca, id), setup)
}

func runNet(t testing.TB, cfg Config, id *Identity, setup func(*Network)) *Network {
	t.Helper()
	return runNetOn(t, cfg, id, nil, setup)
}

func runNetOn(t testing.TB, cfg Config, id *Identity, pc net.PacketConn, setup func(*Network)) *Network {
	t.Helper()
	n, err := New(cfg, id, pc, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	require.NoError(t, err)
	if setup != nil {
		setup(n)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			require.NoError(t, err)
		case <-time.After(patience):
			t.Error("Run does not return")
		}
	})
	return n
}

// resolver knows nodes that are added later.
func resolver(nodes map[mesh.NodeID]netip.AddrPort) func(mesh.NodeID) (netip.AddrPort, bool) {
	return func(id mesh.NodeID) (netip.AddrPort, bool) { a, ok := nodes[id]; return a, ok }
}

func testCtx(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func failures(n *Network, dir, reason string) int {
	return int(value(n.metrics.failures.WithLabelValues(dir, reason)))
}

func accepted(n *Network, alpn ALPN) int {
	return int(value(n.metrics.conns.WithLabelValues(string(alpn), dirIn)))
}

func dialled(n *Network, alpn ALPN) int {
	return int(value(n.metrics.conns.WithLabelValues(string(alpn), dirOut)))
}

// value reads a single counter or gauge.
func value(c prometheus.Collector) float64 {
	reg := prometheus.NewRegistry()
	reg.MustRegister(c)
	mfs, err := reg.Gather()
	if err != nil || len(mfs) != 1 || len(mfs[0].Metric) != 1 {
		panic("not a single metric")
	}
	m := mfs[0].Metric[0]
	return m.GetCounter().GetValue() + m.GetGauge().GetValue()
}

// testPair returns the two ends of one media connection between two nodes: who dialled, who accepted.
func testPair(t testing.TB) (dialled, accepted *Conn) {
	t.Helper()
	return pairOf(t, testConfig(), testConfig(), nil, nil)
}

// pairOf is testPair with the nodes' configurations and packet connections.
func pairOf(t testing.TB, dialCfg, acceptCfg Config, dialPC, acceptPC net.PacketConn) (dialled, accepted *Conn) {
	t.Helper()
	ca := testCA(t)
	got := make(chan *Conn, 1)
	b := runNetOn(t, acceptCfg, testIdentity(t, ca, "b"), acceptPC, func(n *Network) {
		n.Handle(ALPNMedia, func(c *Conn) { got <- c; <-c.Done() })
	})
	a := runNetOn(t, dialCfg, testIdentity(t, ca, "a"), dialPC, nil)
	addr := b.LocalAddr()
	if ip := addr.Addr(); ip.IsUnspecified() {
		addr = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), addr.Port())
	}
	dialled, err := a.Dial(testCtx(t), addr, "b", ALPNMedia)
	require.NoError(t, err)
	select {
	case accepted = <-got:
	case <-time.After(patience):
		t.Fatal("not accepted")
	}
	return dialled, accepted
}
