package ownership

import (
	"context"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/meshnet"
	"github.com/meridian-sfu/meridian/internal/testnet"
)

// startOcean runs a node over QUIC on a switch; gossip is taken from m.
func startOcean(t *testing.T, m *memMesh, sw *testnet.Switch, ca *meshnet.CA, id mesh.NodeID, ip string, boot bool) *testNode {
	t.Helper()
	cert, key, err := ca.Issue(id, time.Hour)
	require.NoError(t, err)
	ident, err := meshnet.NewIdentity(ca.CertPEM(), cert, key)
	require.NoError(t, err)
	addr := netip.AddrPortFrom(netip.MustParseAddr(ip), 7946)
	pc, err := sw.Listen(addr)
	require.NoError(t, err)
	network, err := meshnet.New(meshnet.DefaultConfig(), ident, pc, testLog(), prometheus.NewRegistry())
	require.NoError(t, err)
	network.SetResolver(func(want mesh.NodeID) (netip.AddrPort, bool) {
		for _, i := range m.seenBy(id) {
			if i.ID == want {
				return i.MeshAddr, true
			}
		}
		return netip.AddrPort{}, false
	})
	m.join(id, mesh.Region("r"+id))
	m.update(id, func(i *mesh.NodeInfo) { i.MeshAddr = addr })
	cfg := DefaultConfig()
	cfg.DataDir, cfg.Bootstrap = t.TempDir(), boot
	o, err := New(cfg, Deps{
		Net: OverMeshnet(network), Members: func() []mesh.NodeInfo { return m.seenBy(id) },
		Alive:           func(other mesh.NodeID) bool { return m.alive(id, other) },
		AnnounceCluster: func(c string) { m.update(id, func(i *mesh.NodeInfo) { i.RaftCluster = c }) },
	}, testLog().With("self", id), prometheus.NewRegistry())
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	n := &testNode{Ownership: o, mesh: m, id: id, cancel: cancel, done: make(chan struct{}), hist: newHistory()}
	o.Watch(n.hist.note)
	netDone := make(chan error, 1)
	netCtx, netCancel := context.WithCancel(context.Background())
	go func() { netDone <- network.Run(netCtx) }()
	go func() {
		defer close(n.done)
		n.err = o.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-n.done
		netCancel()
		require.NoError(t, <-netDone)
	})
	return n
}

// Five voters, each 125 ms from the next with 1 % loss, in virtual time: the group keeps its leader, and replaces one
// that vanishes.
func TestGroupOverAnOcean(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sw := testnet.NewSwitch(1)
		t.Cleanup(func() { _ = sw.Close() })
		require.NoError(t, sw.SetDefault(testnet.Link{Delay: 125 * time.Millisecond, Loss: 0.01}))
		ca, err := meshnet.NewCA("ocean", time.Hour)
		require.NoError(t, err)
		m := newMemMesh()
		var nodes []*testNode
		for i, id := range []mesh.NodeID{"a", "b", "c", "d", "e"} {
			nodes = append(nodes, startOcean(t, m, sw, ca, id, "10.0.0."+string(rune('1'+i)), i == 0))
		}
		for _, n := range nodes {
			eventually(t, "five voters", func() bool { return len(n.Status().Voters) == 5 && n.isAttached() })
		}
		leader, rest := leaderOf(t, nodes)
		term := leader.Status().Term
		for range 30 {
			time.Sleep(time.Second)
			_, _, err := rest[0].Claim(ctx10(t), "room", "RM_1", leader.id, time.Now(), "")
			require.NoError(t, err)
		}
		t.Logf("terms in 30 s at 250 ms RTT and 1 %% loss: %d", leader.Status().Term-term+1)
		e, ok := rest[1].Lookup("room")
		require.True(t, ok)

		leader, rest = leaderOf(t, nodes)
		i := slices.Index(nodes, leader)
		host := netip.MustParseAddr("10.0.0." + string(rune('1'+i)))
		for j := range nodes {
			if other := netip.MustParseAddr("10.0.0." + string(rune('1'+j))); j != i {
				sw.Block(host, other)
				sw.Block(other, host)
			}
		}
		m.leave(leader.id)
		lost := time.Now()
		for !slices.ContainsFunc(rest, func(n *testNode) bool { return n.Status().Role == RoleLeader }) {
			time.Sleep(10 * time.Millisecond)
		}
		t.Logf("new leader after %v", time.Since(lost))
		next, err := rest[0].Reassign(ctx10(t), "room", e.Epoch, rest[0].id)
		require.NoError(t, err)
		t.Logf("new owner after %v", time.Since(lost))
		require.Greater(t, next.Epoch, e.Epoch)
		checkHistories(t, nodes...)
	})
}
