package directory

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/internal/mesh"
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

// A snapshot larger than one frame arrives in parts, and what it does not name is gone only after the last.
func TestLargeSnapshotComesInParts(t *testing.T) {
	withCluster(t, abc, func(c *cluster) {
		a, b := c.nodes["a"], c.nodes["b"]
		ha, _ := a.Open(call, mesh.Room{})
		var ids []mesh.ParticipantID
		for i := range 40 {
			p := a.participant(fmt.Sprintf("big%d", i), 1)
			p.Metadata = strings.Repeat("x", 200<<10)
			ha.Put(p)
			ids = append(ids, p.ID)
		}
		c.pass(time.Second)
		b.join("bob")
		c.pass(time.Second)
		b.sees(ids...)
		c.mu.Lock()
		c.cut[pair("a", "b")] = true
		c.mu.Unlock()
		c.sever()
		ha.Remove(ids[7], 1)
		c.mu.Lock()
		clear(c.cut)
		c.mu.Unlock()
		c.pass(2 * time.Second)
		b.sees(slices.Delete(slices.Clone(ids), 7, 8)...)
		require.Equal(t, 1, b.gone)
		a.sees("bob")
	})
}

// A peer that does not read loses its queue, not our memory; once it reads again it is brought up to date.
func TestLaneIsBounded(t *testing.T) {
	withCluster(t, []mesh.NodeID{"a", "b"}, func(c *cluster) {
		a, b := c.nodes["a"], c.nodes["b"]
		ha := a.join("alice")
		c.pass(time.Second)
		b.join("bob")
		c.pass(time.Second)
		c.mu.Lock()
		c.cut[pair("a", "b")] = true
		c.mu.Unlock()
		c.sever()
		for range 100 {
			ha.Data(mesh.DataMessage{Sender: "alice", Reliable: true, Payload: make([]byte, 1<<20)})
		}
		l := a.lane("b", Service)
		l.mu.Lock()
		require.LessOrEqual(t, l.bytes, DefaultConfig().QueueBytes)
		l.mu.Unlock()
		ha.Put(a.participant("ann", 1))
		c.mu.Lock()
		clear(c.cut)
		c.mu.Unlock()
		c.pass(5 * time.Second)
		b.sees("alice", "ann")
		require.Zero(t, b.gone)
	})
}
