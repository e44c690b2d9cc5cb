package node

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

// incoming counts the flows into each of the nodes from a node, by source. Those that wait without demand do not count.
func incoming(from *testNode, to ...*testNode) map[mesh.SourceID]int {
	copies := map[mesh.SourceID]int{}
	for _, n := range to {
		for _, l := range n.cascade.Links() {
			if l.Peer != from.cfg.ID {
				continue
			}
			for _, f := range l.Flows {
				if f.Direction == "in" && f.Encodings != 0 {
					copies[f.Source]++
				}
			}
		}
	}
	return copies
}

// oneCopyEach waits until each of two sources comes once from a node to others.
func oneCopyEach(t *testing.T, from *testNode, to ...*testNode) {
	t.Helper()
	require.Eventually(t, func() bool {
		copies := incoming(from, to...)
		for _, c := range copies {
			if c != 1 {
				return false
			}
		}
		return len(copies) == 2
	}, 10*time.Second, 20*time.Millisecond, "one copy of each source: %v", incoming(from, to...))
}

// gatewayOf returns which of two nodes a region's sources come by, and the other.
func gatewayOf(t *testing.T, source mesh.SourceID, a, b *testNode) (gateway, other *testNode) {
	t.Helper()
	id, ok := a.upstreams.Snapshot().Gateway(source, a.cfg.Region)
	require.True(t, ok)
	if id == a.cfg.ID {
		return a, b
	}
	return b, a
}

func sourceOfKind(n *testNode, kind string) (id mesh.SourceID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for source, m := range n.media {
		if m.media.Info.Audio == (kind == "audio") {
			id = source
		}
	}
	return id
}

// Two nodes of a region have watchers of one source: one copy crosses the ocean. Then the gateway is lost without a word.
func TestRegionGateway(t *testing.T) {
	nodes := startMesh(t, "us-east", "eu-west", "eu-west")
	us, eu := nodes[0], nodes[1:]
	alice := join(t, us, "hall", "alice", personOptions{})
	people := map[mesh.NodeID]*person{}
	for _, n := range eu {
		people[n.cfg.ID] = join(t, n, "hall", "bob-"+string(n.cfg.ID), personOptions{silent: true})
	}
	for _, p := range people {
		p.gets(t, alice)
	}
	oneCopyEach(t, us, eu...)

	gone, left := gatewayOf(t, sourceOfKind(us, "video"), eu[0], eu[1])
	gone.cut(us, left)
	people[left.cfg.ID].gets(t, alice)
	oneCopyEach(t, us, left)
}

// The gateway has nobody who watches, and does not know the room.
func TestGatewayWithoutWatchers(t *testing.T) {
	nodes := startMesh(t, "us-east", "eu-west", "eu-west")
	us, eu := nodes[0], nodes[1:]
	alice := join(t, us, "hall", "alice", personOptions{})
	require.Eventually(t, func() bool { return sourceOfKind(us, "video") != "" }, 10*time.Second, 10*time.Millisecond)
	gateway, other := gatewayOf(t, sourceOfKind(us, "video"), eu[0], eu[1])
	bob := join(t, other, "hall", "bob", personOptions{silent: true})
	bob.gets(t, alice)
	require.Eventually(t, func() bool { return incoming(gateway, other)[sourceOfKind(us, "video")] == 1 }, 10*time.Second, 20*time.Millisecond)
	oneCopyEach(t, us, eu...)
	require.Nil(t, gateway.findRoom("hall"))

	bob.Disconnect()
	for _, n := range nodes {
		require.Eventually(t, func() bool { return flows(n) == 0 }, 10*time.Second, 20*time.Millisecond, "%s lets go", n.cfg.ID)
	}
	require.Eventually(t, func() bool {
		return gateway.upstreams.Sources() == 0
	}, 10*time.Second, 20*time.Millisecond)
}

// The direct link dies: the media comes over a third region, and by the direct link again when that is back.
func TestDetourAroundADeadLink(t *testing.T) {
	nodes := startMesh(t, "us-east", "eu-west", "ap-south")
	us, eu, ap := nodes[0], nodes[1], nodes[2]
	alice := join(t, us, "hall", "alice", personOptions{})
	bob := join(t, eu, "hall", "bob", personOptions{silent: true})
	bob.gets(t, alice)
	oneCopyEach(t, us, eu)
	require.Eventually(t, func() bool {
		_, known := eu.gossip.Distance(us.cfg.ID, ap.cfg.ID)
		return known
	}, 10*time.Second, 20*time.Millisecond)

	us.cut(eu)
	bob.gets(t, alice)
	oneCopyEach(t, us, ap)
	oneCopyEach(t, ap, eu)

	us.mend(eu)
	video := sourceOfKind(us, "video")
	require.Eventually(t, func() bool { return incoming(ap, eu)[video] == 0 }, 20*time.Second, 20*time.Millisecond, "the detour is over, but for the twin of audio")
	oneCopyEach(t, us, eu)
	bob.gets(t, alice)
}
