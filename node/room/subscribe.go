package room

import (
	"maps"
	"slices"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

// Subscribe records that a local participant explicitly wants, or does not want, the sources. It wins over automatic
// subscription. A wish for a source that is not known yet is remembered: the track may still be on its way.
func (r *Room) Subscribe(subscriber mesh.ParticipantID, sources []mesh.SourceID, want bool) []Effect {
	m := r.byID[subscriber]
	if m == nil || !m.local {
		return nil
	}
	known := func(id mesh.SourceID) bool { return r.publishers[id] != nil }
	c := changes{}
	for _, id := range sources {
		pub := r.publishers[id]
		switch {
		case pub == m:
			c.late = append(c.late, SubscriptionError{To: subscriber, Source: id})
		case !m.wish(id, want, known):
			c.late = append(c.late, SubscriptionError{To: subscriber, Source: id, Unknown: pub == nil})
		case pub != nil:
			r.reconcileSource(&c, m, pub, id)
		}
	}
	return c.effects()
}

// RemoteSubscriber says that a node elsewhere subscribed to a source of a local participant.
func (r *Room) RemoteSubscriber(source mesh.SourceID) []Effect {
	c := changes{}
	if pub := r.publishers[source]; pub != nil {
		r.first(&c, pub, source)
	}
	return c.effects()
}

// fanOut brings every local participant's subscriptions to pub's sources up to date.
func (r *Room) fanOut(c *changes, pub *member) {
	for _, sub := range r.members {
		r.reconcile(c, sub, pub)
	}
}

func (r *Room) reconcile(c *changes, sub, pub *member) {
	if !sub.local || sub == pub {
		return
	}
	for i := range pub.record.Sources {
		r.reconcileSource(c, sub, pub, pub.record.Sources[i].ID)
	}
}

// reconcileSource compares what is with what should be for one subscriber and one source, and closes the difference.
func (r *Room) reconcileSource(c *changes, sub, pub *member, id mesh.SourceID) {
	wanted := sub.wants(id) && sub.record.Permission.CanSubscribe && !pub.record.Permission.Hidden
	allowed := pub.allows(sub.record.Identity, id)
	if sub.subs[id] && (!wanted || !allowed) {
		c.detach(sub, id)
	}
	permission := func(ok bool) {
		c.permissions = append(c.permissions, SubscriptionPermission{To: sub.record.ID, Publisher: pub.record.ID, Source: id, Allowed: ok})
	}
	switch {
	case !wanted:
		delete(sub.denied, id)
	case !allowed && !sub.denied[id]:
		sub.denied[id] = true
		permission(false)
	case allowed && !sub.subs[id]:
		if sub.denied[id] {
			delete(sub.denied, id)
			permission(true)
		}
		sub.subs[id] = true
		src, _ := pub.record.Source(id)
		c.attaches = append(c.attaches, Attach{Subscriber: sub.record.ID, Publisher: pub.record, Source: *src})
		r.first(c, pub, id)
	}
}

func (r *Room) first(c *changes, pub *member, id mesh.SourceID) {
	if r.subscribed[id] {
		return
	}
	r.subscribed[id] = true
	if pub.local {
		c.late = append(c.late, FirstSubscriber{Publisher: pub.record.ID, Source: id})
	}
}

// reveal decides whether others learn of m's record: it returns the record to tell, or nil.
func (r *Room) reveal(m *member) *mesh.Participant {
	switch show := m.mayBeShown(); {
	case show:
		m.shown = true
		p := m.record
		return &p
	case m.shown: // it hid
		m.shown = false
		return gone(m.record, 0)
	}
	return nil
}

// changes collects the effects of one operation and puts them in order: a source is detached before its end is told,
// and told before it is attached.
type changes struct {
	detaches    []Effect
	tells       []Effect
	permissions []Effect
	attaches    []Effect
	late        []Effect
}

func (c *changes) detach(sub *member, id mesh.SourceID) {
	delete(sub.subs, id)
	c.detaches = append(c.detaches, Detach{Subscriber: sub.record.ID, Source: id})
}

func (c *changes) tell(to []mesh.ParticipantID, p *mesh.Participant) {
	if len(to) > 0 && p != nil {
		c.tells = append(c.tells, Tell{To: to, Participants: []mesh.Participant{*p}})
	}
}

func (c *changes) effects() []Effect {
	return slices.Concat(c.detaches, c.tells, c.permissions, c.attaches, c.late)
}

func (r *Room) others(m *member) []mesh.ParticipantID {
	var ids []mesh.ParticipantID
	for _, o := range r.members {
		if o.local && o != m {
			ids = append(ids, o.record.ID)
		}
	}
	return ids
}

func (r *Room) sortedSubs(m *member) []mesh.SourceID { return slices.Sorted(maps.Keys(m.subs)) }
