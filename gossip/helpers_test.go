package gossip

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/meshnet"
)

const (
	patience = 15 * time.Second
	tick     = 5 * time.Millisecond
)

// node is one process of a test mesh.
type node struct {
	*Gossip
	net    *meshnet.Network
	stop   func()     // ends gossip, waits, returns when it has said goodbye
	kill   func()     // ends the network under gossip
	result chan error // of gossip's Run
	mu     sync.Mutex
	events []Event
	addr   netip.AddrPort
}

func testCA(t testing.TB) *meshnet.CA {
	t.Helper()
	ca, err := meshnet.NewCA("test mesh", time.Hour)
	require.NoError(t, err)
	return ca
}

func testNetwork(t testing.TB, ca *meshnet.CA, id mesh.NodeID) *meshnet.Network {
	t.Helper()
	return testNetworkAt(t, ca, id, netip.MustParseAddrPort("127.0.0.1:0"))
}

func testNetworkAt(t testing.TB, ca *meshnet.CA, id mesh.NodeID, listen netip.AddrPort) *meshnet.Network {
	t.Helper()
	cert, key, err := ca.Issue(id, time.Hour)
	require.NoError(t, err)
	identity, err := meshnet.NewIdentity(ca.CertPEM(), cert, key)
	require.NoError(t, err)
	cfg := meshnet.DefaultConfig()
	cfg.Listen = listen
	n, err := meshnet.New(cfg, identity, nil, slog.New(slog.DiscardHandler), nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = n.Close() })
	return n
}

func info(id mesh.NodeID) mesh.NodeInfo {
	return mesh.NodeInfo{
		ID: id, Region: "eu-west", Zone: "a", ClientURL: "wss://" + string(id) + ".example.org",
		Latitude: 50.25, Longitude: -8.5, Version: "1.2.3", Load: mesh.Load{CPU: 0.5, Capacity: 100},
	}
}

func fast(mc *memberlist.Config) {
	mc.ProbeInterval, mc.ProbeTimeout = 200*time.Millisecond, 100*time.Millisecond
	mc.GossipInterval, mc.PushPullInterval = 20*time.Millisecond, time.Second
	mc.SuspicionMult, mc.TCPTimeout = 2, time.Second
}

func testConfig(seeds ...string) Config {
	cfg := DefaultConfig()
	cfg.Profile, cfg.Seeds, cfg.tune = ProfileDev, seeds, fast
	return cfg
}

func startNode(t testing.TB, ca *meshnet.CA, id mesh.NodeID, seeds ...string) *node {
	t.Helper()
	return startOn(t, testNetwork(t, ca, id), seeds...)
}

func startOn(t testing.TB, network *meshnet.Network, seeds ...string) *node {
	t.Helper()
	id := network.NodeID()
	n := &node{net: network, result: make(chan error, 1)}
	n.addr = n.net.LocalAddr()
	g, err := New(testConfig(seeds...), n.net, info(id), slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	require.NoError(t, err)
	n.Gossip = g
	g.Subscribe(func(e Event) {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.events = append(n.events, e)
	})
	netCtx, kill := context.WithCancel(context.Background())
	netDone := make(chan struct{})
	go func() { defer close(netDone); _ = n.net.Run(netCtx) }()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); n.result <- g.Run(ctx) }()
	wait := func(c <-chan struct{}) {
		select {
		case <-c:
		case <-time.After(patience):
			t.Error("Run does not return")
		}
	}
	n.stop = func() { cancel(); wait(done) }
	n.kill = func() { kill(); wait(netDone) }
	t.Cleanup(func() { n.stop(); n.kill() })
	return n
}

func (n *node) seen(t EventType, id mesh.NodeID) func() bool {
	return func() bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		for _, e := range n.events {
			if e.Type == t && e.Node.ID == id {
				return true
			}
		}
		return false
	}
}

func ids(nodes []mesh.NodeInfo) []mesh.NodeID {
	out := make([]mesh.NodeID, 0, len(nodes))
	for _, n := range nodes {
		out = append(out, n.ID)
	}
	return out
}

func requireMembers(t testing.TB, want []mesh.NodeID, nodes ...*node) {
	t.Helper()
	for _, n := range nodes {
		require.Eventually(t, func() bool { return slices.Equal(want, ids(n.Members())) }, patience, tick, "want %v", want)
	}
}
