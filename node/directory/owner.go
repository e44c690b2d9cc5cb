package directory

import (
	"context"
	"maps"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/meridian-sfu/meridian/internal/mesh"
	pb "github.com/meridian-sfu/meridian/internal/meshpb/directorypb"
)

const (
	batchBytes     = 256 << 10 // of records in one frame, unless a single one is larger
	releaseRetries = 5
)

// sequencer is the state of an owner. It lives for one epoch.
type sequencer struct {
	holders    map[mesh.Identity]holder
	evicted    map[mesh.ParticipantID]mesh.NodeID // told to leave; ignored until their edge says they did
	restored   base                               // of the record ours was made from
	occupiedAt time.Time                          // somebody was here then; zero if nobody ever was
	emptySince time.Time
	proposal   *proposal
	releasing  bool
	solicitAt  time.Time
}

// proposal is the question whether the room may end.
type proposal struct {
	waiting map[mesh.NodeID]bool
	until   time.Time
}

// becomeOwner makes the room whole from what we know and asks every edge for what it knows.
func (r *room) becomeOwner() {
	now := time.Now()
	r.holders, r.evicted = make(map[mesh.Identity]holder), make(map[mesh.ParticipantID]mesh.NodeID)
	r.restored = r.lastBase
	for _, e := range r.edges {
		e.attached, e.reported, e.seen, e.named, e.deadSince = false, false, nil, nil, time.Time{}
	}
	for _, node := range r.remoteNodes() {
		e := r.edge(node)
		e.keepUntil, e.confirmed = now.Add(r.d.cfg.EdgeGrace), nil
		r.solicit(node)
	}
	r.emptySince, r.solicitAt = now, now.Add(r.d.cfg.AttachTimeout)
	if !r.blank {
		meta := r.meta
		meta.Version++
		r.setMeta(meta)
	}
	for _, p := range r.all("") {
		r.admit(p.Node, p)
	}
	r.d.log.Info("owner of the room", "room", string(r.name), "epoch", r.owner.Epoch)
}

// admit decides whether p may be in: of an identity the last join stays. It evicts the other one.
func (r *room) admit(node mesh.NodeID, p mesh.Participant) bool {
	if _, told := r.evicted[p.ID]; told {
		return false
	}
	h, taken := r.holders[p.Identity]
	if !taken || h.id == p.ID {
		r.holders[p.Identity] = holder{node, p.ID}
		return true
	}
	r.d.metrics.evictions.Inc()
	if byJoin(p, r.records[h.node][h.id]) < 0 {
		r.evict(node, p.ID)
		return false
	}
	r.evict(h.node, h.id)
	r.holders[p.Identity] = holder{node, p.ID}
	return true
}

func (r *room) evict(node mesh.NodeID, id mesh.ParticipantID) {
	r.evicted[id] = node
	r.drop(node, id, ReasonDuplicateIdentity)
	r.command(node, id, Evict{Reason: ReasonDuplicateIdentity})
}

func (r *room) command(node mesh.NodeID, id mesh.ParticipantID, c Command) {
	if node == r.d.self {
		r.d.deps.Handler.Command(r.name, id, c)
		return
	}
	r.tell(node, &pb.Frame{Body: &pb.Frame_Command{Command: &pb.Command{Participant: string(id), Order: orderToWire(c)}}})
}

// tell sends a frame of this room in the present epoch.
func (r *room) tell(node mesh.NodeID, f *pb.Frame) {
	f.Room, f.Epoch = string(r.name), max(f.GetEpoch(), r.owner.Epoch)
	r.d.tell(node, f)
}

func (r *room) solicit(node mesh.NodeID) {
	r.tell(node, &pb.Frame{Body: &pb.Frame_Solicit{Solicit: &pb.Solicit{}}})
}

// receiveReport takes what a node says of its own participants. Everyone believes it; the owner passes it on.
func (r *room) receiveReport(peer mesh.NodeID, epoch uint64, rep *pb.Report) {
	if peer == r.d.self || r.releasing {
		return // who comes while the room ends asks again, and gets a new one
	}
	r.d.metrics.reports.WithLabelValues("in").Inc()
	e := r.edge(peer)
	if rep.GetSnapshot() {
		e.seen = make(map[mesh.ParticipantID]bool)
	}
	for _, w := range rep.GetParticipants() {
		p := participantFromWire(w)
		if e.seen != nil {
			e.seen[p.ID] = true
		}
		if e.confirmed != nil {
			e.confirmed[p.ID] = true
		}
		if _, told := r.evicted[p.ID]; told && rep.GetSnapshot() && p.State != mesh.StateDisconnected {
			r.command(peer, p.ID, Evict{Reason: ReasonDuplicateIdentity}) // the first word may have been lost
		}
		r.upsert(peer, p)
	}
	if rep.GetMore() {
		return
	}
	complete := e.seen != nil
	if complete {
		r.dropUnless(peer, e.seen)
		gone := func(id mesh.ParticipantID, n mesh.NodeID) bool { return n == peer && !e.seen[id] }
		maps.DeleteFunc(r.evicted, gone)
		e.seen, e.keepUntil, e.confirmed = nil, time.Time{}, nil
	}
	if r.currentRole() != RoleOwner || epoch != r.owner.Epoch {
		r.doubt(peer)
		return
	}
	r.proposal = nil
	if complete {
		r.restore(rep.GetKnown())
		e.reported, e.attached = true, true
		r.flush() // the others first: the snapshot holds all that they are told
		r.snapshotTo(peer, e)
	} else if !e.attached { // we dropped it, it thinks that it is attached
		r.solicit(peer)
	}
}

// restore takes the room's settings from an edge that knew a later state of them than we do.
func (r *room) restore(w *pb.Room) {
	known := roomFromWire(w)
	later := base{known.Epoch, known.Version}
	if w == nil || known.ID != r.meta.ID || known.Epoch > r.owner.Epoch || !later.after(r.restored) ||
		(known.Epoch == r.owner.Epoch && known.Version <= r.meta.Version) {
		return
	}
	r.restored = later
	meta := r.meta
	meta.Metadata, meta.MaxParticipants = known.Metadata, known.MaxParticipants
	meta.EmptyTimeout, meta.DepartureTimeout = known.EmptyTimeout, known.DepartureTimeout
	meta.Version = max(meta.Version, known.Version) + 1
	r.setMeta(meta)
}

// broadcast tells every attached edge what changed elsewhere.
func (r *room) broadcast(outs []mesh.Participant, meta bool) {
	for node, e := range r.edges {
		if !e.attached {
			continue
		}
		var theirs []mesh.Participant
		for _, p := range outs {
			if p.Node != node {
				theirs = append(theirs, p)
			}
		}
		if len(theirs) > 0 || meta {
			r.update(node, e, theirs, false, meta)
		}
	}
}

// snapshotTo tells an edge everything.
func (r *room) snapshotTo(node mesh.NodeID, e *edge) {
	e.sequence = 0
	r.update(node, e, r.all(node), true, true)
}

func (r *room) update(node mesh.NodeID, e *edge, records []mesh.Participant, snapshot, meta bool) {
	batches(records, func(batch []*pb.Participant, first, more bool) {
		e.sequence++
		u := &pb.Update{Sequence: e.sequence, Snapshot: snapshot && first, More: more, Participants: batch}
		if meta && first {
			u.Room = roomToWire(r.meta)
		}
		if snapshot && !more {
			u.Reported = append(u.Reported, string(r.d.self))
			for n, other := range r.edges {
				if other.reported && len(u.Reported) < maxNodes {
					u.Reported = append(u.Reported, string(n))
				}
			}
		}
		r.d.metrics.updates.WithLabelValues("out").Inc()
		r.tell(node, &pb.Frame{Body: &pb.Frame_Update{Update: u}})
	})
}

// batches cuts records into frames of bounded size; there is at least one.
func batches(records []mesh.Participant, f func(batch []*pb.Participant, first, more bool)) {
	var batch []*pb.Participant
	size, first := 0, true
	for _, p := range records {
		w := participantToWire(p)
		n := proto.Size(w)
		if len(batch) > 0 && (size+n > batchBytes || len(batch) == maxBatch) {
			f(batch, first, true)
			batch, size, first = nil, 0, false
		}
		batch = append(batch, w)
		size += n
	}
	f(batch, first, false)
}

func (r *room) tickOwner(now time.Time) {
	ask := now.After(r.solicitAt)
	if ask {
		r.solicitAt = now.Add(r.d.cfg.AttachTimeout)
	}
	for node, e := range r.edges {
		r.d.lane(node, Service).touch()
		switch {
		case r.d.deps.Alive(node):
			e.deadSince = time.Time{}
			if ask && !e.reported {
				r.solicit(node)
			}
		case e.deadSince.IsZero():
			e.deadSince = now
		case now.Sub(e.deadSince) >= r.d.cfg.EdgeGrace:
			r.d.log.Info("edge is gone", "room", string(r.name), "node", string(node))
			r.d.metrics.ghosts.Add(float64(len(r.records[node])))
			r.dropNode(node)
			delete(r.edges, node)
		}
	}
	r.tickEnd(now)
}

// tickEnd ends the room when nobody was here for long enough and every edge agrees.
func (r *room) tickEnd(now time.Time) {
	if r.releasing {
		return
	}
	r.mu.Lock()
	if len(r.records) > 0 || r.desk.handles > 0 {
		r.desk.pinned = false
		r.occupiedAt, r.emptySince, r.proposal = now, now, nil
	}
	r.mu.Unlock()
	timeout := r.meta.EmptyTimeout
	if !r.occupiedAt.IsZero() {
		timeout = r.meta.DepartureTimeout
	}
	if now.Sub(r.emptySince) < timeout {
		return
	}
	if r.proposal == nil {
		r.proposal = &proposal{waiting: make(map[mesh.NodeID]bool), until: now.Add(2 * r.d.cfg.AttachTimeout)}
		for node, e := range r.edges {
			if e.attached {
				r.proposal.waiting[node] = true
				r.tell(node, &pb.Frame{Body: &pb.Frame_EndProposal{EndProposal: &pb.EndProposal{}}})
			}
		}
	}
	for node := range r.proposal.waiting {
		if r.edges[node] == nil { // dead for longer than the grace
			delete(r.proposal.waiting, node)
		}
	}
	switch {
	case len(r.proposal.waiting) == 0:
		r.release(func() { // nobody said no
			r.mu.Lock()
			r.desk.pinned = false
			r.mu.Unlock()
			if r.occupied() { // somebody came while we released: a new room for them
				r.lose()
				return
			}
			r.d.deps.Handler.Ended(r.name, ReasonRoomClosed)
			r.finish(true)
		})
	case now.After(r.proposal.until):
		r.proposal = nil
	}
}

func (r *room) receiveEndAnswer(peer mesh.NodeID, empty bool) {
	if r.proposal == nil || !r.proposal.waiting[peer] {
		return
	}
	if !empty {
		r.proposal, r.emptySince = nil, time.Now()
		return
	}
	delete(r.proposal.waiting, peer)
	delete(r.edges, peer)
	r.tickEnd(time.Now())
}

// release gives the entry back; done runs in the loop when it is.
func (r *room) release(done func()) {
	r.releasing = true
	epoch := r.owner.Epoch
	started := r.d.spawn(func(ctx context.Context) {
		var err error
		for try := range releaseRetries {
			bounded, cancel := context.WithTimeout(ctx, r.d.cfg.CallTimeout)
			err = r.d.deps.Owners.Release(bounded, r.name, epoch)
			cancel()
			if err == nil || ctx.Err() != nil {
				break
			}
			wait(ctx, jitter(min(r.d.cfg.Retry, 100*time.Millisecond<<try)))
		}
		r.post(ctx, func() {
			r.releasing = false
			if err != nil { // perhaps it was done and only the answer lost, or somebody else took the room
				o, ok := r.d.deps.Owners.Lookup(r.name)
				if ok && o.Epoch != epoch && !r.over() {
					r.follow(o)
					return
				}
				if !ok || o.Epoch != epoch {
					err = nil
				}
			}
			if err != nil { // without quorum the room stays: joins to it must go on
				r.d.log.Warn("room could not be given back", "room", string(r.name), "err", err)
				r.proposal, r.emptySince = nil, time.Now()
				if r.over() {
					r.finish(true)
				}
				return
			}
			done()
		})
	})
	r.releasing = started
}

// dissolve ends the room for everyone at once, by order of the server API.
func (r *room) dissolve() {
	r.flush()
	for node, e := range r.edges {
		if e.attached {
			r.tell(node, &pb.Frame{Body: &pb.Frame_Ended{Ended: &pb.Ended{Reason: ReasonRoomDeleted}}})
		}
	}
	r.mu.Lock()
	r.ended = true
	r.mu.Unlock()
	r.d.deps.Handler.Ended(r.name, ReasonRoomDeleted)
	if !r.known {
		r.finish(true)
		return
	}
	r.release(func() { r.finish(true) })
}
