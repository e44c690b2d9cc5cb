package route

import (
	"math"
	"slices"
	"time"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

// Node is a node that is there. Dead ones are left out of a snapshot.
type Node struct {
	ID       mesh.NodeID
	Region   mesh.Region
	Draining bool // is nobody's gateway and nobody's detour
}

// Link is what is known of the way from one node to another. The round trip is of both directions, loss and jitter of
// the direction from the first to the second where they are known apart.
type Link struct {
	RTT    time.Duration // 0 is unknown
	Jitter time.Duration // interarrival jitter of RFC 3550, a mean deviation
	Loss   float64       // share of packets lost before repair, 0 to 1
	Down   bool          // nothing passes
	Age    time.Duration // since it was measured
}

// MaxAge is how long a measured link is believed.
const MaxAge = 10 * time.Second

// Snapshot is the mesh as one node knows it at one moment. It is not to be changed once asked.
type Snapshot struct {
	byID    map[mesh.NodeID]Node
	regions []region
	link    func(from, to mesh.NodeID) (Link, bool)
}

type region struct {
	name  mesh.Region
	nodes []candidate
}

// candidate is a node that may be a gateway.
type candidate struct {
	id   mesh.NodeID
	hash uint64
}

// NewSnapshot returns a snapshot. Link tells what is known of the way media takes from one node to another; false is
// nothing. Of several nodes with the same ID the first counts.
func NewSnapshot(nodes []Node, link func(from, to mesh.NodeID) (Link, bool)) *Snapshot {
	s := &Snapshot{byID: make(map[mesh.NodeID]Node, len(nodes)), link: link}
	index := make(map[mesh.Region]int)
	for _, n := range nodes {
		if _, twice := s.byID[n.ID]; twice {
			continue
		}
		s.byID[n.ID] = n
		i, ok := index[n.Region]
		if !ok {
			i = len(s.regions)
			index[n.Region] = i
			s.regions = append(s.regions, region{name: n.Region})
		}
		if !n.Draining {
			s.regions[i].nodes = append(s.regions[i].nodes, candidate{n.ID, hash(string(n.ID))})
		}
	}
	return s
}

// known returns a link that may be used, with an RTT.
func (s *Snapshot) known(from, to mesh.NodeID) (Link, bool) {
	l, ok := s.link(from, to)
	return l, ok && !l.Down && l.RTT > 0 && l.Age <= MaxAge
}

// down reports whether nothing passes between two nodes, as far as is known.
func (s *Snapshot) down(from, to mesh.NodeID) bool {
	l, ok := s.link(from, to)
	return ok && l.Down && l.Age <= MaxAge
}

const (
	framePackets = 10                     // 2.5 Mbit/s at 30 frames a second is 9 packets of 1150 bytes each
	jitterMargin = 4                      // deviations a playout buffer holds (Ramjee 1994)
	hopCost      = 4 * time.Millisecond   // a node on the way: there and back, at its worst hundredth
	unknownCost  = 400 * time.Millisecond // a link nobody measured: worse than any that goes once round the Earth
)

// Cost is what a link adds to the time from a lens to a screen and back:
//
//	RTT · (1 + P) + 4 · jitter,    P = 1 − (1 − loss)^10
//
// P is the chance that one of the ten packets of a frame is lost; the frame then waits one round trip for the repair.
// Playout buffers hold four deviations of the delay.
func (l Link) Cost() time.Duration {
	loss := min(max(l.Loss, 0), 1)
	late := 1 - math.Pow(1-loss, framePackets)
	return l.RTT + time.Duration(float64(l.RTT)*late) + jitterMargin*max(l.Jitter, 0)
}

// cost is Link.Cost, and something bad for a link that is not known.
func (s *Snapshot) cost(from, to mesh.NodeID) time.Duration {
	if l, ok := s.known(from, to); ok {
		return l.Cost()
	}
	return unknownCost
}

// Gateway returns the node of a region that pulls a source from elsewhere for the others there, nodes in avoid left
// out; false when there is none.
func (s *Snapshot) Gateway(source mesh.SourceID, in mesh.Region, avoid ...mesh.NodeID) (mesh.NodeID, bool) {
	for _, r := range s.regions {
		if r.name == in {
			return gateway(source, r.nodes, func(id mesh.NodeID) bool { return !slices.Contains(avoid, id) })
		}
	}
	return "", false
}

// gateway returns the candidate of the highest weight for which ok holds.
func gateway(source mesh.SourceID, nodes []candidate, ok func(mesh.NodeID) bool) (best mesh.NodeID, found bool) {
	var highest uint64
	key := hash(string(source))
	for _, c := range nodes {
		w := mix(key ^ c.hash)
		if found && (w < highest || (w == highest && c.id > best)) || !ok(c.id) {
			continue
		}
		best, highest, found = c.id, w, true
	}
	return best, found
}

// weight gives every source its own order of the nodes.
func weight(source mesh.SourceID, node mesh.NodeID) uint64 {
	return mix(hash(string(source)) ^ hash(string(node)))
}

// hash is FNV-1a.
func hash(s string) uint64 {
	x := uint64(14695981039346656037)
	for i := range len(s) {
		x = (x ^ uint64(s[i])) * 1099511628211
	}
	return x
}

// mix is the finaliser of MurmurHash3: each bit of x decides over each of the result.
func mix(x uint64) uint64 {
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}
