package directory

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/meshnet"
)

// TestOverMeshnet runs two directories over QUIC on the loopback interface.
func TestOverMeshnet(t *testing.T) {
	ca, err := meshnet.NewCA("test", time.Hour)
	require.NoError(t, err)
	ids := []mesh.NodeID{"a", "b"}
	var mu sync.Mutex
	addrs := map[mesh.NodeID]netip.AddrPort{}
	c := &cluster{t: t, nodes: map[mesh.NodeID]*node{}, cut: map[[2]mesh.NodeID]bool{}, table: map[mesh.RoomName]Ownership{}}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	log := slog.New(slog.DiscardHandler)
	for _, id := range ids {
		cert, key, err := ca.Issue(id, time.Hour)
		require.NoError(t, err)
		identity, err := meshnet.NewIdentity(ca.CertPEM(), cert, key)
		require.NoError(t, err)
		cfg := meshnet.DefaultConfig()
		cfg.Listen = netip.MustParseAddrPort("127.0.0.1:0")
		net, err := meshnet.New(cfg, identity, nil, log, prometheus.NewRegistry())
		require.NoError(t, err)
		net.SetResolver(func(id mesh.NodeID) (netip.AddrPort, bool) {
			mu.Lock()
			defer mu.Unlock()
			addr, ok := addrs[id]
			return addr, ok
		})
		mu.Lock()
		addrs[id] = net.LocalAddr()
		mu.Unlock()
		n := &node{c: c, id: id, quorum: true, view: map[mesh.RoomName]Ownership{}, roster: map[mesh.ParticipantID]mesh.Participant{}}
		c.mu.Lock()
		c.nodes[id] = n
		c.mu.Unlock()
		n.Directory, err = New(DefaultConfig(), Deps{
			Net: OverMeshnet(net), Owners: n, Alive: func(mesh.NodeID) bool { return true }, Handler: n,
		}, log, prometheus.NewRegistry())
		require.NoError(t, err)
		wg.Go(func() { _ = net.Run(ctx) })
		wg.Go(func() { _ = n.Run(ctx) })
	}
	knows := func(n *node, id mesh.ParticipantID) func() bool {
		return func() bool {
			c.mu.Lock()
			defer c.mu.Unlock()
			_, ok := n.roster[id]
			return ok
		}
	}
	a, b := c.nodes["a"], c.nodes["b"]
	a.join("alice")
	require.Eventually(t, func() bool { _, ok := b.Lookup(call); return ok }, 5*time.Second, 5*time.Millisecond)
	hb := b.join("bob")
	require.Eventually(t, knows(a, "bob"), 5*time.Second, 5*time.Millisecond)
	require.Eventually(t, knows(b, "alice"), 5*time.Second, 5*time.Millisecond)
	hb.Data(mesh.DataMessage{Sender: "bob", Payload: []byte("hi")})
	require.Eventually(t, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return len(a.data) == 1
	}, 5*time.Second, 5*time.Millisecond)
	hb.Remove("bob", 1)
	require.Eventually(t, func() bool { return !knows(a, "bob")() }, 5*time.Second, 5*time.Millisecond)
}
