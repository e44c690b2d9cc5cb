package upstream

import (
	"sync"
	"time"

	"github.com/meridian-sfu/meridian/cascade/route"
	"github.com/meridian-sfu/meridian/internal/mesh"
)

// unreachableAfter is how long a link that is needed may take to come up before its node counts as out of reach: a
// handshake over the longest way, with a lost packet.
const unreachableAfter = 2 * time.Second

// linkState is what this node knows of the ways between nodes: its own links as measured, those of the nodes it has links
// to as they say, all others as the network coordinates put them.
type linkState struct {
	r *Router

	mu      sync.Mutex
	waiting map[mesh.NodeID]time.Time // guarded by mu; since when a needed link is not there
	suspect map[mesh.NodeID]func()    // guarded by mu; nodes out of reach of this one, and what lets go of the link tried
}

func newLinkState(r *Router) *linkState {
	return &linkState{r: r, waiting: map[mesh.NodeID]time.Time{}, suspect: map[mesh.NodeID]func(){}}
}

// need looks at the nodes media is pulled from. One whose link died is out of reach until a link to it is up again,
// which is tried all the while. It reports whether there are new ones.
func (s *linkState) need(from map[mesh.NodeID]bool, now time.Time) (news bool) {
	for id := range from {
		alive, known := s.r.cascade.Alive(id)
		s.mu.Lock()
		since, waits := s.waiting[id]
		lost := known && !alive
		switch {
		case alive:
			delete(s.waiting, id)
		case !waits && !known:
			s.waiting[id] = now
		case !known:
			lost = now.Sub(since) >= unreachableAfter
		}
		_, already := s.suspect[id]
		s.mu.Unlock()
		if lost && !already {
			release := s.r.cascade.Keep(id)
			s.mu.Lock()
			s.suspect[id] = release
			s.mu.Unlock()
			news = true
		}
	}
	return news
}

// forgive takes back the suspicion against nodes that are in reach again, or gone for good, and reports whether there
// were any.
func (s *linkState) forgive(needed map[mesh.NodeID]bool) (news bool) {
	s.mu.Lock()
	suspects := make([]mesh.NodeID, 0, len(s.suspect))
	for id := range s.suspect {
		suspects = append(suspects, id)
	}
	for id := range s.waiting {
		if !needed[id] {
			delete(s.waiting, id)
		}
	}
	s.mu.Unlock()
	for _, id := range suspects {
		alive, known := s.r.cascade.Alive(id)
		if _, member := s.r.deps.RegionOf(id); member && (!known || !alive) {
			continue
		}
		s.mu.Lock()
		release := s.suspect[id]
		delete(s.suspect, id)
		s.mu.Unlock()
		release()
		news = true
	}
	return news
}

func (s *linkState) outOfReach(id mesh.NodeID) bool {
	s.mu.Lock()
	_, suspect := s.suspect[id]
	s.mu.Unlock()
	alive, known := s.r.cascade.Alive(id)
	return suspect || (known && !alive)
}

// snapshot is the mesh as this node knows it now.
func (s *linkState) snapshot() *route.Snapshot {
	self := s.r.deps.Self
	own := map[mesh.NodeID]route.Link{}
	for _, l := range s.r.cascade.Links() {
		own[l.Peer] = route.Link{RTT: l.RTT, Jitter: l.Jitter, Loss: l.LossIn, Down: s.outOfReach(l.Peer), Age: l.Age}
	}
	told := map[[2]mesh.NodeID]route.Link{}
	for _, l := range s.r.cascade.Legs() {
		in := route.Link{RTT: l.RTT, Jitter: l.Jitter, Loss: l.LossIn, Down: l.Down, Age: l.Age}
		out := in
		out.Loss = l.LossOut
		tell(told, l.To, l.From, in)
		tell(told, l.From, l.To, out)
	}
	return route.NewSnapshot(s.r.deps.Members(), func(from, to mesh.NodeID) (route.Link, bool) {
		var link route.Link
		switch {
		case from == self:
			link = own[to]
		case to == self:
			link = own[from]
		default:
			link = told[[2]mesh.NodeID{from, to}]
		}
		if link.RTT == 0 && !link.Down {
			link = route.Link{}
			link.RTT, _ = s.r.deps.Distance(from, to)
		}
		return link, link.RTT > 0 || link.Down
	})
}

// tell notes what is said of a link. Where both ends say something the worse counts.
func tell(all map[[2]mesh.NodeID]route.Link, from, to mesh.NodeID, l route.Link) {
	key := [2]mesh.NodeID{from, to}
	if l.Age > route.MaxAge {
		return
	}
	if before, ok := all[key]; ok {
		l.Down = l.Down || before.Down
		l.Loss, l.RTT, l.Jitter = max(l.Loss, before.Loss), max(l.RTT, before.RTT), max(l.Jitter, before.Jitter)
	}
	all[key] = l
}
