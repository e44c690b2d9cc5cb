package directory

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

// TestChaos lets people join, change and leave on four nodes while nodes are killed, restarted and cut off. When all is
// quiet again there must be one owner, and every node must know exactly the participants the others have.
func TestChaos(t *testing.T) {
	for seed := range uint64(40) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			withCluster(t, []mesh.NodeID{"a", "b", "c", "d"}, func(c *cluster) { chaos(t, c, rand.New(rand.NewPCG(seed, 7))) })
		})
	}
}

type site struct {
	handle *Handle
	people map[mesh.ParticipantID]uint32 // version
}

func chaos(t *testing.T, c *cluster, rng *rand.Rand) {
	ids := []mesh.NodeID{"a", "b", "c", "d"}
	sites := map[mesh.NodeID]*site{}
	open := func(n *node) *site {
		h, _ := n.Open(call, mesh.Room{})
		n.begin(h)
		sites[n.id] = &site{handle: h, people: map[mesh.ParticipantID]uint32{}}
		return sites[n.id]
	}
	next := 0
	act := func(n *node) {
		s := sites[n.id]
		if s == nil {
			s = open(n)
		}
		switch k := rng.IntN(6); {
		case k < 2 || len(s.people) == 0:
			next++
			p := n.participant(fmt.Sprintf("p%d", next), 1)
			s.people[p.ID] = 1
			s.handle.Put(p)
		case k == 2:
			for id := range s.people {
				delete(s.people, id)
				s.handle.Remove(id, 1)
				break
			}
		default:
			for id := range s.people {
				s.people[id]++
				s.handle.Put(n.participant(string(id), s.people[id]))
				break
			}
		}
	}
	for range 40 {
		n := c.nodes[ids[rng.IntN(4)]]
		switch k := rng.IntN(20); {
		case k == 0 && !n.dead:
			c.kill(n.id)
			delete(sites, n.id)
		case k == 1:
			i := 1 + rng.IntN(2)
			c.partition(ids[:i], ids[i:])
		case k == 2:
			c.heal()
		case k == 3 && sites[n.id] != nil:
			sites[n.id].handle.Close()
			delete(sites, n.id)
		case n.dead && k < 10:
			c.start(n.id)
		case !n.dead:
			act(n)
		}
		c.pass(time.Duration(rng.IntN(1500)) * time.Millisecond)
	}
	for _, id := range ids {
		if c.nodes[id].dead {
			c.start(id)
		}
	}
	c.heal()
	for _, id := range ids {
		if sites[id] == nil || len(sites[id].people) == 0 {
			act(c.nodes[id])
		}
	}
	c.pass(20 * time.Second)
	require.Len(t, c.owners(), 1)
	for _, id := range ids {
		var others []mesh.ParticipantID
		for other, s := range sites {
			for p := range s.people {
				if other != id {
					others = append(others, p)
					require.Equal(t, s.people[p], c.nodes[id].roster[p].Version, "node %s, participant %s", id, p)
				}
			}
		}
		c.nodes[id].sees(others...)
		require.Empty(t, c.nodes[id].commands, "nobody was evicted")
	}
}
