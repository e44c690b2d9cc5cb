package directory

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/internal/mesh"
	pb "github.com/meridian-sfu/meridian/internal/meshpb/directorypb"
)

// Design §10: new owner within 3 s, the roster whole, no ghost.
func TestOwnerKilled(t *testing.T) {
	withCluster(t, abc, func(c *cluster) {
		a, b, cc := c.nodes["a"], c.nodes["b"], c.nodes["c"]
		a.join("alice")
		c.pass(time.Second)
		hb := b.join("bob")
		cc.join("carol")
		c.pass(time.Second)
		id := b.meta.ID
		_, err := b.UpdateRoom(context.Background(), call, "set before")
		require.NoError(t, err)
		c.pass(100 * time.Millisecond) // the owner says yes before the edges have it
		c.kill("a")
		c.pass(3 * time.Second)
		owners := c.owners()
		require.Len(t, owners, 1)
		require.Equal(t, owners[0], b.meta.Owner)
		require.Equal(t, owners[0], cc.meta.Owner)
		require.Equal(t, id, b.meta.ID, "the room lives on")
		require.Equal(t, "set before", b.meta.Metadata)
		c.pass(5 * time.Second)
		b.sees("carol")
		cc.sees("bob")
		require.Equal(t, 1, b.gone, "only the dead node's participant was told gone")
		require.Equal(t, 1, cc.gone)
		hb.Put(b.participant("bob2", 1))
		c.pass(100 * time.Millisecond)
		cc.sees("bob", "bob2")
		require.NoError(t, cc.Moderate(context.Background(), call, "bob2", Mute{Source: "TR_bob2", Muted: true}))
		synctest.Wait()
		require.Equal(t, []Command{Mute{Source: "TR_bob2", Muted: true}}, b.commands)
	})
}

// Static stability, design §6: with owner and Raft gone, edges that know each other go on.
func TestOwnerKilledWithoutQuorum(t *testing.T) {
	withCluster(t, abc, func(c *cluster) {
		a, b, cc := c.nodes["a"], c.nodes["b"], c.nodes["c"]
		a.join("alice")
		c.pass(time.Second)
		hb := b.join("bob")
		cc.join("carol")
		c.pass(time.Second)
		c.quorum(false, "b", "c")
		c.kill("a")
		c.pass(20 * time.Second)
		hb.Put(b.participant("bob2", 1))
		hb.Remove("bob", 1)
		c.pass(time.Second)
		require.Contains(t, cc.roster, mesh.ParticipantID("bob2"))
		require.NotContains(t, cc.roster, mesh.ParticipantID("bob"))
		require.Contains(t, b.roster, mesh.ParticipantID("carol"))
		c.heal()
		c.pass(20 * time.Second)
		require.Len(t, c.owners(), 1)
		b.sees("carol")
		cc.sees("bob2")
	})
}

func TestEdgeDeathDropsAfterGrace(t *testing.T) {
	withCluster(t, abc, func(c *cluster) {
		a, b := c.nodes["a"], c.nodes["b"]
		a.join("alice")
		c.pass(time.Second)
		b.join("bob")
		c.nodes["c"].join("carol")
		c.pass(time.Second)
		c.kill("b")
		c.pass(DefaultConfig().EdgeGrace - 500*time.Millisecond)
		a.sees("bob", "carol")
		c.pass(time.Second)
		a.sees("carol")
		c.nodes["c"].sees("alice")
	})
}

func TestEdgeRestartLeavesNoGhost(t *testing.T) {
	withCluster(t, abc, func(c *cluster) {
		a := c.nodes["a"]
		a.join("alice")
		c.pass(time.Second)
		c.nodes["b"].join("bob")
		c.pass(time.Second)
		c.kill("b")
		b := c.start("b")
		c.pass(time.Second)
		a.sees()
		b.join("ben")
		c.pass(time.Second)
		a.sees("ben")
		b.sees("alice")
	})
}

func TestOwnerRestartIsWholeFromReports(t *testing.T) {
	withCluster(t, abc, func(c *cluster) {
		h, _ := c.nodes["a"].Open(call, mesh.Room{Metadata: "kept", DepartureTimeout: time.Minute})
		h.Put(c.nodes["a"].participant("alice", 1))
		c.pass(time.Second)
		b, cc := c.nodes["b"], c.nodes["c"]
		b.join("bob")
		cc.join("carol")
		c.pass(time.Second)
		c.kill("a")
		c.start("a")
		c.pass(5 * time.Second)
		require.Len(t, c.owners(), 1)
		b.sees("carol")
		cc.sees("bob")
		require.Equal(t, "kept", b.meta.Metadata)
		require.Equal(t, time.Minute, b.meta.DepartureTimeout)
	})
}

// Design §10: each half keeps talking; after heal one room, one owner, nobody twice.
func TestPartitionAndHeal(t *testing.T) {
	withCluster(t, []mesh.NodeID{"a", "b", "c", "d"}, func(c *cluster) {
		a, b, cc, d := c.nodes["a"], c.nodes["b"], c.nodes["c"], c.nodes["d"]
		a.join("alice")
		c.pass(time.Second)
		hb := b.join("bob")
		hc := cc.join("carol")
		d.join("dave")
		c.pass(time.Second)
		c.partition([]mesh.NodeID{"a", "b"}, []mesh.NodeID{"c", "d"})
		c.pass(10 * time.Second)
		a.sees("bob")
		b.sees("alice")
		cc.sees("dave")
		d.sees("carol")
		require.Len(t, c.owners(), 2, "the old owner does not know yet")
		hb.Put(b.participant("bea", 1))
		hc.Put(cc.participant("bob.2", 1)) // bob came back on the other side
		c.pass(time.Second)
		a.sees("bob", "bea")
		d.sees("carol", "bob.2")
		c.heal()
		c.pass(10 * time.Second)
		require.Len(t, c.owners(), 1)
		require.NotContains(t, c.owners(), mesh.NodeID("a"), "the old owner stepped down")
		require.NotEmpty(t, b.commands)
		for _, o := range b.commands { // again with each snapshot that still has bob
			require.Equal(t, Evict{Reason: ReasonDuplicateIdentity}, o)
		}
		hb.Remove("bob", ReasonDuplicateIdentity)
		c.pass(time.Second)
		a.sees("bea", "carol", "bob.2", "dave")
		b.sees("alice", "carol", "bob.2", "dave")
		cc.sees("alice", "bea", "dave")
		d.sees("alice", "bea", "carol", "bob.2")
	})
}

func TestStaleEpochIsRefused(t *testing.T) {
	withCluster(t, abc, func(c *cluster) {
		a, b := c.nodes["a"], c.nodes["b"]
		a.join("alice")
		c.pass(time.Second)
		b.join("bob")
		c.nodes["c"].join("carol")
		c.pass(time.Second)
		r := a.find(call)
		frame := func(epoch uint64) *pb.Frame {
			p := c.nodes["c"].participant("mallory", 1)
			return &pb.Frame{Version: 1, Room: string(call), Epoch: epoch, Body: &pb.Frame_Report{Report: &pb.Report{
				Participants: []*pb.Participant{participantToWire(p)},
			}}}
		}
		r.post(c.t.Context(), func() { r.receive("c", frame(r.owner.Epoch-1)) })
		a.sees("bob", "carol")
		require.Equal(t, 1.0, a.counter("stale_epoch_refused_total"))
		r.post(c.t.Context(), func() { r.receive("c", frame(r.owner.Epoch)) })
		a.sees("bob", "carol", "mallory")
	})
}

func TestGapLeadsToResync(t *testing.T) {
	withCluster(t, abc, func(c *cluster) {
		a, b := c.nodes["a"], c.nodes["b"]
		ha := a.join("alice")
		c.pass(time.Second)
		b.join("bob")
		c.pass(time.Second)
		r := a.find(call)
		r.post(c.t.Context(), func() { r.edges["b"].sequence += 3 })
		synctest.Wait()
		ha.Put(a.participant("alice2", 1))
		c.pass(100 * time.Millisecond)
		require.Equal(t, 1.0, b.counter("resyncs_total"))
		b.sees("alice", "alice2")
	})
}

func TestANodeSpeaksOnlyForItself(t *testing.T) {
	withCluster(t, abc, func(c *cluster) {
		a, b := c.nodes["a"], c.nodes["b"]
		a.join("alice")
		c.pass(time.Second)
		b.join("bob")
		c.pass(time.Second)
		forged := participantToWire(c.nodes["c"].participant("mallory", 1))
		b.tell("a", &pb.Frame{Room: string(call), Epoch: 1, Body: &pb.Frame_Report{Report: &pb.Report{Participants: []*pb.Participant{forged}}}})
		c.pass(5 * time.Second)
		a.sees("bob")
		require.Equal(t, 1.0, a.counter("streams_refused_total"))
		b.sees("alice")
	})
}

func TestStreamLossIsRepaired(t *testing.T) {
	withCluster(t, abc, func(c *cluster) {
		a, b := c.nodes["a"], c.nodes["b"]
		ha := a.join("alice")
		c.pass(time.Second)
		hb := b.join("bob")
		c.pass(time.Second)
		for i := range 20 {
			c.mu.Lock()
			c.cut[pair("a", "b")] = true
			c.mu.Unlock()
			c.sever()
			ha.Put(a.participant(fmt.Sprintf("alice%d", i), 1))
			hb.Put(b.participant("bob", uint32(i+2)))
			c.mu.Lock()
			clear(c.cut)
			c.mu.Unlock()
			c.pass(300 * time.Millisecond)
		}
		c.pass(5 * time.Second)
		require.Len(t, b.roster, 21)
		require.Equal(t, uint32(21), a.roster["bob"].Version)
		require.Zero(t, a.gone+b.gone)
	})
}
