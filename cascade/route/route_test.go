package route

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

const ms = time.Millisecond

// links is a table of what is known, by "from to"; a way back not named is the same.
type links map[string]Link

func (l links) get(from, to mesh.NodeID) (Link, bool) {
	if k, ok := l[string(from)+" "+string(to)]; ok {
		return k, true
	}
	k, ok := l[string(to)+" "+string(from)]
	return k, ok
}

// nodes named "eu1" stand in region "eu"; with a "-" behind they drain.
func nodes(names ...string) []Node {
	var all []Node
	for _, n := range names {
		draining := n[len(n)-1] == '-'
		if draining {
			n = n[:len(n)-1]
		}
		all = append(all, Node{ID: mesh.NodeID(n), Region: mesh.Region(n[:2]), Draining: draining})
	}
	return all
}

func TestBest(t *testing.T) {
	direct := links{
		"us1 eu1": {RTT: 80 * ms}, "us1 as1": {RTT: 200 * ms}, "eu1 as1": {RTT: 120 * ms}, "eu1 eu2": {RTT: ms}, "us1 eu2": {RTT: 80 * ms},
		"us1 us2": {RTT: ms}, "us2 eu1": {RTT: 80 * ms},
	}
	with := func(change links) links {
		all := links{}
		for k, v := range direct {
			all[k] = v
		}
		for k, v := range change {
			all[k] = v
		}
		return all
	}
	for name, tc := range map[string]struct {
		nodes []Node
		links links
		query Query
		from  mesh.NodeID
		kind  Kind
		cost  time.Duration
	}{
		"direct, nothing being better": {
			nodes("us1", "eu1", "as1"), direct, Query{Self: "eu1", Origin: "us1"}, "us1", Direct, 80 * ms,
		},
		"not over a third region for little": {
			nodes("us1", "eu1", "as1"), with(links{"us1 as1": {RTT: 235 * ms}}), Query{Self: "as1", Origin: "us1"}, "us1", Direct, 235 * ms,
		},
		"over a third region when that is cheaper": {
			nodes("us1", "eu1", "as1"), with(links{"us1 as1": {RTT: 300 * ms}}), Query{Self: "as1", Origin: "us1"}, "eu1", ViaDetour, 204 * ms,
		},
		"loss makes a link dear": {
			nodes("us1", "eu1", "as1"), with(links{"us1 as1": {RTT: 200 * ms, Loss: 0.05}}), Query{Self: "as1", Origin: "us1"}, "eu1", ViaDetour, 204 * ms,
		},
		"so does jitter": {
			nodes("us1", "eu1", "as1"), with(links{"us1 as1": {RTT: 200 * ms, Jitter: 12 * ms}}), Query{Self: "as1", Origin: "us1"}, "eu1", ViaDetour, 204 * ms,
		},
		"loss counts in the direction of the media": {
			nodes("us1", "eu1", "as1"), with(links{"us1 as1": {RTT: 200 * ms}, "as1 us1": {RTT: 200 * ms, Loss: 0.5}}),
			Query{Self: "as1", Origin: "us1"},
			"us1", Direct, 200 * ms,
		},
		"over a third region when the direct link is dead": {
			nodes("us1", "eu1", "as1"), with(links{"us1 eu1": {Down: true}}), Query{Self: "eu1", Origin: "us1"}, "as1", ViaDetour, 324 * ms,
		},
		"a dead link is not part of a detour": {
			nodes("us1", "eu1", "as1"), with(links{"us1 eu1": {Down: true}, "us1 as1": {RTT: 1, Down: true}}), Query{Self: "eu1", Origin: "us1"}, "us1", Direct, unknownCost,
		},
		"nor one that was not measured for long": {
			nodes("us1", "eu1", "as1"), with(links{"us1 eu1": {Down: true}, "us1 as1": {RTT: 200 * ms, Age: MaxAge + 1}}), Query{Self: "eu1", Origin: "us1"}, "us1", Direct, unknownCost,
		},
		"nor one nobody knows": {
			nodes("us1", "eu1", "as1"), links{"us1 eu1": {Down: true}}, Query{Self: "eu1", Origin: "us1"}, "us1", Direct, unknownCost,
		},
		"a draining node is no detour": {
			nodes("us1", "eu1-", "as1"), with(links{"us1 as1": {Down: true}}), Query{Self: "as1", Origin: "us1"}, "us1", Direct, unknownCost,
		},
		"who refused is no detour": {
			nodes("us1", "eu1", "as1"), with(links{"us1 as1": {Down: true}}), Query{Self: "as1", Origin: "us1", Avoid: []mesh.NodeID{"eu1"}}, "us1", Direct, unknownCost,
		},
		"a detour takes no detour": {
			nodes("us1", "eu1", "as1"), with(links{"us1 as1": {Down: true}}), Query{Self: "as1", Origin: "us1", Role: Detour}, "us1", Direct, unknownCost,
		},
		"a gateway does not pull from those who come to it": {
			nodes("us1", "eu1", "eu2"), with(links{"us1 eu1": {RTT: 200 * ms}}), Query{Self: "eu1", Origin: "us1", Role: Serving}, "us1", Direct, 200 * ms,
		},
		"not even when the direct link is dead": {
			nodes("us1", "eu1", "eu2"), with(links{"us1 eu1": {Down: true}}), Query{Self: "eu1", Origin: "us1", Role: Serving}, "us1", Direct, unknownCost,
		},
		"nobody is nearer over a neighbour of the origin": {
			nodes("us1", "us2", "eu1"), with(links{"us1 eu1": {RTT: 200 * ms}}), Query{Self: "eu1", Origin: "us1"}, "us1", Direct, 200 * ms,
		},
		"inside a region straight": {
			nodes("us1", "us2", "eu1"), direct, Query{Self: "us2", Origin: "us1"}, "us1", Direct, ms,
		},
		"inside a region around a dead link": {
			nodes("us1", "us2", "eu1"), with(links{"us1 us2": {Down: true}}), Query{Self: "us2", Origin: "us1"}, "eu1", ViaDetour, 164 * ms,
		},
		"a direct link nobody measured yet": {
			nodes("us1", "eu1", "as1"), links{"us1 as1": {}, "us1 eu1": {RTT: ms}, "eu1 as1": {RTT: ms}}, Query{Self: "as1", Origin: "us1"}, "us1", Direct, unknownCost,
		},
		"an origin that is not known": {
			nodes("eu1"), nil, Query{Self: "eu1", Origin: "us1"}, "us1", Direct, unknownCost,
		},
		"not known oneself": {
			nodes("us1"), nil, Query{Self: "eu1", Origin: "us1"}, "us1", Direct, unknownCost,
		},
	} {
		t.Run(name, func(t *testing.T) {
			tc.query.Source = "TR_1"
			require.Equal(t, Way{tc.from, tc.kind, tc.cost}, NewSnapshot(tc.nodes, tc.links.get).Best(tc.query))
		})
	}
}

// Every node of a region finds the same gateway, and only what must move moves.
func TestGateways(t *testing.T) {
	names := []string{"us1"}
	for i := range 50 {
		names = append(names, fmt.Sprintf("eu%d", i))
	}
	all := nodes(names...)
	known := func(mesh.NodeID, mesh.NodeID) (Link, bool) { return Link{RTT: ms}, true }
	s := NewSnapshot(all, known)
	smaller := NewSnapshot(all[:50], known) // without eu49
	load := map[mesh.NodeID]int{}
	for i := range 2000 {
		source := mesh.SourceID(fmt.Sprintf("TR_%d", i))
		g, ok := s.Gateway(source, "eu")
		require.True(t, ok)
		load[g]++
		for _, n := range all[1:] {
			w := s.Best(Query{Self: n.ID, Origin: "us1", Source: source})
			if n.ID == g {
				require.Equal(t, Way{"us1", Direct, ms}, w)
			} else {
				require.Equal(t, Way{g, ViaGateway, ms}, w)
			}
			if i > 20 {
				break
			}
		}
		if after, _ := smaller.Gateway(source, "eu"); g != "eu49" {
			require.Equal(t, g, after)
		}
		second, _ := s.Gateway(source, "eu", g)
		require.NotEqual(t, g, second)
		asked := s.Best(Query{Self: second, Origin: "us1", Source: source, Role: Serving})
		require.Equal(t, Direct, asked.Kind, "who is taken for a gateway is one")
	}
	for id, n := range load {
		require.InDelta(t, 40, n, 30, "%s is the gateway of many", id)
	}
	require.Len(t, load, 50)
	_, ok := s.Gateway("TR_1", "as")
	require.False(t, ok)
}

func TestGatewayLeaves(t *testing.T) {
	known := links{"us1 eu1": {RTT: 80 * ms}, "us1 eu2": {RTT: 80 * ms}, "eu1 eu2": {RTT: ms}}
	s := NewSnapshot(nodes("us1", "eu1", "eu2"), known.get)
	g, _ := s.Gateway("TR_1", "eu")
	other := map[mesh.NodeID]mesh.NodeID{"eu1": "eu2", "eu2": "eu1"}[g]
	q := Query{Self: other, Origin: "us1", Source: "TR_1"}
	r := Route{}.Update(0, s, q)
	require.Equal(t, g, r.From)
	for name, s := range map[string]*Snapshot{
		"gone":      NewSnapshot(nodes("us1", string(other)), known.get),
		"draining":  NewSnapshot(nodes("us1", string(other), string(g)+"-"), known.get),
		"link dead": NewSnapshot(nodes("us1", "eu1", "eu2"), links{"us1 eu1": {RTT: 80 * ms}, "us1 eu2": {RTT: 80 * ms}, "eu1 eu2": {Down: true}}.get),
	} {
		moved := r.Update(1, s, q)
		require.Equal(t, mesh.NodeID("us1"), moved.From, name)
		require.Equal(t, g, moved.Update(2, NewSnapshot(nodes("us1", "eu1", "eu2"), known.get), q).From, "back at once")
	}
	q.Avoid = []mesh.NodeID{g}
	require.Equal(t, mesh.NodeID("us1"), r.Update(1, s, q).From)
}

func TestHysteresis(t *testing.T) {
	rtt := links{"us1 eu1": {RTT: 80 * ms}, "us1 as1": {RTT: 180 * ms}, "eu1 as1": {RTT: 100 * ms}}
	s := NewSnapshot(nodes("us1", "eu1", "as1"), rtt.get)
	q := Query{Self: "as1", Origin: "us1", Source: "TR_1"}
	at := func(direct time.Duration) { rtt["us1 as1"] = Link{RTT: direct} }

	r := Route{}.Update(0, s, q)
	require.Equal(t, mesh.NodeID("us1"), r.From)
	at(216 * ms) // the detour costs 184: better by 32 ms, and just under 15 %
	for now := range 20 * time.Second / time.Second {
		r = r.Update(now*time.Second, s, q)
		require.Equal(t, Direct, r.Kind)
	}
	at(220 * ms)
	r = r.Update(20*time.Second, s, q)
	r = r.Update(22*time.Second, s, q)
	require.Equal(t, Direct, r.Kind, "not for long enough")
	at(190 * ms)
	r = r.Update(22500*ms, s, q)
	at(220 * ms)
	r = r.Update(22600*ms, s, q)
	r = r.Update(24*time.Second, s, q)
	require.Equal(t, Direct, r.Kind, "the wait began anew")
	r = r.Update(25600*ms, s, q)
	require.Equal(t, Way{"eu1", ViaDetour, 184 * ms}, r.Way)

	at(185 * ms)
	for now := range 10 * time.Second / time.Second {
		r = r.Update(30*time.Second+now*time.Second, s, q)
		require.Equal(t, ViaDetour, r.Kind)
	}
	at(184 * ms)
	home := r.Update(40*time.Second, s, q)
	require.Equal(t, ViaDetour, home.Kind)
	require.Equal(t, Direct, home.Update(43*time.Second, s, q).Kind, "as good again, and a copy less")
	rtt["eu1 as1"] = Link{Down: true}
	r = r.Update(50*time.Second, s, q)
	require.Equal(t, Direct, r.Kind, "a dead way is left at once")
	rtt["us1 as1"], rtt["eu1 as1"] = Link{Down: true}, Link{RTT: 100 * ms}
	require.Equal(t, ViaDetour, r.Update(51*time.Second, s, q).Kind)
}

func TestSmallGainOfAShortLink(t *testing.T) {
	require.False(t, worth(20*ms, 11*ms), "less than 10 ms")
	require.False(t, worth(200*ms, 171*ms), "less than 15 %")
	require.True(t, worth(200*ms, 170*ms))
}
