package directory

import (
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

func (n *node) RoomChanged(r mesh.Room) {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	n.meta = r
}

func (n *node) Participants(_ mesh.RoomName, changed []mesh.Participant) {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	for _, p := range changed {
		if p.State == mesh.StateDisconnected {
			n.gone++
			delete(n.roster, p.ID)
		} else {
			n.roster[p.ID] = p
		}
	}
}

func (n *node) Command(_ mesh.RoomName, _ mesh.ParticipantID, c Command) {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	n.commands = append(n.commands, c)
}

func (n *node) Data(_ mesh.RoomName, m mesh.DataMessage) {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	n.data = append(n.data, m)
}

func (n *node) Ended(_ mesh.RoomName, reason int32) {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	n.ended = append(n.ended, reason)
}

// sees asserts exactly which participants of other nodes the node knows, by its handler and by its snapshot alike.
func (n *node) sees(ids ...mesh.ParticipantID) {
	n.c.t.Helper()
	synctest.Wait()
	n.c.mu.Lock()
	var heard []mesh.ParticipantID
	for id := range n.roster {
		heard = append(heard, id)
	}
	n.c.mu.Unlock()
	require.ElementsMatch(n.c.t, ids, heard, "node %s", n.id)
	if r := n.find(call); r != nil {
		var known []mesh.ParticipantID
		r.mu.Lock()
		for _, p := range r.all(n.id) {
			known = append(known, p.ID)
		}
		r.mu.Unlock()
		require.ElementsMatch(n.c.t, ids, known, "node %s", n.id)
	}
}

// counter returns the value of one of the node's counters without labels.
func (n *node) counter(name string) float64 {
	n.c.t.Helper()
	families, err := n.registry.Gather()
	require.NoError(n.c.t, err)
	for _, f := range families {
		if f.GetName() == "meridian_directory_"+name {
			return f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	require.Fail(n.c.t, "no such counter", name)
	return 0
}

// begin forgets what the handler heard of a former stay in the room: a stay begins with its snapshot.
func (n *node) begin(h *Handle) {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	_, others := h.Snapshot()
	clear(n.roster)
	for _, p := range others {
		n.roster[p.ID] = p
	}
}
