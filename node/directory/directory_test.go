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

var abc = []mesh.NodeID{"a", "b", "c"}

func TestJoinOnTwoNodes(t *testing.T) {
	withCluster(t, abc, func(c *cluster) {
		a, b := c.nodes["a"], c.nodes["b"]
		h, meta := a.Open(call, mesh.Room{Metadata: "hello"})
		require.Zero(t, meta.Epoch, "the join does not wait for the table of owners")
		require.Empty(t, meta.ID)
		h.Put(a.participant("alice", 1))
		c.pass(time.Second)
		require.NotEmpty(t, a.meta.ID)
		require.Equal(t, mesh.NodeID("a"), a.meta.Owner)

		hb, meta := b.Open(call, mesh.Room{Metadata: "too late"})
		require.Equal(t, a.meta.ID, meta.ID, "a known room is known at once")
		hb.Put(b.participant("bob", 1))
		c.pass(100 * time.Millisecond)
		a.sees("bob")
		b.sees("alice")
		require.Equal(t, "hello", b.meta.Metadata)

		// a late third edge gets everybody; a change goes to all
		hc := c.nodes["c"].join("carol")
		c.pass(100 * time.Millisecond)
		c.nodes["c"].sees("alice", "bob")
		a.sees("bob", "carol")
		b.sees("alice", "carol")
		muted := b.participant("bob", 2)
		muted.Sources[0].Muted = true
		hb.Put(muted)
		synctest.Wait()
		require.True(t, a.roster["bob"].Sources[0].Muted)
		require.True(t, c.nodes["c"].roster["bob"].Sources[0].Muted)

		hc.Remove("carol", 1)
		synctest.Wait()
		a.sees("bob")
		b.sees("alice")
		_, others := hb.Snapshot()
		require.Len(t, others, 1)
	})
}

func TestProvisionalRoomsMerge(t *testing.T) {
	withCluster(t, []mesh.NodeID{"a", "b"}, func(c *cluster) {
		a, b := c.nodes["a"], c.nodes["b"]
		c.quorum(false, "a", "b")
		a.join("alice")
		b.join("bob")
		c.pass(10 * time.Second)
		a.sees()
		b.sees()
		require.Empty(t, c.owners())
		c.heal()
		c.pass(10 * time.Second)
		require.Len(t, c.owners(), 1)
		a.sees("bob")
		b.sees("alice")
		require.Equal(t, a.meta.ID, b.meta.ID)
	})
}

// Design §6: last join wins, as LiveKit does.
func TestDuplicateIdentityEvictsTheEarlierJoin(t *testing.T) {
	withCluster(t, abc, func(c *cluster) {
		a, b := c.nodes["a"], c.nodes["b"]
		a.join("alice")
		c.pass(time.Second)
		hb := b.join("bob.1")
		c.pass(time.Second)
		c.nodes["c"].join("bob.2")
		c.pass(time.Second)
		require.Equal(t, []Command{Evict{Reason: ReasonDuplicateIdentity}}, b.commands)
		require.Empty(t, c.nodes["c"].commands)
		a.sees("bob.2")
		c.nodes["c"].sees("alice")
		hb.Remove("bob.1", ReasonDuplicateIdentity)
		c.pass(time.Second)
		a.sees("bob.2")

		// the owner's own participant is evicted like any other
		b.join("alice.9")
		c.pass(time.Second)
		require.Equal(t, []Command{Evict{Reason: ReasonDuplicateIdentity}}, a.commands)
		c.nodes["c"].sees("alice.9")
	})
}

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

func TestRoomEndsAfterDeparture(t *testing.T) {
	withCluster(t, abc, func(c *cluster) {
		a, b := c.nodes["a"], c.nodes["b"]
		ha := a.join("alice")
		c.pass(time.Second)
		hb := b.join("bob")
		c.pass(time.Second)
		ha.Close()
		hb.Remove("bob", 1)
		c.pass(time.Minute)
		require.NotEmpty(t, c.table, "b has a handle: somebody is coming")
		require.Empty(t, a.ended)
		hb.Put(b.participant("bob.2", 1))
		c.pass(time.Second)
		hb.Close()
		c.pass(15 * time.Second)
		require.NotEmpty(t, c.table, "departure timeout is not over")
		c.pass(10 * time.Second)
		require.Empty(t, c.table)
		require.Equal(t, []int32{ReasonRoomClosed}, a.ended)
		require.Empty(t, a.Rooms())
		require.Empty(t, b.Rooms())
		// a new life has a new ID
		old := b.meta.ID
		b.join("bob.3")
		c.pass(time.Second)
		require.NotEqual(t, old, b.meta.ID)
		require.Equal(t, []mesh.NodeID{"b"}, c.owners())
	})
}

func TestRoomDoesNotEndWithoutConfirmation(t *testing.T) {
	withCluster(t, abc, func(c *cluster) {
		a, b := c.nodes["a"], c.nodes["b"]
		ha := a.join("alice")
		c.pass(time.Second)
		b.join("bob")
		c.pass(time.Second)
		ha.Close()
		c.pass(time.Minute)
		require.NotEmpty(t, c.table)
		require.Equal(t, []mesh.NodeID{"a"}, c.owners(), "the owner stays though nobody is there")
		b.sees()
		a.sees("bob")
	})
}

func TestCreatedRoomEndsAfterEmptyTimeout(t *testing.T) {
	withCluster(t, abc, func(c *cluster) {
		a, b := c.nodes["a"], c.nodes["b"]
		m, err := a.Create(context.Background(), mesh.Room{Name: call, Metadata: "m", EmptyTimeout: 30 * time.Second})
		require.NoError(t, err)
		require.NotEmpty(t, m.ID)
		again, err := b.Create(context.Background(), mesh.Room{Name: call})
		require.NoError(t, err)
		require.Equal(t, m.ID, again.ID)
		require.Equal(t, "m", again.Metadata)
		c.pass(25 * time.Second)
		require.NotEmpty(t, c.table)
		c.pass(10 * time.Second)
		require.Empty(t, c.table)
		require.Equal(t, []int32{ReasonRoomClosed}, a.ended)
		c.quorum(false, "a")
		_, err = a.Create(context.Background(), mesh.Room{Name: call})
		require.ErrorIs(t, err, ErrUnavailable)
		_, err = a.Create(context.Background(), mesh.Room{})
		require.ErrorIs(t, err, ErrInvalid)
	})
}

func TestModeration(t *testing.T) {
	ctx := context.Background()
	withCluster(t, abc, func(c *cluster) {
		a, b, cc := c.nodes["a"], c.nodes["b"], c.nodes["c"]
		require.ErrorIs(t, cc.Moderate(ctx, call, "bob", Evict{}), ErrNoRoom)
		a.join("alice")
		c.pass(time.Second)
		b.join("bob")
		c.pass(time.Second)
		// c has no part in the room: it asks the owner, who passes it to the edge
		name := "Bob"
		orders := []Command{
			Evict{Reason: ReasonRemoved},
			Mute{Source: "TR_bob", Muted: true},
			Subscribe{Sources: []mesh.SourceID{"x"}, Want: true},
			Change{Name: &name, Attributes: map[string]string{"k": "v"}, Permission: &mesh.Permission{CanPublish: true}},
		}
		for _, o := range orders {
			require.NoError(t, cc.Moderate(ctx, call, "bob", o))
		}
		synctest.Wait()
		require.Equal(t, orders, b.commands)
		require.ErrorIs(t, cc.Moderate(ctx, call, "nobody", Evict{}), ErrNoParticipant)
		require.NoError(t, b.Moderate(ctx, call, "alice", Evict{Reason: 4}))
		synctest.Wait()
		require.Equal(t, []Command{Evict{Reason: 4}}, a.commands)

		m, err := cc.UpdateRoom(ctx, call, "new")
		require.NoError(t, err)
		require.Equal(t, "new", m.Metadata)
		synctest.Wait()
		require.Equal(t, "new", a.meta.Metadata)
		require.Equal(t, "new", b.meta.Metadata)
		all, err := cc.Directory.Participants(ctx, call)
		require.NoError(t, err)
		require.Len(t, all, 2)
		require.NoError(t, cc.SendData(ctx, call, mesh.DataMessage{Payload: []byte("hi"), Reliable: true}))
		synctest.Wait()
		require.Len(t, a.data, 1)
		require.Len(t, b.data, 1)

		require.NoError(t, cc.EndRoom(ctx, call))
		c.pass(time.Second)
		require.Equal(t, []int32{ReasonRoomDeleted}, a.ended)
		require.Equal(t, []int32{ReasonRoomDeleted}, b.ended)
		require.Empty(t, c.table)
		require.Empty(t, a.Rooms())
		require.Empty(t, b.Rooms())
	})
}

func TestDataGoesInOrderWhereItIsAddressed(t *testing.T) {
	withCluster(t, abc, func(c *cluster) {
		a, b, cc := c.nodes["a"], c.nodes["b"], c.nodes["c"]
		a.join("alice")
		c.pass(time.Second)
		hb := b.join("bob")
		cc.join("carol")
		c.pass(time.Second)
		for i := range 500 {
			hb.Data(mesh.DataMessage{Sender: "bob", Reliable: true, Payload: fmt.Append(nil, i)})
		}
		hb.Data(mesh.DataMessage{Sender: "bob", Destinations: []mesh.Identity{"carol"}, Payload: []byte("lossy")})
		synctest.Wait()
		for _, n := range []*node{a, cc} {
			next, lossy := 0, 0
			for _, m := range n.data {
				if !m.Reliable {
					lossy++
					continue
				}
				require.Equal(t, fmt.Sprint(next), string(m.Payload))
				next++
			}
			require.Equal(t, 500, next)
			require.Equal(t, n == cc, lossy == 1)
		}
		require.Empty(t, b.data)
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

func TestQuickRejoinIsCheap(t *testing.T) {
	withCluster(t, abc, func(c *cluster) {
		a, b := c.nodes["a"], c.nodes["b"]
		a.join("alice")
		c.pass(time.Second)
		hb := b.join("bob")
		c.pass(time.Second)
		hb.Close()
		hb.Close()
		c.pass(time.Second)
		a.sees()
		h, _ := b.Open(call, mesh.Room{})
		_, others := h.Snapshot()
		require.Len(t, others, 1, "still attached")
		h.Close()
		c.pass(10 * time.Second)
		require.Empty(t, b.Rooms())
		c.pass(time.Second)
		edges := make(chan int, 1)
		r := a.find(call)
		r.post(c.t.Context(), func() { edges <- len(r.edges) })
		require.Zero(t, <-edges)
	})
}
