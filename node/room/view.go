package room

import (
	"maps"
	"slices"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

// Meta returns the room's record.
func (r *Room) Meta() mesh.Room { return r.meta }

// Visible returns the participants that subscriber is told of when it joins: all others that were shown, in order of arrival.
func (r *Room) Visible(subscriber mesh.ParticipantID) []mesh.Participant {
	var out []mesh.Participant
	for _, m := range r.members {
		if m.shown && m.record.ID != subscriber {
			out = append(out, m.record)
		}
	}
	return out
}

// Participant returns the record with the given ID.
func (r *Room) Participant(id mesh.ParticipantID) (mesh.Participant, bool) {
	if m := r.byID[id]; m != nil {
		return m.record, true
	}
	return mesh.Participant{}, false
}

// ByIdentity returns the record of the participant that has the identity now.
func (r *Room) ByIdentity(identity mesh.Identity) (mesh.Participant, bool) {
	if m := r.byIdentity[identity]; m != nil {
		return m.record, true
	}
	return mesh.Participant{}, false
}

// IsLocal reports whether the participant is attached to this node.
func (r *Room) IsLocal(id mesh.ParticipantID) bool {
	m := r.byID[id]
	return m != nil && m.local
}

// Local returns the participants attached to this node, in order of arrival.
func (r *Room) Local() []mesh.Participant { return r.filter(func(m *member) bool { return m.local }) }

// All returns every participant, in order of arrival.
func (r *Room) All() []mesh.Participant { return r.filter(func(*member) bool { return true }) }

// Len returns how many participants are in the room, hidden ones included.
func (r *Room) Len() int { return len(r.members) }

// RemoteNodes returns the other nodes that have participants in the room, sorted.
func (r *Room) RemoteNodes() []mesh.NodeID {
	nodes := make(map[mesh.NodeID]bool)
	for _, m := range r.members {
		if !m.local {
			nodes[m.record.Node] = true
		}
	}
	return slices.Sorted(maps.Keys(nodes))
}

// Publisher returns the participant that publishes a source, and the source.
func (r *Room) Publisher(id mesh.SourceID) (mesh.Participant, mesh.Source, bool) {
	m := r.publishers[id]
	if m == nil {
		return mesh.Participant{}, mesh.Source{}, false
	}
	s, _ := m.record.Source(id)
	return m.record, *s, true
}

// Wanted returns the sources of other nodes that somebody here is subscribed to, and the node each comes from.
func (r *Room) Wanted() map[mesh.SourceID]mesh.NodeID {
	wanted := make(map[mesh.SourceID]mesh.NodeID)
	for _, m := range r.members {
		for id := range m.subs {
			if pub := r.publishers[id]; pub != nil && !pub.local {
				wanted[id] = pub.record.Node
			}
		}
	}
	return wanted
}

// Subscribers returns the local participants attached to a source, in order of arrival.
func (r *Room) Subscribers(id mesh.SourceID) []mesh.ParticipantID {
	var ids []mesh.ParticipantID
	for _, m := range r.members {
		if m.subs[id] {
			ids = append(ids, m.record.ID)
		}
	}
	return ids
}

// Subscriptions returns the sources a local participant is attached to, sorted.
func (r *Room) Subscriptions(id mesh.ParticipantID) []mesh.SourceID {
	if m := r.byID[id]; m != nil {
		return r.sortedSubs(m)
	}
	return nil
}

func (r *Room) filter(keep func(*member) bool) []mesh.Participant {
	var out []mesh.Participant
	for _, m := range r.members {
		if keep(m) {
			out = append(out, m.record)
		}
	}
	return out
}

func (r *Room) localIDs() []mesh.ParticipantID { return r.others(nil) }
