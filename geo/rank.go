package geo

import (
	"cmp"
	"hash/fnv"
	"net/netip"
	"slices"
	"time"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

// Edge is a node a client could connect to.
type Edge struct {
	mesh.NodeInfo
	RTT     time.Duration // measured between this client and the node; 0 when it was not
	Healthy bool          // unhealthy nodes are never offered
}

// Query is the client edges are ranked for.
type Query struct {
	Client netip.Addr  // spreads clients over equal edges; may be invalid
	Place  Place       // of the client; ignored unless Known
	Known  bool        // whether Place is known
	Region mesh.Region // the client's wish: its edges come first; empty for none

	// Room holds the nodes that carry the room already. Of edges equally near to the client, the one with the shortest
	// way to the farthest of them is best. May be empty.
	Room []mesh.NodeInfo
}

// RankedEdge is an Edge with what Rank thought of it.
type RankedEdge struct {
	Edge
	Distance    float64       // kilometres; negative when the client's place is unknown
	ExpectedRTT time.Duration // the measured RTT, else from Distance; 0 when neither is known
	Load        float64       // 0 (idle) to 1 (full)
	Score       time.Duration // lower is better: RTT, the room's share and a penalty for load
}

const (
	unknownRTT  = 150 * time.Millisecond // stands for an RTT nobody knows, beside edges whose RTT was measured
	scoreStep   = 2 * time.Millisecond   // scores nearer than this are equal: the client's hash decides
	loadCost    = 10 * time.Millisecond  // penalty at half load
	maxLoadCost = 500 * time.Millisecond

	tierFull     = 1
	tierDraining = 2
)

// Rank orders edges for a client, best first. Unhealthy edges are left out; full ones come after all others, draining
// ones last. Equal edges are spread over clients by rendezvous hash, so that one client gets the same order every time.
//
// The load penalty grows as a queue does, l/(1−l): nothing is gained by leaving an idle near node, much by leaving one
// at 95 %.
func Rank(q Query, edges []Edge) []RankedEdge {
	type candidate struct {
		RankedEdge
		tier   int
		pinned bool
		hash   uint64
	}
	list := make([]candidate, 0, len(edges))
	for _, e := range edges {
		if !e.Healthy {
			continue
		}
		c := candidate{RankedEdge: score(q, e), hash: rendezvous(q.Client, e.ID)}
		c.pinned = q.Region != "" && e.Region == q.Region
		switch {
		case e.Draining:
			c.tier = tierDraining
		case c.Load >= 1:
			c.tier = tierFull
		}
		list = append(list, c)
	}
	slices.SortFunc(list, func(a, b candidate) int {
		return cmp.Or(
			cmp.Compare(a.tier, b.tier),
			compareBool(b.pinned, a.pinned),
			cmp.Compare(a.Score/scoreStep, b.Score/scoreStep),
			cmp.Compare(b.hash, a.hash),
			cmp.Compare(a.ID, b.ID),
		)
	})
	ranked := make([]RankedEdge, len(list))
	for i, c := range list {
		ranked[i] = c.RankedEdge
	}
	return ranked
}

func score(q Query, e Edge) RankedEdge {
	r := RankedEdge{Edge: e, Distance: -1, ExpectedRTT: e.RTT, Load: loadOf(e.Load)}
	here := Place{Latitude: e.Latitude, Longitude: e.Longitude}
	if q.Known {
		r.Distance = Distance(q.Place, here)
		if r.ExpectedRTT <= 0 {
			r.ExpectedRTT = ExpectedRTT(r.Distance)
		}
	}
	r.Score = r.ExpectedRTT
	if r.Score <= 0 {
		r.Score = unknownRTT
	}
	var room time.Duration
	for _, n := range q.Room {
		if n.ID != e.ID {
			room = max(room, ExpectedRTT(Distance(here, Place{Latitude: n.Latitude, Longitude: n.Longitude})))
		}
	}
	// Half: the way between nodes is repaired and detoured, the client's first hop is not.
	r.Score += room / 2
	r.Score += loadPenalty(r.Load)
	return r
}

// loadOf returns the larger of CPU and participant load, 0 to 1.
func loadOf(l mesh.Load) float64 {
	load := l.CPU
	if l.Capacity > 0 {
		load = max(load, float64(l.Participants)/float64(l.Capacity))
	}
	if !(load > 0) { // also NaN
		return 0
	}
	return min(load, 1)
}

func loadPenalty(load float64) time.Duration {
	const steep = float64(maxLoadCost) / float64(maxLoadCost+loadCost) // where the curve reaches maxLoadCost
	if load >= steep {
		return maxLoadCost
	}
	return time.Duration(float64(loadCost) * load / (1 - load))
}

// rendezvous gives every client its own order of the nodes.
func rendezvous(client netip.Addr, node mesh.NodeID) uint64 {
	h := fnv.New64a()
	if client.IsValid() {
		b := client.As16() // IPv4 as IPv4-mapped
		_, _ = h.Write(b[:])
	}
	_, _ = h.Write([]byte(node))
	// FNV leaves the last bytes, where node names differ, in the low bits: mix them up (the finaliser of MurmurHash3).
	x := h.Sum64()
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}
