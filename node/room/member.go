package room

import (
	"slices"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

// LiveKit DisconnectReason numbers this package gives itself.
const (
	reasonDuplicateIdentity int32 = 2
	reasonStateMismatch     int32 = 6
)

// member is a participant and, when it is attached here, what it subscribes to.
type member struct {
	record mesh.Participant
	local  bool
	auto   bool
	shown  bool                   // others were told of it
	wishes map[mesh.SourceID]bool // explicit: true subscribes, false does not
	order  []mesh.SourceID        // of wishes, oldest first
	subs   map[mesh.SourceID]bool // attached now
	denied map[mesh.SourceID]bool // wished for and told that it is not allowed
}

// wish remembers an explicit (un)subscription. It reports false when there is no room for one more: a wish for a source
// that is not there is forgotten first.
func (m *member) wish(id mesh.SourceID, want bool, known func(mesh.SourceID) bool) bool {
	if _, again := m.wishes[id]; again {
		m.wishes[id] = want
		return true
	}
	if len(m.order) >= MaxWishes {
		i := slices.IndexFunc(m.order, func(o mesh.SourceID) bool { return !known(o) })
		if i < 0 {
			return false
		}
		delete(m.wishes, m.order[i])
		m.order = slices.Delete(m.order, i, i+1)
	}
	m.wishes[id] = want
	m.order = append(m.order, id)
	return true
}

// wants says whether the member wishes for a source, by its own word or automatically.
func (m *member) wants(id mesh.SourceID) bool {
	if want, explicit := m.wishes[id]; explicit {
		return want
	}
	return m.auto
}

// mayBeShown reports whether others may be told of the participant: those that are active or publish, unless hidden.
// Once shown it stays shown until it leaves or hides, so that clients do not see it come and go.
func (m *member) mayBeShown() bool {
	p := &m.record
	return !p.Permission.Hidden && (m.shown || p.State == mesh.StateActive || p.Publisher || len(p.Sources) > 0)
}

// allows reports whether the member, as a publisher, lets id subscribe to source.
func (m *member) allows(identity mesh.Identity, source mesh.SourceID) bool {
	acl := m.record.Subscribers
	if acl == nil {
		return true
	}
	sources, named := acl.Identities[identity]
	return named && (len(sources) == 0 || slices.Contains(sources, source))
}

// gone is the record others are told of when a participant leaves.
func gone(p mesh.Participant, reason int32) *mesh.Participant {
	p.State = mesh.StateDisconnected
	p.DisconnectReason = reason
	p.Sources = nil
	return &p
}
