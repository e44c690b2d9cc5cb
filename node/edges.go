package node

import (
	"context"
	"net/http"
	"net/netip"

	"github.com/meridian-sfu/meridian/geo"
	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/node/api"
)

// edges ranks the nodes of the mesh for a client.
func (n *Node) edges(_ context.Context, q api.EdgeQuery) api.EdgeList {
	place, known := n.geo.Lookup(q.Client)
	query := geo.Query{Client: q.Client, Place: place, Known: known, Region: q.Region}
	members := n.gossip.Members()
	if r := n.findRoom(q.Room); r != nil {
		in := map[mesh.NodeID]bool{n.cfg.ID: true}
		r.call(func() {
			for _, id := range r.state.RemoteNodes() {
				in[id] = true
			}
		})
		for _, m := range members {
			if in[m.ID] {
				query.Room = append(query.Room, m)
			}
		}
	}
	candidates := make([]geo.Edge, 0, len(members))
	for _, m := range members {
		candidates = append(candidates, geo.Edge{NodeInfo: m, Healthy: n.alive(m.ID)})
	}
	list := api.EdgeList{Client: api.ClientPlace{
		Known: known, Country: place.Country, City: place.City, Latitude: place.Latitude, Longitude: place.Longitude,
	}}
	if known && n.geo.Embedded() {
		list.Attribution = geo.Attribution
	}
	for _, e := range geo.Rank(query, candidates) {
		list.Edges = append(list.Edges, api.RankedEdge{
			Node: e.ID, Region: e.Region, ClientURL: e.ClientURL, Distance: e.Distance, ExpectedRTT: e.ExpectedRTT,
			Load: e.Load, Draining: e.Draining,
		})
	}
	return list
}

// clientAddr is who sent a request, through trusted proxies only.
func (n *Node) clientAddr(r *http.Request) netip.Addr {
	return api.ClientAddr(r, n.cfg.HTTP.TrustedProxies)
}

// notReady says why the node cannot take clients. A node that was ready once stays so without quorum: its calls go on and
// rooms open provisionally.
func (n *Node) notReady() []string {
	var why []string
	if n.draining.Load() {
		why = append(why, "the node is draining")
	}
	if !n.ready.Load() {
		switch {
		case len(n.cfg.Mesh.Seeds) > 0 && !n.cfg.Mesh.Bootstrap && len(n.gossip.Members()) < 2:
			why = append(why, "no other node of the mesh answers yet: check mesh.seeds and that UDP is open between the nodes")
		case !n.ownership.Status().Ready:
			why = append(why, "the ownership group has no leader yet")
		default:
			n.ready.Store(true)
		}
	}
	return why
}
