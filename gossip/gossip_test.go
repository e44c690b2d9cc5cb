package gossip

import (
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

func TestThreeNodes(t *testing.T) {
	t.Parallel()
	ca := testCA(t)
	a := startNode(t, ca, "a")
	b := startNode(t, ca, "b", "127.0.0.1:1", a.addr.String()) // the first seed is dead
	c := startNode(t, ca, "c", "localhost:"+port(b.addr))      // by a name, and by any member
	all := []mesh.NodeID{"a", "b", "c"}
	requireMembers(t, all, a, b, c)

	want := info("c")
	want.MeshAddr = c.addr
	got, ok := a.Lookup("c")
	require.True(t, ok)
	require.Equal(t, want, got)
	at, ok := c.Resolve("a")
	require.True(t, ok)
	require.Equal(t, a.addr, at)
	_, ok = c.Resolve("nobody")
	require.False(t, ok)
	require.Equal(t, 3, b.Status().Members)
	require.False(t, b.Status().Alone)
	require.Eventually(t, a.seen(Joined, "c"), patience, tick)

	t.Run("metadata update", func(t *testing.T) {
		for i := range 50 { // coalesced
			b.UpdateSelf(func(n *mesh.NodeInfo) { n.Load.Participants = uint32(i + 1); n.Draining = true })
		}
		for _, n := range []*node{a, c} {
			require.Eventually(t, func() bool {
				got, _ := n.Lookup("b")
				return got.Draining && got.Load.Participants == 50
			}, patience, tick)
			require.Eventually(t, n.seen(Updated, "b"), patience, tick)
		}
		self, _ := b.Lookup("b")
		require.True(t, self.Draining)
	})

	t.Run("RTT", func(t *testing.T) {
		require.Eventually(t, func() bool { _, ok := a.RTT("c"); return ok }, patience, tick)
		require.Eventually(t, func() bool { _, ok := a.Distance("b", "c"); return ok }, patience, tick)
		_, ok := a.RTT("nobody")
		require.False(t, ok)
		rtt, ok := a.RTT("a")
		require.True(t, ok)
		require.Zero(t, rtt)
	})

	t.Run("leave", func(t *testing.T) {
		c.stop()
		require.NoError(t, <-c.result)
		requireMembers(t, []mesh.NodeID{"a", "b"}, a, b)
		for _, n := range []*node{a, b} {
			require.Eventually(t, n.seen(Left, "c"), patience, tick)
			require.False(t, n.seen(Failed, "c")())
			require.Zero(t, n.Status().Lost)
		}
		_, ok := a.RTT("c")
		require.False(t, ok)
	})

	t.Run("failure", func(t *testing.T) {
		b.kill()
		requireMembers(t, []mesh.NodeID{"a"}, a)
		require.Eventually(t, a.seen(Failed, "b"), patience, tick)
		require.Equal(t, 1, a.Status().Lost)
		require.True(t, a.Status().Alone)
	})
}

func port(a netip.AddrPort) string { return a.String()[strings.LastIndexByte(a.String(), ':')+1:] }

// A seed that starts later is found.
func TestSeedStartsLater(t *testing.T) {
	t.Parallel()
	ca := testCA(t)
	place := testNetwork(t, ca, "late")
	addr := place.LocalAddr()
	require.NoError(t, place.Close())
	a := startNode(t, ca, "a", addr.String())
	require.Eventually(t, func() bool { return a.Status().JoinError != "" }, patience, tick)
	require.True(t, a.Status().Alone)
	late := startOn(t, testNetworkAt(t, ca, "late", addr), addr.String()) // itself among its seeds does no harm
	requireMembers(t, []mesh.NodeID{"a", "late"}, a, late)
	require.Eventually(t, func() bool { return a.Status().JoinError == "" }, patience, tick)
}

// A member that failed is looked for: when it is back, nobody needs a seed.
func TestLostMemberIsFoundAgain(t *testing.T) {
	t.Parallel()
	ca := testCA(t)
	a := startNode(t, ca, "a")
	b := startNode(t, ca, "b", a.addr.String())
	requireMembers(t, []mesh.NodeID{"a", "b"}, a, b)
	b.kill()
	require.Eventually(t, a.seen(Failed, "b"), patience, tick)
	b.stop()
	again := startOn(t, testNetworkAt(t, ca, "b", b.addr))
	requireMembers(t, []mesh.NodeID{"a", "b"}, a, again)
	require.Zero(t, a.Status().Lost)
}

// A node killed and started anew at another address is a member again, however soon.
func TestRestartAtAnotherAddress(t *testing.T) {
	t.Parallel()
	ca := testCA(t)
	a := startNode(t, ca, "a")
	c := startNode(t, ca, "c", a.addr.String())
	b := startNode(t, ca, "b", a.addr.String())
	requireMembers(t, []mesh.NodeID{"a", "b", "c"}, a, b, c)
	b.kill()
	again := startNode(t, ca, "b", a.addr.String())
	for _, n := range []*node{a, c} {
		require.Eventually(t, func() bool { at, ok := n.Resolve("b"); return ok && at == again.addr }, patience, tick)
	}
	requireMembers(t, []mesh.NodeID{"a", "b", "c"}, again)
}

func TestForeignMeshIsRefused(t *testing.T) {
	t.Parallel()
	a := startNode(t, testCA(t), "a")
	x := startNode(t, testCA(t), "x", a.addr.String())
	require.Eventually(t, func() bool { return strings.Contains(x.Status().JoinError, "another mesh") }, patience, tick)
	require.Equal(t, []mesh.NodeID{"a"}, ids(a.Members()))
	require.Equal(t, []mesh.NodeID{"x"}, ids(x.Members()))
}

func TestNameConflict(t *testing.T) {
	t.Parallel()
	ca := testCA(t)
	a := startNode(t, ca, "a")
	b := startNode(t, ca, "b", a.addr.String())
	requireMembers(t, []mesh.NodeID{"a", "b"}, a, b)
	for name, seed := range map[string]string{"seed is the twin": b.addr.String(), "seed is another": a.addr.String()} {
		t.Run(name, func(t *testing.T) {
			twin := startNode(t, ca, "b", seed)
			select {
			case err := <-twin.result:
				require.ErrorIs(t, err, ErrNameConflict)
			case <-time.After(patience):
				t.Fatal("two processes with one ID")
			}
		})
	}
	requireMembers(t, []mesh.NodeID{"a", "b"}, a, b)
	at, _ := a.Resolve("b")
	require.Equal(t, b.addr, at, "the older one stays")
}

func TestStopAloneIsQuick(t *testing.T) {
	t.Parallel()
	a := startNode(t, testCA(t), "a")
	a.stop()
	require.NoError(t, <-a.result)
	require.Error(t, a.Run(t.Context()), "runs once")
}

func TestNewRefuses(t *testing.T) {
	ca := testCA(t)
	log := slog.New(slog.DiscardHandler)
	_, err := New(DefaultConfig(), testNetwork(t, ca, "a"), info("b"), log, nil)
	require.ErrorContains(t, err, "certificate")
	long := info("a")
	long.ClientURL = "wss://" + strings.Repeat("x", 200)
	_, err = New(DefaultConfig(), testNetwork(t, ca, "a"), long, log, nil)
	require.ErrorIs(t, err, ErrMetadata)
	require.ErrorContains(t, err, "client URL")
	cfg := DefaultConfig()
	cfg.Seeds, cfg.Profile, cfg.LeaveTimeout = []string{"nowhere"}, "slow", time.Hour
	cfg.Advertise = netip.MustParseAddrPort("0.0.0.0:1")
	_, err = New(cfg, testNetwork(t, ca, "a"), info("a"), log, nil)
	for _, s := range []string{"seeds", "profile", "leave_timeout", "advertise"} {
		require.ErrorContains(t, err, s)
	}
}

func TestUpdateSelfRefuses(t *testing.T) {
	g, err := New(DefaultConfig(), testNetwork(t, testCA(t), "a"), info("a"), slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	require.NoError(t, err)
	before, _ := g.Lookup("a")
	g.UpdateSelf(func(n *mesh.NodeInfo) { n.RaftCluster = strings.Repeat("x", 100) })
	g.UpdateSelf(func(n *mesh.NodeInfo) { n.ID, n.MeshAddr = "b", netip.AddrPort{} })
	after, _ := g.Lookup("a")
	require.Equal(t, before, after)
	g.UpdateSelf(func(n *mesh.NodeInfo) { n.RaftCluster = "r1" })
	after, _ = g.Lookup("a")
	require.Equal(t, "r1", after.RaftCluster)
	require.Equal(t, []mesh.NodeInfo{after}, g.Members())
}
