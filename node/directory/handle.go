package directory

import (
	"slices"
	"sync"
	"time"

	"github.com/meridian-sfu/meridian/internal/mesh"
	pb "github.com/meridian-sfu/meridian/internal/meshpb/directorypb"
)

// Handle is this node's stay in a room. It is safe for concurrent use and never blocks; after Close, or after the
// room ended, its methods do nothing.
type Handle struct {
	room   *room
	closed sync.Once
}

// Put says that a participant attached here has this record now. Node must be this node's, Version must grow; a record
// that exceeds the bounds of package mesh is refused and logged.
func (h *Handle) Put(p mesh.Participant) {
	r := h.room
	if err := checkOwn(p, r.d.self); err != nil {
		r.d.metrics.dropped.WithLabelValues(dropInvalid).Inc()
		r.d.log.Warn("own record refused", "room", string(r.name), "participant", string(p.ID), "err", err)
		return
	}
	if p.State == mesh.StateDisconnected {
		h.Remove(p.ID, p.DisconnectReason)
		return
	}
	p = p.Clone() // it is encoded later
	r.mu.Lock()
	if _, known := r.desk.own[p.ID]; !r.ended && (known || len(r.desk.own) < r.d.cfg.MaxParticipants) {
		r.desk.own[p.ID] = p
		delete(r.desk.gone, p.ID)
		r.desk.mark(p.ID)
	}
	r.mu.Unlock()
	r.nudge()
}

// Remove says that a participant attached here is gone. reason is LiveKit's DisconnectReason number.
func (h *Handle) Remove(id mesh.ParticipantID, reason int32) {
	h.room.mu.Lock()
	h.room.desk.remove(id, reason)
	h.room.mu.Unlock()
	h.room.nudge()
}

// Data sends a message of a participant attached here to every other node that has one of its destinations. Messages of
// one caller arrive in order; those that are not Reliable may be lost.
func (h *Handle) Data(m mesh.DataMessage) { h.room.send(m) }

// Snapshot returns the room and the participants on other nodes, earliest join first.
func (h *Handle) Snapshot() (mesh.Room, []mesh.Participant) {
	r := h.room
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.meta, r.all(r.d.self)
}

// Close says that the last participant here left. The node stays attached for Config.Linger; when it detaches, the
// Handler is not told that the others are gone. A later Open begins with its Snapshot. It is idempotent.
func (h *Handle) Close() {
	h.closed.Do(func() {
		r := h.room
		r.mu.Lock()
		r.desk.handles--
		if r.desk.handles == 0 {
			r.desk.lastClose = time.Now()
			for id := range r.desk.own {
				r.desk.remove(id, 0)
			}
		}
		r.mu.Unlock()
		r.nudge()
	})
}

func (d *desk) mark(id mesh.ParticipantID) {
	if !slices.Contains(d.changed, id) {
		d.changed = append(d.changed, id)
	}
}

func (d *desk) remove(id mesh.ParticipantID, reason int32) {
	p, ok := d.own[id]
	if !ok {
		return
	}
	delete(d.own, id)
	p.State, p.DisconnectReason, p.Sources = mesh.StateDisconnected, reason, nil
	d.gone[id] = p
	d.mark(id)
}

// send passes a message on to the nodes that have a destination.
func (r *room) send(m mesh.DataMessage) {
	w := dataToWire(m)
	if err := checkData(w); err != nil {
		r.d.metrics.dropped.WithLabelValues(dropInvalid).Inc()
		return
	}
	r.mu.Lock()
	var nodes []mesh.NodeID
	for node, records := range r.records {
		if node != r.d.self && !r.ended && addressed(records, m.Destinations) {
			nodes = append(nodes, node)
		}
	}
	epoch := r.meta.Epoch
	r.mu.Unlock()
	if len(nodes) == 0 {
		return
	}
	b, err := encode(&pb.Frame{Room: string(r.name), Epoch: epoch, Body: &pb.Frame_Data{Data: w}})
	if err != nil {
		r.d.metrics.dropped.WithLabelValues(dropInvalid).Inc()
		return
	}
	service := LossyService
	if m.Reliable {
		service = Service
	}
	for _, node := range nodes {
		if r.d.lane(node, service).send(b) {
			r.d.metrics.data.WithLabelValues("out").Inc()
		}
	}
}

func addressed(records map[mesh.ParticipantID]mesh.Participant, destinations []mesh.Identity) bool {
	if len(destinations) == 0 {
		return len(records) > 0
	}
	for _, p := range records {
		if slices.Contains(destinations, p.Identity) {
			return true
		}
	}
	return false
}
