package room

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

// TestRandomOperations applies random operations and checks after each that the effects tell a consistent story: nothing
// attached twice, nothing detached that is not attached, media only of participants that were told of, and the sum of
// all effects equal to what the rules give when computed from scratch.
func TestRandomOperations(t *testing.T) {
	for seed := range uint64(200) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { randomRun(t, rand.New(rand.NewPCG(seed, 1))) })
	}
}

type world struct {
	t        *testing.T
	rng      *rand.Rand
	room     *Room
	attached map[string]bool                                    // subscriber/source
	told     map[mesh.ParticipantID]map[mesh.ParticipantID]bool // local participant → whom it knows
	explicit map[string]bool
	auto     map[mesh.ParticipantID]bool
	next     int
}

func randomRun(t *testing.T, rng *rand.Rand) {
	w := &world{
		t: t, rng: rng, room: New("r"), attached: map[string]bool{}, told: map[mesh.ParticipantID]map[mesh.ParticipantID]bool{},
		explicit: map[string]bool{}, auto: map[mesh.ParticipantID]bool{},
	}
	for range 150 {
		w.step()
		w.check()
	}
	for _, p := range w.room.All() {
		w.apply(w.room.Remove(p.ID, 1))
	}
	require.Empty(t, w.attached, "everything is detached after everyone left")
	require.Empty(t, w.room.publishers)
	require.Empty(t, w.room.subscribed)
}

func (w *world) step() {
	all := w.room.All()
	some := func() mesh.Participant { return all[w.rng.IntN(len(all))].Clone() }
	switch n := w.rng.IntN(10); {
	case n < 2 || len(all) == 0:
		p := w.fresh("n2")
		w.apply(w.room.Upsert(p))
	case n == 2:
		p := w.fresh("n1")
		auto := w.rng.IntN(2) == 0
		effects := w.room.Attach(p, Options{AutoSubscribe: auto})
		w.auto[p.ID] = auto
		w.told[p.ID] = map[mesh.ParticipantID]bool{}
		for _, v := range w.room.Visible(p.ID) {
			w.told[p.ID][v.ID] = true
		}
		w.apply(effects)
	case n == 3:
		w.apply(w.room.Remove(some().ID, 1))
	case n < 6:
		p := some()
		id := mesh.SourceID(fmt.Sprintf("T%d", w.rng.IntN(40)))
		want := w.rng.IntN(2) == 0
		if w.room.IsLocal(p.ID) && w.room.publishers[id] != w.room.byID[p.ID] {
			w.explicit[key(p.ID, id)] = want
		}
		w.apply(w.room.Subscribe(p.ID, []mesh.SourceID{id}, want))
	default:
		p := some()
		p.Version++
		w.mutate(&p)
		w.apply(w.room.Upsert(p))
	}
}

func (w *world) fresh(node mesh.NodeID) mesh.Participant {
	w.next++
	p := mesh.Participant{
		ID: mesh.ParticipantID(fmt.Sprintf("P%d", w.next)), Identity: mesh.Identity(fmt.Sprintf("i%d", w.rng.IntN(8))), Node: node,
		JoinedAt: time.Unix(int64(w.rng.IntN(50)), 0), Version: 1,
	}
	w.mutate(&p)
	return p
}

func (w *world) mutate(p *mesh.Participant) {
	p.State = mesh.ParticipantState(w.rng.IntN(3))
	p.Permission.CanSubscribe = w.rng.IntN(5) > 0
	p.Permission.Hidden = w.rng.IntN(8) == 0
	p.Subscribers = nil
	if w.rng.IntN(4) == 0 {
		p.Subscribers = &mesh.SubscriberACL{Identities: map[mesh.Identity][]mesh.SourceID{
			mesh.Identity(fmt.Sprintf("i%d", w.rng.IntN(8))): nil,
		}}
	}
	p.Sources = nil
	for range w.rng.IntN(3) {
		id := mesh.SourceID(fmt.Sprintf("T%d", w.rng.IntN(40)))
		if _, twice := p.Source(id); !twice {
			p.Sources = append(p.Sources, mesh.Source{ID: id})
		}
	}
}

func (w *world) apply(effects []Effect) {
	for _, e := range effects {
		switch e := e.(type) {
		case Attach:
			k := key(e.Subscriber, e.Source.ID)
			require.False(w.t, w.attached[k], "attached twice: %s", k)
			require.True(w.t, w.told[e.Subscriber][e.Publisher.ID], "%s is attached to %s before it was told", e.Subscriber, e.Publisher.ID)
			w.attached[k] = true
		case Detach:
			k := key(e.Subscriber, e.Source)
			require.True(w.t, w.attached[k], "detached without attach: %s", k)
			delete(w.attached, k)
		case Tell:
			for _, to := range e.To {
				for _, p := range e.Participants {
					w.told[to][p.ID] = p.State != mesh.StateDisconnected
				}
			}
		}
	}
}

// check recomputes from the records and the wishes alone what must be attached.
func (w *world) check() {
	want := map[string]bool{}
	all := w.room.All()
	for _, sub := range w.room.Local() {
		for _, pub := range all {
			if pub.ID == sub.ID || !sub.Permission.CanSubscribe || pub.Permission.Hidden {
				continue
			}
			if pub.Subscribers != nil && !named(pub.Subscribers, sub.Identity) {
				continue
			}
			for _, s := range pub.Sources {
				wish, explicit := w.explicit[key(sub.ID, s.ID)]
				if wish || (!explicit && w.auto[sub.ID]) {
					want[key(sub.ID, s.ID)] = true
				}
			}
		}
	}
	require.Equal(w.t, want, w.attached)
	identities := map[mesh.Identity]bool{}
	for _, p := range all {
		require.False(w.t, identities[p.Identity], "identity twice")
		identities[p.Identity] = true
	}
	for _, p := range w.room.Local() {
		for _, v := range w.room.Visible(p.ID) {
			require.True(w.t, w.told[p.ID][v.ID], "%s sees %s without being told", p.ID, v.ID)
		}
	}
}

func named(acl *mesh.SubscriberACL, identity mesh.Identity) bool {
	_, ok := acl.Identities[identity]
	return ok
}

func key(p mesh.ParticipantID, s mesh.SourceID) string { return string(p) + "/" + string(s) }

func TestWishesAreBounded(t *testing.T) {
	r := New("r")
	r.Attach(mesh.Participant{ID: "a", Identity: "alice", Permission: mesh.Permission{CanSubscribe: true}}, Options{})
	for i := range MaxWishes + 10 {
		require.Empty(t, r.Subscribe("a", []mesh.SourceID{mesh.SourceID(fmt.Sprint(i))}, true))
	}
	require.Len(t, r.byID["a"].wishes, MaxWishes)
	require.Len(t, r.byID["a"].order, MaxWishes)
	require.NotContains(t, r.byID["a"].wishes, mesh.SourceID("0"), "the oldest is forgotten first")
}

func TestRemoteSubscriberIsFirstOnce(t *testing.T) {
	r := New("r")
	r.Attach(mesh.Participant{ID: "a", Identity: "alice", Sources: []mesh.Source{{ID: "T"}}}, Options{})
	require.Equal(t, []Effect{FirstSubscriber{Publisher: "a", Source: "T"}}, r.RemoteSubscriber("T"))
	require.Empty(t, r.RemoteSubscriber("T"))
	require.Empty(t, r.RemoteSubscriber("unknown"))
}

func TestWantedNamesOrigins(t *testing.T) {
	r := New("r")
	r.Attach(mesh.Participant{ID: "a", Identity: "alice", Node: "n1", Permission: mesh.Permission{CanSubscribe: true}, Sources: []mesh.Source{{ID: "L"}}}, Options{AutoSubscribe: true})
	r.Attach(mesh.Participant{ID: "b", Identity: "bob", Node: "n1", Permission: mesh.Permission{CanSubscribe: true}}, Options{AutoSubscribe: true})
	r.Upsert(mesh.Participant{ID: "r", Identity: "rita", Node: "n2", Version: 1, Sources: []mesh.Source{{ID: "R"}}})
	require.Equal(t, map[mesh.SourceID]mesh.NodeID{"R": "n2"}, r.Wanted(), "local sources are not wanted of anyone")
	require.Equal(t, []mesh.NodeID{"n2"}, r.RemoteNodes())
	require.Equal(t, []mesh.ParticipantID{"a", "b"}, r.Subscribers("R"))
	require.Equal(t, []mesh.SourceID{"L", "R"}, r.Subscriptions("b"))
}
