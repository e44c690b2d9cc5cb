package node

import (
	"github.com/meridian-sfu/meridian/cascade/route"
	"github.com/meridian-sfu/meridian/cascade/upstream"
	"github.com/meridian-sfu/meridian/gossip"
	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

// This file is the story of a source on its way to another node. Published here, its media is known under its ID
// (addLocalMedia). The participant's record names it to every edge of the room. On another edge, the first participant who
// watches it makes that node ask for it (hallRoom.media → upstream.Router.Watch → cascade.Remote). It asks the gateway of its
// region, which needs not know the room (upstream.Router.Relay); the gateway asks here. The question arrives as mediaFor, and
// from then on the flow is one more subscriber of the same rtpstream.Source.
//
// Any node of the mesh may ask for any source: the mesh CA is the boundary of trust, rooms are not.

// local is the media of a source produced here.
type local struct {
	room  mesh.RoomName
	media *rtpstream.Source
}

func (n *Node) addLocalMedia(id mesh.SourceID, room mesh.RoomName, media *rtpstream.Source) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.media[id] = local{room, media}
}

// removeLocalMedia ends a source: its subscribers here and its flows to other nodes.
func (n *Node) removeLocalMedia(id mesh.SourceID) {
	n.mu.Lock()
	m, ok := n.media[id]
	delete(n.media, id)
	n.mu.Unlock()
	if ok {
		m.media.Close()
	}
}

func (n *Node) localMedia(id mesh.SourceID) *rtpstream.Source {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.media[id].media
}

// mediaFor answers a node that asks for a source.
func (n *Node) mediaFor(_ mesh.NodeID, room mesh.RoomName, id mesh.SourceID) (*rtpstream.Source, bool) {
	n.mu.Lock()
	m, ok := n.media[id]
	n.mu.Unlock()
	if !ok || m.room != room {
		return nil, false
	}
	n.toRoom(room, func(r *hallRoom) { r.apply(r.state.RemoteSubscriber(id)) })
	return m.media, true
}

// upstreamDeps is what gossip knows of the mesh, as package upstream wants it.
func (n *Node) upstreamDeps() upstream.Deps {
	return upstream.Deps{
		Self: n.cfg.ID, Region: n.cfg.Region,
		Members: func() (nodes []route.Node) {
			for _, m := range n.gossip.Members() {
				nodes = append(nodes, route.Node{ID: m.ID, Region: m.Region, Draining: m.Draining})
			}
			return nodes
		},
		RegionOf: func(id mesh.NodeID) (mesh.Region, bool) {
			m, ok := n.gossip.Lookup(id)
			return m.Region, ok
		},
		Distance:  n.gossip.Distance,
		Subscribe: func(f func()) (cancel func()) { return n.gossip.Subscribe(func(gossip.Event) { f() }) },
	}
}
