package route

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

func TestSpare(t *testing.T) {
	known := links{
		"us1 eu1": {RTT: 80 * ms}, "us1 eu2": {RTT: 80 * ms}, "us1 eu3": {RTT: 80 * ms}, "eu1 eu2": {RTT: ms}, "eu1 eu3": {RTT: ms},
		"eu2 eu3": {RTT: ms}, "us1 as1": {RTT: 100 * ms}, "as1 eu1": {RTT: 50 * ms}, "us1 sa1": {RTT: 90 * ms}, "sa1 eu1": {RTT: 55 * ms},
		"us1 us2": {RTT: ms}, "us2 eu1": {RTT: 80 * ms},
	}
	q := Query{Self: "eu1", Origin: "us1"}
	direct := Way{From: "us1", Kind: Direct, Cost: 80 * ms}
	spare := func(q Query, first, current Way, change links, names ...string) (Way, bool) {
		all := links{}
		for k, v := range known {
			all[k] = v
		}
		for k, v := range change {
			all[k] = v
		}
		return NewSnapshot(nodes(names...), all.get).Spare(q, first, current)
	}

	w, ok := spare(q, direct, Way{}, nil, "us1", "us2", "eu1", "as1", "sa1")
	require.True(t, ok)
	require.Equal(t, Way{From: "sa1", Kind: ViaDetour, Cost: 149 * ms}, w, "over a third region, not the origin's")
	require.True(t, Twin(direct, w, false))
	w, _ = spare(q, direct, Way{From: "as1", Kind: ViaDetour}, nil, "us1", "eu1", "as1", "sa1")
	require.Equal(t, mesh.NodeID("as1"), w.From, "not another one for little")
	w, _ = spare(q, direct, Way{From: "as1", Kind: ViaDetour}, links{"us1 as1": {RTT: 200 * ms}}, "us1", "eu1", "as1", "sa1")
	require.Equal(t, mesh.NodeID("sa1"), w.From)
	w, ok = spare(q, direct, Way{}, links{"us1 as1": {RTT: 114 * ms}}, "us1", "eu1", "as1")
	require.True(t, ok && !Twin(direct, w, false) && Twin(direct, w, true), "too far to begin, not to go on")
	_, ok = spare(q, direct, Way{}, links{"us1 as1": {RTT: ms, Down: true}}, "us1", "eu1", "as1")
	require.False(t, ok, "dead as well")
	_, ok = spare(q, direct, Way{}, nil, "us1", "us2", "eu1", "eu2")
	require.False(t, ok, "two regions alone")
	_, ok = spare(Query{Self: "eu1", Origin: "us1", Role: Detour}, direct, Way{}, nil, "us1", "eu1", "as1")
	require.False(t, ok, "a detour takes none")
	_, ok = spare(Query{Self: "us2", Origin: "us1"}, Way{From: "us1", Kind: Direct, Cost: ms}, Way{}, nil, "us1", "us2", "as1")
	require.False(t, ok, "nor does who shares the region")

	names := []string{"us1", "eu1", "eu2", "eu3", "as1"}
	q.Source = "TR_x"
	for i := range 100 { // one whose gateway is another node
		q.Source = mesh.SourceID(string(rune('a' + i)))
		if g, _ := NewSnapshot(nodes(names...), known.get).Gateway(q.Source, "eu"); g == "eu2" {
			break
		}
	}
	gateway := Way{From: "eu2", Kind: ViaGateway, Cost: ms}
	w, ok = spare(q, gateway, Way{}, nil, names...)
	require.True(t, ok)
	require.NotEqual(t, mesh.NodeID("eu2"), w.From)
	if w.Kind == ViaGateway {
		require.Equal(t, mesh.NodeID("eu3"), w.From)
	}
	w, _ = spare(q, gateway, Way{}, nil, "us1", "eu1", "eu2", "as1")
	require.Equal(t, direct, w, "the next gateway would be this node itself")
	require.False(t, Twin(gateway, w, false))
	w, _ = spare(q, gateway, Way{}, links{"us1 eu1": {Down: true}}, "us1", "eu1", "eu2", "as1")
	require.Equal(t, ViaDetour, w.Kind)

	w, _ = spare(q, Way{From: "sa1", Kind: ViaDetour}, Way{}, links{"us1 eu1": {Down: true}}, "us1", "eu1", "as1", "sa1")
	require.Equal(t, mesh.NodeID("as1"), w.From, "the direct way is dead, so another detour")
	w, _ = spare(q, Way{From: "sa1", Kind: ViaDetour}, Way{}, nil, "us1", "eu1", "as1", "sa1")
	require.Equal(t, direct, w)
}

// A link that is up for 8 s and down for 4 s over ten minutes: the route stays on the detour for longer and longer.
func TestFlappingLinkDoesNotTakeTheRouteAlong(t *testing.T) {
	down := false
	all := nodes("us1", "eu1", "as1")
	table := func(from, to mesh.NodeID) (Link, bool) {
		l, ok := links{"us1 eu1": {RTT: 80 * ms}, "us1 as1": {RTT: 100 * ms}, "eu1 as1": {RTT: 50 * ms}}.get(from, to)
		l.Down = down && from != "as1" && to != "as1"
		return l, ok
	}
	q := Query{Self: "eu1", Origin: "us1"}
	var r Route
	changes, onDead := 0, time.Duration(0)
	const step = 100 * ms
	at := time.Duration(0)
	for ; at < 10*time.Minute; at += step {
		down = at%(12*time.Second) >= 8*time.Second
		before := r.From
		r = r.Update(at, NewSnapshot(all, table), q)
		if before != "" && r.From != before {
			changes++
		}
		if down && r.Kind == Direct {
			onDead += step
		}
	}
	require.Zero(t, onDead, "away at once, each time")
	require.LessOrEqual(t, changes, 8, "of 100 there were without a memory")
	down = false
	for end := at + calmAfter + MaxHoldDown; at < end; at += step {
		r = r.Update(at, NewSnapshot(all, table), q)
	}
	require.Equal(t, Direct, r.Kind, "well again for good")
	require.Equal(t, HoldDown, r.holdDown(), "and forgotten")
}
