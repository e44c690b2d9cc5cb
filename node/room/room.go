package room

import (
	"reflect"
	"slices"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

// MaxWishes is how many explicit subscriptions and unsubscriptions are remembered of one participant.
const MaxWishes = 4096

// Options are the wishes a local participant joins with.
type Options struct {
	AutoSubscribe bool // subscribe to every source it may see, unless it says otherwise of a source
}

// Room is a room as this node knows it. It is not safe for concurrent use and never waits. Records that go in and come
// out are shared, not copied: neither side changes one it has handed over.
type Room struct {
	meta       mesh.Room
	members    []*member // in order of arrival
	byID       map[mesh.ParticipantID]*member
	byIdentity map[mesh.Identity]*member
	publishers map[mesh.SourceID]*member // who publishes a source; its record holds it
	subscribed map[mesh.SourceID]bool    // sources that ever had a subscriber, here or told of
}

// New returns an empty room.
func New(name mesh.RoomName) *Room {
	return &Room{
		meta:       mesh.Room{Name: name},
		byID:       make(map[mesh.ParticipantID]*member),
		byIdentity: make(map[mesh.Identity]*member),
		publishers: make(map[mesh.SourceID]*member),
		subscribed: make(map[mesh.SourceID]bool),
	}
}

// Attach adds a participant that joined at this node. It replaces one of the same ID or identity. p itself is not told
// of its own record: it has it from its JoinResponse, as it has Visible.
func (r *Room) Attach(p mesh.Participant, opt Options) []Effect {
	var out []Effect
	if old := r.byID[p.ID]; old != nil {
		out = append(out, r.remove(old, reasonStateMismatch)...)
	}
	if old := r.byIdentity[p.Identity]; old != nil {
		out = append(out, r.remove(old, reasonDuplicateIdentity)...)
	}
	m := r.add(p)
	m.local, m.auto = true, opt.AutoSubscribe
	c := changes{}
	c.tell(r.others(m), r.reveal(m))
	for _, pub := range r.members {
		r.reconcile(&c, m, pub)
	}
	r.fanOut(&c, m)
	return append(out, c.effects()...)
}

// Upsert takes a new record of a participant, local or remote. An unknown ID is a remote participant that joined. A
// record whose Version does not grow, or that an identity's later join has outdated, is ignored. StateDisconnected removes.
// What changed of the connection's quality alone is nobody told here: clients learn that otherwise, of all at once.
func (r *Room) Upsert(p mesh.Participant) []Effect {
	m := r.byID[p.ID]
	switch {
	case p.State == mesh.StateDisconnected:
		return r.Remove(p.ID, p.DisconnectReason)
	case m == nil:
		return r.join(p)
	case p.Version <= m.record.Version || p.Identity != m.record.Identity:
		return nil
	case qualityAlone(m.record, p):
		m.record = p
		return nil
	}
	c := changes{}
	gone := r.replaceRecord(m, p)
	for _, id := range gone {
		r.dropSource(&c, id)
	}
	told := r.reveal(m)
	if m.local {
		c.tell([]mesh.ParticipantID{p.ID}, &m.record)
	}
	c.tell(r.others(m), told)
	r.fanOut(&c, m)
	if m.local {
		for _, pub := range r.members {
			r.reconcile(&c, m, pub)
		}
	}
	return c.effects()
}

// qualityAlone reports whether nothing else is new in a record.
func qualityAlone(before, p mesh.Participant) bool {
	if before.Quality == p.Quality {
		return false
	}
	before.Quality, before.Version = p.Quality, p.Version
	return reflect.DeepEqual(before, p)
}

// Remove takes a participant out. reason is LiveKit's DisconnectReason number. An unknown ID is ignored.
func (r *Room) Remove(id mesh.ParticipantID, reason int32) []Effect {
	m := r.byID[id]
	if m == nil {
		return nil
	}
	return r.remove(m, reason)
}

// SetMeta takes a new record of the room. One that is older than the present one is ignored.
func (r *Room) SetMeta(meta mesh.Room) []Effect {
	if meta.Epoch < r.meta.Epoch || (meta.Epoch == r.meta.Epoch && meta.Version < r.meta.Version) || meta == r.meta {
		return nil
	}
	meta.Name = r.meta.Name
	r.meta = meta
	if to := r.localIDs(); len(to) > 0 {
		return []Effect{RoomChanged{To: to, Room: meta}}
	}
	return nil
}

func (r *Room) join(p mesh.Participant) []Effect {
	var out []Effect
	if old := r.byIdentity[p.Identity]; old != nil {
		if !newer(p, old.record) {
			return nil
		}
		out = r.remove(old, reasonDuplicateIdentity)
	}
	m := r.add(p)
	c := changes{}
	c.tell(r.others(m), r.reveal(m))
	r.fanOut(&c, m)
	return append(out, c.effects()...)
}

func (r *Room) add(p mesh.Participant) *member {
	m := &member{
		wishes: make(map[mesh.SourceID]bool),
		subs:   make(map[mesh.SourceID]bool),
		denied: make(map[mesh.SourceID]bool),
	}
	r.members = append(r.members, m)
	r.byID[p.ID] = m
	r.byIdentity[p.Identity] = m
	r.replaceRecord(m, p)
	return m
}

func (r *Room) remove(m *member, reason int32) []Effect {
	c := changes{}
	for _, src := range r.sortedSubs(m) {
		c.detach(m, src)
	}
	r.members = slices.DeleteFunc(r.members, func(o *member) bool { return o == m })
	delete(r.byID, m.record.ID)
	if r.byIdentity[m.record.Identity] == m {
		delete(r.byIdentity, m.record.Identity)
	}
	for i := range m.record.Sources {
		if id := m.record.Sources[i].ID; r.publishers[id] == m {
			delete(r.publishers, id)
			r.dropSource(&c, id)
		}
	}
	if m.shown {
		c.tell(r.others(m), gone(m.record, reason))
	}
	return c.effects()
}

// replaceRecord stores p and returns the sources that are no longer published. A source that another participant
// publishes already is left out: an ID belongs to whoever had it first.
func (r *Room) replaceRecord(m *member, p mesh.Participant) (dropped []mesh.SourceID) {
	foreign := func(s mesh.Source) bool { o := r.publishers[s.ID]; return o != nil && o != m }
	if slices.ContainsFunc(p.Sources, foreign) {
		p = p.Clone()
		p.Sources = slices.DeleteFunc(p.Sources, foreign)
	}
	for i := range m.record.Sources {
		id := m.record.Sources[i].ID
		if _, still := p.Source(id); !still {
			delete(r.publishers, id)
			dropped = append(dropped, id)
		}
	}
	for i := range p.Sources {
		r.publishers[p.Sources[i].ID] = m
	}
	m.record = p
	return dropped
}

// dropSource ends every subscription to a source that is no longer published.
func (r *Room) dropSource(c *changes, id mesh.SourceID) {
	for _, sub := range r.members {
		if sub.subs[id] {
			c.detach(sub, id)
		}
		delete(sub.denied, id)
	}
	delete(r.subscribed, id)
}

// newer reports whether a is a later join of the same identity than b.
func newer(a, b mesh.Participant) bool {
	if !a.JoinedAt.Equal(b.JoinedAt) {
		return a.JoinedAt.After(b.JoinedAt)
	}
	return a.ID > b.ID
}
