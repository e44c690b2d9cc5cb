package route

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

const (
	simNodes   = 100 // of each region
	simSources = 10
	simRounds  = 4
	simCut     = 12 // pairs of regions between which nothing passes
	simBad     = 40 // pairs with three times the delay and 2 % loss: of 435, or what a node does not know makes no difference
	simDead    = 30 // nodes
)

// world is the mesh as it is. A node stands in region index/simNodes.
type world struct {
	rng   *rand.Rand
	ids   []mesh.NodeID
	index map[mesh.NodeID]int
	rtt   [30][30]time.Duration
	cut   map[[2]int]bool
	bad   map[[2]int]bool
	dead  map[int]bool
}

func newWorld(seed uint64) *world {
	w := &world{rng: rand.New(rand.NewPCG(seed, 1)), index: map[mesh.NodeID]int{}}
	for a := range metros {
		w.rtt[a][a] = ms
		for b := range a {
			w.rtt[a][b], w.rtt[b][a] = published[a][b], published[a][b]
		}
		for i := range simNodes {
			id := mesh.NodeID(fmt.Sprintf("%s-%d", metros[a], i))
			w.index[id] = len(w.ids)
			w.ids = append(w.ids, id)
		}
	}
	w.heal()
	return w
}

func (w *world) heal() {
	w.cut, w.bad, w.dead = map[[2]int]bool{}, map[[2]int]bool{}, map[int]bool{}
}

func (w *world) pair() [2]int {
	a, b := w.rng.IntN(len(metros)), w.rng.IntN(len(metros)-1)
	if b >= a {
		b++
	}
	return [2]int{min(a, b), max(a, b)}
}

func (w *world) fail() {
	w.heal()
	for range simCut {
		w.cut[w.pair()] = true
	}
	for range simBad {
		w.bad[w.pair()] = true
	}
	for range simDead {
		w.dead[w.rng.IntN(len(w.ids))] = true
	}
}

// regional is what is true between two regions.
func (w *world) regional(a, b int) Link {
	key := [2]int{min(a, b), max(a, b)}
	l := Link{RTT: w.rtt[a][b], Down: w.cut[key]}
	if w.bad[key] {
		l.RTT *= 3
		l.Loss = 0.02
	}
	return l
}

func (w *world) link(from, to mesh.NodeID) (Link, bool) {
	a, b := w.index[from], w.index[to]
	l := w.regional(a/simNodes, b/simNodes)
	l.Down = l.Down || w.dead[a] || w.dead[b]
	return l, true
}

// knows is what one node knows: its own links, and of others the delay when all was well.
func (w *world) knows(self mesh.NodeID) func(from, to mesh.NodeID) (Link, bool) {
	return func(from, to mesh.NodeID) (Link, bool) {
		if from == self || to == self {
			return w.link(from, to)
		}
		return Link{RTT: w.rtt[w.index[from]/simNodes][w.index[to]/simNodes]}, true
	}
}

func (w *world) alive() []Node {
	var all []Node
	for i, id := range w.ids {
		if !w.dead[i] {
			all = append(all, Node{ID: id, Region: metros[i/simNodes]})
		}
	}
	return all
}

// decision names what a node decided about one source.
type decision struct {
	self  mesh.NodeID
	role  Role
	tries int
}

// resolve follows the decisions of each node on the way. A detour whose link to the origin is dead refuses, and is
// avoided.
func (w *world) resolve(view func(mesh.NodeID) *Snapshot, known map[decision]Way, q Query) []mesh.NodeID {
	hops := []mesh.NodeID{q.Self}
	for len(hops) <= 4 {
		key := decision{q.Self, q.Role, len(q.Avoid)}
		best, ok := known[key]
		if !ok {
			best = view(q.Self).Best(q)
			known[key] = best
		}
		if l, _ := w.link(best.From, q.Self); l.Down {
			return nil
		}
		if best.Kind == ViaDetour {
			if l, _ := w.link(q.Origin, best.From); l.Down {
				q.Avoid = append(q.Avoid, best.From)
				if len(q.Avoid) > len(metros) {
					return nil
				}
				continue
			}
		}
		hops = append(hops, best.From)
		switch best.Kind {
		case Direct:
			return hops
		case ViaGateway:
			q.Role = Serving
		case ViaDetour:
			q.Role = Detour
		}
		q.Self, q.Avoid = best.From, nil
	}
	return nil
}

// optimum is the least cost between two regions over any number of others.
func (w *world) optimum(from int) []time.Duration {
	dist := make([]time.Duration, len(metros))
	done := make([]bool, len(metros))
	for i := range dist {
		dist[i] = math.MaxInt64
	}
	dist[from] = 0
	for range metros {
		at := -1
		for i := range dist {
			if !done[i] && (at < 0 || dist[i] < dist[at]) {
				at = i
			}
		}
		done[at] = true
		for to := range dist {
			if l := w.regional(at, to); at != to && !l.Down && dist[at] != math.MaxInt64 {
				dist[to] = min(dist[to], dist[at]+l.Cost()+hopCost)
			}
		}
	}
	return dist
}

// tally is what a simulation counts.
type tally struct {
	stretch, overBest []float64
	detoured, pulls   int
	unreached         int
	copies            map[int]int // copies of one source over one pair of regions → how often
	ocean             int
}

func (t *tally) row(name, churn string) string {
	slices.Sort(t.stretch)
	slices.Sort(t.overBest)
	q := quantile
	most := 0
	crossings, pairs := 0, 0
	for n, times := range t.copies {
		most = max(most, n)
		crossings += n * times
		pairs += times
	}
	return fmt.Sprintf("%-26s %5.2f %5.2f %5.2f   %5.2f %5.2f   %5.3f %3d %9.1f   %5.2f%% %6.3f%%  %s", name,
		q(t.stretch, .5), q(t.stretch, .99), q(t.stretch, 1), q(t.overBest, .5), q(t.overBest, .99),
		float64(crossings)/float64(pairs), most, float64(t.ocean)/float64(t.pulls)*float64(len(metros)*simNodes),
		100*float64(t.detoured)/float64(t.pulls), 100*float64(t.unreached)/float64(t.pulls+t.unreached), churn)
}

// quantile of what is sorted.
func quantile(v []float64, p float64) float64 { return v[min(int(p*float64(len(v))), len(v)-1)] }

// watch lets every node watch every source and returns each pull's next hop, by source and node.
func (w *world) watch(t *tally, view func(mesh.NodeID) *Snapshot, origins []int) map[[2]int]mesh.NodeID {
	next := map[[2]int]mesh.NodeID{}
	for s, origin := range origins {
		source := mesh.SourceID(fmt.Sprintf("TR_%d", s))
		best := w.optimum(origin / simNodes)
		known := map[decision]Way{}
		crossed := map[[2]mesh.NodeID]bool{} // links the source passes, each once
		for i, id := range w.ids {
			if w.dead[i] || w.dead[origin] || i == origin {
				continue
			}
			hops := w.resolve(view, known, Query{Self: id, Origin: w.ids[origin], Source: source})
			if hops == nil {
				t.unreached++
				continue
			}
			t.pulls++
			next[[2]int{s, i}] = hops[1]
			var rtt, cost time.Duration
			across := 0
			for h := range len(hops) - 1 {
				l, _ := w.link(hops[h+1], hops[h])
				rtt += l.RTT
				cost += l.Cost() + hopCost
				crossed[[2]mesh.NodeID{hops[h+1], hops[h]}] = true
				if w.index[hops[h]]/simNodes != w.index[hops[h+1]]/simNodes {
					across++
				}
			}
			if i/simNodes == origin/simNodes {
				continue
			}
			if across > 1 {
				t.detoured++
			}
			t.stretch = append(t.stretch, float64(rtt)/float64(w.rtt[origin/simNodes][i/simNodes]))
			t.overBest = append(t.overBest, float64(cost)/float64(best[i/simNodes]))
		}
		pairs := map[[2]int]int{}
		for c := range crossed {
			if a, b := w.index[c[0]]/simNodes, w.index[c[1]]/simNodes; a != b {
				pairs[[2]int{a, b}]++
				t.ocean++
			}
		}
		for _, n := range pairs {
			t.copies[n]++
		}
	}
	return next
}

// TestSimulation watches sources from 30 regions of 100 nodes each through failures, once with every node knowing all
// links and once with what a node knows: its own links, and estimates of the others.
func TestSimulation(t *testing.T) {
	table := []string{
		"                           path RTT over       cost over      copies on a link  copies  detoured  no       next hops changed by",
		"                           direct, all well    best possible  where any         over    pulls     way      failures (and by how",
		"                             p50   p99   max     p50   p99    mean max          oceans                     many it had to be)",
	}
	rounds := simRounds
	if testing.Short() {
		rounds = 2
	}
	for _, mode := range []string{"all links known", "own links and estimates"} {
		w := newWorld(7)
		origins := make([]int, simSources)
		for s := range origins {
			origins[s] = w.rng.IntN(len(w.ids))
		}
		view := func() func(mesh.NodeID) *Snapshot {
			s := NewSnapshot(w.alive(), w.link)
			if mode == "all links known" {
				return func(mesh.NodeID) *Snapshot { return s }
			}
			return func(self mesh.NodeID) *Snapshot {
				own := *s
				own.link = w.knows(self)
				return &own
			}
		}
		calm := &tally{copies: map[int]int{}}
		before := w.watch(calm, view(), origins)
		require.Zero(t, calm.unreached)
		require.Equal(t, map[int]int{1: calm.copies[1]}, calm.copies, "a region costs one copy")
		table = append(table, calm.row("all well", ""))
		require.Less(t, quantile(calm.stretch, .99), 1.12)

		stormy := &tally{copies: map[int]int{}}
		changed, must, of := 0, 0, 0
		for range rounds {
			w.fail()
			after := w.watch(stormy, view(), origins)
			for key, from := range before {
				to, still := after[key]
				if !still {
					continue
				}
				of++
				if l, _ := w.link(from, w.ids[key[1]]); l.Down || l.Loss > 0 {
					must++
				}
				if to != from {
					changed++
				}
			}
		}
		churn := fmt.Sprintf("%.2f%% (%.2f%%)", 100*float64(changed)/float64(of), 100*float64(must)/float64(of))
		table = append(table, stormy.row(mode, churn))
		require.Less(t, quantile(stormy.stretch, .99), 1.5, "though a tenth of the pairs have three times the delay")
		require.Less(t, quantile(stormy.overBest, .99), 1.4)
		require.LessOrEqual(t, slices.MaxFunc(keys(stormy.copies), cmp.Compare[int]), 3)
		require.Less(t, float64(stormy.unreached), 0.001*float64(stormy.pulls))
		require.Less(t, float64(changed), 1.5*float64(must)+0.01*float64(of))
	}
	t.Log("\n" + strings.Join(table, "\n"))
}

func keys(m map[int]int) []int {
	var all []int
	for k := range m {
		all = append(all, k)
	}
	return all
}

func BenchmarkBest(b *testing.B) {
	w := newWorld(1)
	s := NewSnapshot(w.alive(), w.link)
	gateway, _ := s.Gateway("TR_1", "japaneast")
	for name, self := range map[string]mesh.NodeID{"gateway": gateway, "member": "japaneast-1"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for range b.N {
				s.Best(Query{Self: self, Origin: "eastus-3", Source: "TR_1"})
			}
		})
	}
}
