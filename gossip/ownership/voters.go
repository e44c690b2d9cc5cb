package ownership

import (
	"cmp"
	"slices"
	"time"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

// maxVoters bounds the Raft group: more voters make commits slower and hardly safer.
const maxVoters = 5

// server is one member of the Raft configuration as the leader sees it.
type server struct {
	id       mesh.NodeID
	region   mesh.Region   // last known; empty when never seen
	voter    bool          // else it is staged: it gets the log and has no vote
	caughtUp bool          // staged only: it has the log
	gone     time.Duration // how long it has been missing; 0 while it is live
	draining bool
}

// candidate is one live member of the mesh that knows the group.
type candidate struct {
	id       mesh.NodeID
	region   mesh.Region
	draining bool
}

// choice is all that the choice of voters hangs on.
type choice struct {
	self         mesh.NodeID // the leader
	servers      []server
	live         []candidate
	replaceAfter time.Duration // how long a voter may be gone and keep its seat
}

// stepKind says what is to be done next.
type stepKind uint8

const (
	stepNone     stepKind = iota
	stepStage             // give a node the log, without a vote
	stepPromote           // give a staged node its vote
	stepRemove            // take a server out of the configuration
	stepTransfer          // hand leadership to a node that stays
)

// step is one change of the Raft configuration.
type step struct {
	kind stepKind
	node mesh.NodeID
}

// chooseVoters returns the next single step from the servers there are to those there should be, or stepNone.
//
// There should be one voter in each region, five of them when five regions stand and else three, filled up from regions
// with several nodes when there are fewer regions than seats. A mesh of two nodes keeps one voter: two would be lost
// with either. Voters that serve keep their seats; a voter that is gone keeps its seat for replaceAfter, and longer when
// nobody can take it and taking it away would not make the group safer.
func chooseVoters(c choice) step {
	target := c.target()
	var voters, staged []server
	for _, s := range c.servers {
		if s.voter {
			voters = append(voters, s)
		} else {
			staged = append(staged, s)
		}
	}
	inTarget := func(id mesh.NodeID) bool { return slices.Contains(target, id) }

	for _, s := range staged { // a staged server that is gone or not wanted any more has nothing to lose
		if s.gone > 0 || !inTarget(s.id) {
			return step{stepRemove, s.id}
		}
	}
	allReady := true
	var promotable []mesh.NodeID
	for _, id := range target {
		i := slices.IndexFunc(c.servers, func(s server) bool { return s.id == id })
		switch {
		case i < 0:
			return step{stepStage, id}
		case c.servers[i].voter:
		case c.servers[i].caughtUp:
			promotable = append(promotable, id)
		default:
			allReady = false
		}
	}
	if !allReady {
		return step{} // promoted together, so that an even number of voters does not last
	}
	return c.move(voters, promotable, target)
}

// move promotes and removes voters in the order that never leaves fewer live ones than needed.
func (c choice) move(voters []server, promotable, target []mesh.NodeID) step {
	var surplus []server
	goneSurplus := 0
	for _, v := range voters {
		if !slices.Contains(target, v.id) {
			surplus = append(surplus, v)
			if v.gone > 0 {
				goneSurplus++
			}
		}
	}
	promote := step{}
	if len(promotable) > 0 {
		promote = step{stepPromote, promotable[0]}
	}
	if len(surplus) == 0 {
		return promote
	}
	if len(promotable) > 0 && goneSurplus == 0 && len(voters) < maxVoters {
		return promote // the live one leaves when its successor votes
	}
	if len(promotable) == 0 && len(target)%2 == 0 && len(surplus) == 1 && goneSurplus == 1 {
		return step{} // nobody takes the seat: without it the group would survive no more failures than with it
	}
	// The gone leave first, the leader last.
	slices.SortStableFunc(surplus, func(a, b server) int {
		return cmp.Or(
			cmp.Compare(b.gone, a.gone),
			compareBool(a.id == c.self, b.id == c.self),
			cmp.Compare(a.id, b.id))
	})
	out := surplus[0]
	if out.id != c.self {
		return step{stepRemove, out.id}
	}
	for _, v := range voters {
		if v.id != c.self && v.gone == 0 && slices.Contains(target, v.id) {
			return step{stepTransfer, v.id}
		}
	}
	return promote
}

// seat is one node that could vote, with how much it is preferred: lower is better.
type seat struct {
	id     mesh.NodeID
	region mesh.Region
	rank   int
}

// target returns who should vote, in order of preference.
func (c choice) target() []mesh.NodeID {
	seats, liveVoters := c.seats()
	regions := make(map[mesh.Region]int)
	for _, s := range seats {
		regions[s.region]++
	}
	size := min(oddFloor(len(seats)), 3)
	if len(regions) >= maxVoters {
		size = maxVoters
	}
	if liveVoters <= 3 {
		size = max(size, liveVoters) // voters that serve are not sent away for a smaller group
	}
	size = min(size, len(seats))

	var target []mesh.NodeID
	taken := make(map[mesh.Region]int)
	for level := 0; len(target) < size; level++ { // first one per region, then a second, …
		for _, s := range seats {
			if len(target) < size && taken[s.region] == level && !slices.Contains(target, s.id) {
				target = append(target, s.id)
				taken[s.region]++
			}
		}
	}
	return target
}

// seats returns everyone who could vote, best first, and how many live voters there are.
func (c choice) seats() (seats []seat, liveVoters int) {
	known := make(map[mesh.NodeID]bool)
	for _, s := range c.servers {
		known[s.id] = true
		region := s.region
		if region == "" {
			region = mesh.Region("?" + s.id) // never seen: as good as a region of its own
		}
		var rank int
		switch {
		case s.voter && s.gone >= c.replaceAfter && s.gone > 0, !s.voter && s.gone > 0:
			continue
		case s.draining:
			rank = 4
		case s.id == c.self:
			rank = 0
		case s.voter:
			rank = 1
		default:
			rank = 2
		}
		if s.voter && s.gone == 0 {
			liveVoters++
		}
		seats = append(seats, seat{s.id, region, rank})
	}
	for _, m := range c.live {
		if !known[m.id] && !m.draining {
			seats = append(seats, seat{m.id, m.region, 3})
		}
	}
	slices.SortFunc(seats, func(a, b seat) int {
		return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.id, b.id))
	})
	return seats, liveVoters
}

func oddFloor(n int) int {
	if n <= 0 {
		return 0
	}
	return n - 1 + n%2
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

func (k stepKind) String() string {
	return [...]string{"none", "stage", "promote", "remove", "transfer"}[k]
}
