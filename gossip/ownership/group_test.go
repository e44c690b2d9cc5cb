package ownership

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

// testNode is a running Ownership on a memMesh.
type testNode struct {
	*Ownership
	mesh   *memMesh
	id     mesh.NodeID
	cancel context.CancelFunc
	done   chan struct{} // closed when Run has returned err
	err    error
	hist   *history
}

func testLog() *slog.Logger {
	if os.Getenv("OWNERSHIP_TEST_LOG") != "" {
		return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	return slog.New(slog.NewTextHandler(io.Discard, nil))
}

// start runs a node in region with the folder dir; change may alter its config.
func start(t *testing.T, m *memMesh, id mesh.NodeID, region mesh.Region, dir string, change ...func(*Config)) *testNode {
	t.Helper()
	cfg := DefaultConfig()
	cfg.DataDir = filepath.Join(dir, string(id))
	for _, f := range change {
		f(&cfg)
	}
	n := m.join(id, region)
	o, err := New(cfg, Deps{
		Net:             n,
		Members:         func() []mesh.NodeInfo { return m.seenBy(id) },
		Alive:           func(other mesh.NodeID) bool { return m.alive(id, other) },
		AnnounceCluster: func(c string) { m.update(id, func(i *mesh.NodeInfo) { i.RaftCluster = c }) },
	}, testLog().With("self", id), prometheus.NewRegistry())
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	tn := &testNode{Ownership: o, mesh: m, id: id, cancel: cancel, done: make(chan struct{}), hist: newHistory()}
	o.Watch(tn.hist.note)
	go func() {
		defer close(tn.done)
		tn.err = o.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-tn.done
	})
	return tn
}

// stop ends the node in an orderly way.
func (n *testNode) stop(t *testing.T) {
	t.Helper()
	n.cancel()
	<-n.done
	require.NoError(t, n.err)
	n.mesh.leave(n.id)
}

// kill takes the node off the network first, so that it can tell nobody.
func (n *testNode) kill(t *testing.T) {
	t.Helper()
	n.mesh.leave(n.id)
	n.cancel()
	<-n.done
}

func bootstrap(c *Config) { c.Bootstrap = true }

// eventually waits, in the bubble's time, until ok holds.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 1200 {
		if ok() {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	require.Fail(t, "never: "+what)
}

// three starts nodes in three regions and waits until all of them vote.
func three(t *testing.T, m *memMesh, dir string) []*testNode {
	t.Helper()
	nodes := []*testNode{
		start(t, m, "a", "us", dir, bootstrap),
		start(t, m, "b", "eu", dir),
		start(t, m, "c", "ap", dir),
	}
	for _, n := range nodes {
		eventually(t, "three voters", func() bool {
			s := n.Status()
			return s.Ready && len(s.Voters) == 3 && s.Role != RoleWatcher && n.isAttached()
		})
	}
	return nodes
}

func leaderOf(t *testing.T, nodes []*testNode) (leader *testNode, rest []*testNode) {
	t.Helper()
	eventually(t, "a leader", func() bool {
		return slices.ContainsFunc(nodes, func(n *testNode) bool { return n.Status().Role == RoleLeader })
	})
	for _, n := range nodes {
		if leader == nil && n.Status().Role == RoleLeader {
			leader = n
		} else {
			rest = append(rest, n)
		}
	}
	return leader, rest
}

func ctx10(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// history checks what one watcher is told: a room's epochs only grow, and no epoch has two entries.
type history struct {
	mu      sync.Mutex
	last    map[mesh.RoomName]uint64
	byEpoch map[uint64]Entry
	now     map[mesh.RoomName]Entry
	wrong   []string
}

func newHistory() *history {
	return &history{
		last: make(map[mesh.RoomName]uint64), byEpoch: make(map[uint64]Entry), now: make(map[mesh.RoomName]Entry),
	}
}

func (h *history) note(e Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.now[e.Entry.Room] != e.Previous {
		h.wrong = append(h.wrong, fmt.Sprintf("%v does not follow %v", e, h.now[e.Entry.Room]))
	}
	if e.Type == Removed {
		delete(h.now, e.Entry.Room)
		return
	}
	if e.Entry.Epoch <= h.last[e.Entry.Room] {
		h.wrong = append(h.wrong, fmt.Sprintf("%v after epoch %d", e, h.last[e.Entry.Room]))
	}
	h.last[e.Entry.Room] = e.Entry.Epoch
	h.byEpoch[e.Entry.Epoch] = e.Entry
	h.now[e.Entry.Room] = e.Entry
}

// checkHistories fails when a watcher saw something impossible or two saw different entries at one epoch.
func checkHistories(t *testing.T, nodes ...*testNode) {
	t.Helper()
	all := make(map[uint64]Entry)
	for _, n := range nodes {
		n.hist.mu.Lock()
		require.Empty(t, n.hist.wrong, "seen by %s", n.id)
		for epoch, e := range n.hist.byEpoch {
			if other, ok := all[epoch]; ok {
				require.Equal(t, other, e, "two entries at epoch %d", epoch)
			}
			all[epoch] = e
		}
		n.hist.mu.Unlock()
	}
}

// Raft §3.6, §4: a group forms by itself, survives its leader, and a dead owner's room changes hands.
func TestGroupFormsAndSurvivesItsLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemMesh()
		nodes := three(t, m, t.TempDir())
		leader, rest := leaderOf(t, nodes)
		created := time.Now().UTC().Round(0)

		e, existing, err := rest[0].Claim(ctx10(t), "room", "RM_1", leader.id, created, "d1")
		require.NoError(t, err)
		require.False(t, existing)
		require.Equal(t, Entry{Room: "room", ID: "RM_1", Owner: leader.id, Epoch: 1, Created: created, ConfigDigest: "d1"}, e)
		local, ok := rest[0].Lookup("room")
		require.True(t, ok, "a claim shows in the claimer's view when it returns")
		require.Equal(t, e, local)

		again, existing, err := rest[1].Claim(ctx10(t), "room", "RM_2", rest[1].id, created, "d2")
		require.NoError(t, err)
		require.True(t, existing)
		require.Equal(t, e, again)

		_, err = rest[0].Reassign(ctx10(t), "room", e.Epoch, rest[0].id)
		require.ErrorIs(t, err, ErrOwnerAlive)

		leader.kill(t)
		next, err := rest[0].Reassign(ctx10(t), "room", e.Epoch, rest[0].id)
		require.NoError(t, err)
		require.Equal(t, rest[0].id, next.Owner)
		require.Greater(t, next.Epoch, e.Epoch)

		_, err = rest[1].Reassign(ctx10(t), "room", e.Epoch, rest[1].id)
		var stale *StaleEpochError
		require.ErrorAs(t, err, &stale)
		require.Equal(t, next, stale.Current)

		// The owner itself may hand its room over while it lives.
		handed, err := rest[0].Reassign(ctx10(t), "room", next.Epoch, rest[1].id)
		require.NoError(t, err)
		require.ErrorIs(t, rest[0].Release(ctx10(t), "room", next.Epoch), ErrStaleEpoch)
		require.NoError(t, rest[1].Release(ctx10(t), "room", handed.Epoch))
		require.NoError(t, rest[1].Release(ctx10(t), "room", handed.Epoch), "a repeated release")
		_, ok = rest[1].Lookup("room")
		require.False(t, ok)
		reopened, existing, err := rest[1].Claim(ctx10(t), "room", "RM_3", rest[1].id, created, "")
		require.NoError(t, err)
		require.False(t, existing)
		require.Greater(t, reopened.Epoch, handed.Epoch, "a room's epochs grow over its lives")
		eventually(t, "both see it", func() bool { _, ok := rest[0].Lookup("room"); return ok })
		checkHistories(t, nodes...)
		for _, n := range rest {
			n.stop(t)
		}
	})
}

func TestLeaderIsReplacedWithinTheDesignedTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // virtual time, without network delay: 1 s to notice at most
		m := newMemMesh()
		nodes := three(t, m, t.TempDir())
		leader, rest := leaderOf(t, nodes)
		m.leave(leader.id)
		lost := time.Now()
		for rest[0].Status().Role != RoleLeader && rest[1].Status().Role != RoleLeader {
			time.Sleep(10 * time.Millisecond)
		}
		require.LessOrEqual(t, time.Since(lost), 1500*time.Millisecond)
		for _, n := range nodes {
			n.cancel()
			<-n.done
		}
	})
}

func TestWatcherFollowsAndForwards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, dir := newMemMesh(), t.TempDir()
		nodes := three(t, m, dir)
		for i := range 250 { // more than two frames of a whole table
			_, _, err := nodes[i%3].Claim(ctx10(t), mesh.RoomName(fmt.Sprintf("r%03d", i)), "RM_x", "a", time.Now(), "")
			require.NoError(t, err)
		}
		w := start(t, m, "w", "us", dir)
		eventually(t, "the watcher has the table", func() bool { return len(w.Entries()) == 250 && w.Status().Ready })
		s := w.Status()
		require.Equal(t, RoleWatcher, s.Role)
		require.Equal(t, []mesh.NodeID{"a", "b", "c"}, s.Voters)

		e, existing, err := w.Claim(ctx10(t), "mine", "RM_w", "w", time.Now(), "")
		require.NoError(t, err)
		require.False(t, existing)
		got, ok := w.Lookup("mine")
		require.True(t, ok)
		require.Equal(t, e, got)
		require.NoError(t, w.Release(ctx10(t), "mine", e.Epoch))
		_, ok = w.Lookup("mine")
		require.False(t, ok)

		// It goes on over the loss of any voter, the leader among them.
		leader, rest := leaderOf(t, nodes)
		leader.kill(t)
		_, _, err = w.Claim(ctx10(t), "after", "RM_w", "w", time.Now(), "")
		require.NoError(t, err)
		eventually(t, "the watcher sees it", func() bool { _, ok := w.Lookup("after"); return ok })
		checkHistories(t, append(nodes, w)...)

		// The lost voter's seat is taken by the watcher, though it stands in a region of its own no more.
		eventually(t, "the watcher votes", func() bool { return w.Status().Role != RoleWatcher })
		eventually(t, "three voters", func() bool { return len(w.Status().Voters) == 3 })
		for _, n := range append(rest, w) {
			n.stop(t)
		}
	})
}

func TestNoLeaderRespectsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemMesh()
		nodes := three(t, m, t.TempDir())
		_, rest := leaderOf(t, nodes)
		m.split(1, rest[0].id)
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
		defer cancel()
		began := time.Now()
		_, _, err := rest[0].Claim(ctx, "room", "RM_1", rest[0].id, time.Now(), "")
		require.ErrorIs(t, err, ErrNoLeader)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, 4*time.Second, time.Since(began))
		m.split(0, rest[0].id)
		_, _, err = rest[0].Claim(ctx10(t), "room", "RM_1", rest[0].id, time.Now(), "")
		require.NoError(t, err)
		for _, n := range nodes {
			n.stop(t)
		}
	})
}

func TestStateSurvivesRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, dir := newMemMesh(), t.TempDir()
		nodes := three(t, m, dir)
		cluster := nodes[0].Status().ClusterID
		first, _, err := nodes[1].Claim(ctx10(t), "kept", "RM_1", "a", time.Now().UTC(), "d")
		require.NoError(t, err)
		gone, _, err := nodes[1].Claim(ctx10(t), "gone", "RM_2", "a", time.Now().UTC(), "d")
		require.NoError(t, err)
		require.NoError(t, nodes[1].Release(ctx10(t), "gone", gone.Epoch))
		for _, n := range nodes {
			n.stop(t)
		}
		for i, id := range []mesh.NodeID{"a", "b", "c"} { // none has Bootstrap: they rejoin by themselves
			nodes[i] = start(t, m, id, mesh.Region("r"+id), dir)
		}
		for _, n := range nodes {
			eventually(t, "the entry is back", func() bool { e, ok := n.Lookup("kept"); return ok && e == first })
			require.Equal(t, cluster, n.Status().ClusterID)
			require.Equal(t, 1, n.Status().Entries, "history is not shown")
		}
		e, _, err := nodes[2].Claim(ctx10(t), "gone", "RM_3", "c", time.Now().UTC(), "")
		require.NoError(t, err)
		require.Greater(t, e.Epoch, gone.Epoch)
		checkHistories(t, nodes...)
		for _, n := range nodes {
			n.stop(t)
		}
	})
}

func TestVoterReplacedWhileAwayReturnsAsWatcher(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, dir := newMemMesh(), t.TempDir()
		nodes := three(t, m, dir)
		_, rest := leaderOf(t, nodes)
		away := rest[1]
		region := mesh.Region(map[mesh.NodeID]string{"a": "us", "b": "eu", "c": "ap"}[away.id])
		m.leave(away.id)
		away.cancel()
		<-away.done
		spare := start(t, m, "spare", region, dir)
		eventually(t, "the spare votes", func() bool {
			s := spare.Status()
			return s.Role == RoleFollower && len(s.Voters) == 3 && !slices.Contains(s.Voters, away.id)
		})
		_, _, err := spare.Claim(ctx10(t), "room", "RM_1", "spare", time.Now(), "")
		require.NoError(t, err)
		back := start(t, m, away.id, region, dir)
		eventually(t, "it watches", func() bool {
			_, ok := back.Lookup("room")
			return ok && back.Status().Role == RoleWatcher && back.Status().Ready
		})
		for _, n := range append(nodes, spare, back) {
			if n != away {
				n.stop(t)
			}
		}
	})
}

func TestTwoBootstrapNodesStartOneGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, dir := newMemMesh(), t.TempDir()
		a, b := start(t, m, "a", "us", dir, bootstrap), start(t, m, "b", "eu", dir, bootstrap)
		eventually(t, "both are ready", func() bool { return a.Status().Ready && b.Status().Ready })
		require.Equal(t, a.Status().ClusterID, b.Status().ClusterID)
		require.Equal(t, mesh.NodeID("a"), b.Status().Leader)
		require.Equal(t, RoleWatcher, b.Status().Role, "two nodes keep one voter")
		a.stop(t)
		b.stop(t)
	})
}

func TestForeignFolderIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		other := newMemMesh()
		x := start(t, other, "x", "us", dir, bootstrap)
		eventually(t, "its own group", func() bool { return x.Status().Ready })
		x.stop(t)

		m := newMemMesh()
		nodes := three(t, m, dir)
		x = start(t, m, "x", "us", dir)
		<-x.done
		err := x.err
		require.ErrorIs(t, err, ErrForeignCluster)
		require.ErrorContains(t, err, filepath.Join(dir, "x"))
		require.ErrorContains(t, err, "move the folder away")
		m.leave("x")
		_, _, err = nodes[0].Claim(ctx10(t), "room", "RM_1", "a", time.Now(), "")
		require.NoError(t, err, "nobody else notices")
		for _, n := range nodes {
			n.stop(t)
		}
	})
}
