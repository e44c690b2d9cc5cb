package route

import (
	"cmp"
	"slices"
	"time"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

// Role says what a node needs a source for.
type Role uint8

// The roles.
const (
	Watcher Role = iota // for who is attached to the node, and nobody else
	Serving             // also for other nodes of its region, which took it for the gateway
	Detour              // also for nodes of other regions, which took it for a detour
)

// Query asks where Self should pull a source from.
type Query struct {
	Self   mesh.NodeID
	Origin mesh.NodeID
	Source mesh.SourceID
	Role   Role
	Avoid  []mesh.NodeID // nodes that refused to relay this source a moment ago
}

// Kind says what the next hop is.
type Kind uint8

// The kinds.
const (
	Direct     Kind = iota // the origin
	ViaGateway             // the gateway of the own region
	ViaDetour              // a node of a third region
)

// Way is a next hop.
type Way struct {
	From mesh.NodeID
	Kind Kind
	Cost time.Duration // from the origin to here; of the last link alone by a gateway
}

// Best returns the best way now. There always is one: the direct way is taken when nothing is clearly better, even when
// it is down.
func (s *Snapshot) Best(q Query) Way {
	if w, ok := s.byGateway(q); ok {
		return w
	}
	direct := s.direct(q)
	_, measured := s.known(q.Origin, q.Self)
	dead := s.down(q.Origin, q.Self)
	if !measured && !dead {
		return direct // try before judging
	}
	detours := s.detours(q, dead)
	if len(detours) == 0 {
		return direct
	}
	best := slices.MinFunc(detours, func(a, b Way) int {
		return cmp.Or(cmp.Compare(a.Cost, b.Cost), cmp.Compare(weight(q.Source, b.From), weight(q.Source, a.From)))
	})
	if dead || worth(direct.Cost, best.Cost) {
		return best
	}
	return direct
}

func (s *Snapshot) direct(q Query) Way {
	return Way{From: q.Origin, Kind: Direct, Cost: s.cost(q.Origin, q.Self)}
}

// byGateway returns the gateway of the own region where there is one for this query, and it is not the node itself.
func (s *Snapshot) byGateway(q Query) (Way, bool) {
	self, here := s.byID[q.Self]
	if !here || q.Role != Watcher || s.byID[q.Origin].Region == self.Region {
		return Way{}, false
	}
	for _, r := range s.regions {
		if r.name != self.Region {
			continue
		}
		id, ok := gateway(q.Source, r.nodes, func(id mesh.NodeID) bool {
			return !slices.Contains(q.Avoid, id) && !s.down(id, q.Self)
		})
		if ok && id != q.Self {
			return Way{From: id, Kind: ViaGateway, Cost: s.cost(id, q.Self)}, true
		}
	}
	return Way{}, false
}

// detours returns the ways over one node of each region, as far as both their links are known and up. The two regions at
// the ends count when the direct way is dead only: that they are nearer than near is an error of measurement. And the
// nodes of the own region come to a gateway, so it does not go to them.
func (s *Snapshot) detours(q Query, dead bool) []Way {
	if q.Role == Detour {
		return nil
	}
	var ways []Way
	for _, r := range s.regions {
		if here := r.name == s.byID[q.Self].Region; here && q.Role == Serving || (here || r.name == s.byID[q.Origin].Region) && !dead {
			continue
		}
		if slices.ContainsFunc(q.Avoid, func(id mesh.NodeID) bool { return s.byID[id].Region == r.name }) {
			continue // what one node there cannot reach, its neighbours cannot either
		}
		id, ok := gateway(q.Source, r.nodes, func(id mesh.NodeID) bool { return id != q.Self && id != q.Origin })
		if !ok {
			continue
		}
		first, up := s.known(q.Origin, id)
		second, up2 := s.known(id, q.Self)
		if up && up2 {
			ways = append(ways, Way{From: id, Kind: ViaDetour, Cost: first.Cost() + hopCost + second.Cost()})
		}
	}
	return ways
}
