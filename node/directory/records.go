package directory

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

// holder is who has an identity.
type holder struct {
	node mesh.NodeID
	id   mesh.ParticipantID
}

// upsert takes a record of a participant on node. Older versions are ignored, StateDisconnected removes, and the owner
// lets only one participant of an identity in.
func (r *room) upsert(node mesh.NodeID, p mesh.Participant) {
	present, known := r.records[node][p.ID]
	if p.State == mesh.StateDisconnected {
		delete(r.evicted, p.ID)
		if known {
			r.drop(node, p.ID, p.DisconnectReason)
		}
		return
	}
	if known && p.Version <= present.Version {
		return
	}
	if !known && len(r.records[node]) >= r.d.cfg.MaxParticipants {
		r.d.metrics.dropped.WithLabelValues(dropInvalid).Inc()
		return
	}
	if r.currentRole() == RoleOwner && !r.admit(node, p) {
		return
	}
	r.mu.Lock()
	if r.records[node] == nil {
		r.records[node] = make(map[mesh.ParticipantID]mesh.Participant)
	}
	r.records[node][p.ID] = p
	r.mu.Unlock()
	r.changed(node, p)
}

// drop takes a record out and tells of it.
func (r *room) drop(node mesh.NodeID, id mesh.ParticipantID, reason int32) {
	p, ok := r.records[node][id]
	if !ok {
		return
	}
	r.mu.Lock()
	delete(r.records[node], id)
	if len(r.records[node]) == 0 {
		delete(r.records, node)
	}
	r.mu.Unlock()
	if r.holders[p.Identity].id == id {
		delete(r.holders, p.Identity)
	}
	p.State, p.DisconnectReason, p.Sources = mesh.StateDisconnected, reason, nil
	r.changed(node, p)
}

func (r *room) changed(node mesh.NodeID, p mesh.Participant) {
	if node != r.d.self {
		r.emits = append(r.emits, p)
	}
	if r.currentRole() == RoleOwner {
		r.outs = append(r.outs, p)
	}
}

// dropNode drops all records of a node that is gone.
func (r *room) dropNode(node mesh.NodeID) {
	if node == r.d.self {
		return
	}
	for _, p := range sorted(r.records[node]) {
		r.drop(node, p.ID, ReasonConnectionTimeout)
	}
	if e := r.edges[node]; e != nil {
		e.keepUntil, e.seen, e.confirmed = time.Time{}, nil, nil
	}
	maps.DeleteFunc(r.evicted, func(_ mesh.ParticipantID, n mesh.NodeID) bool { return n == node })
}

// dropUnless drops the records of a node that keep does not name.
func (r *room) dropUnless(node mesh.NodeID, keep map[mesh.ParticipantID]bool) {
	for _, p := range sorted(r.records[node]) {
		if !keep[p.ID] {
			r.drop(node, p.ID, ReasonConnectionTimeout)
		}
	}
}

// keepRecords gives the records of all other nodes a deadline by which somebody must confirm them.
func (r *room) keepRecords() {
	until := time.Now().Add(r.d.cfg.EdgeGrace)
	for node := range r.records {
		if node != r.d.self {
			e := r.edge(node)
			e.keepUntil, e.confirmed = until, make(map[mesh.ParticipantID]bool)
		}
	}
}

// expire drops what nobody confirmed in time.
func (r *room) expire(now time.Time) {
	for node, e := range r.edges {
		if e.keepUntil.IsZero() || now.Before(e.keepUntil) || r.direct {
			continue
		}
		before := len(r.records[node])
		r.dropUnless(node, e.confirmed)
		r.d.metrics.ghosts.Add(float64(before - len(r.records[node])))
		e.keepUntil, e.confirmed = time.Time{}, nil
	}
}

func (r *room) edge(node mesh.NodeID) *edge {
	e := r.edges[node]
	if e == nil {
		e = new(edge)
		r.edges[node] = e
	}
	return e
}

// remoteNodes returns the other nodes with participants, sorted.
func (r *room) remoteNodes() []mesh.NodeID {
	var nodes []mesh.NodeID
	for node := range r.records {
		if node != r.d.self {
			nodes = append(nodes, node)
		}
	}
	slices.Sort(nodes)
	return nodes
}

// all returns every record, earliest join first; but leaves out those of a node.
func (r *room) all(but mesh.NodeID) []mesh.Participant {
	var out []mesh.Participant
	for node, records := range r.records {
		if node != but {
			out = slices.AppendSeq(out, maps.Values(records))
		}
	}
	slices.SortFunc(out, byJoin)
	return out
}

func sorted(records map[mesh.ParticipantID]mesh.Participant) []mesh.Participant {
	return slices.SortedFunc(maps.Values(records), byJoin)
}

// byJoin orders by time of join, then ID: the later join of an identity is the one that stays.
func byJoin(a, b mesh.Participant) int {
	if c := a.JoinedAt.Compare(b.JoinedAt); c != 0 {
		return c
	}
	return cmp.Compare(a.ID, b.ID)
}
