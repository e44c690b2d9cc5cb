package directory

import (
	"context"
	"time"

	"github.com/meridian-sfu/meridian/internal/mesh"
	pb "github.com/meridian-sfu/meridian/internal/meshpb/directorypb"
)

// attachment is the state of an edge towards one owner. It lives for one epoch.
type attachment struct {
	synced    bool   // a snapshot of the owner arrived and no update was missed since
	partial   bool   // a snapshot is coming in
	sequence  uint64 // of the last update
	reportAt  time.Time
	deadSince time.Time // the owner is not alive since
	beatAt    time.Time // when to remind the owner that we are attached
	doubtAt   time.Time // when to ask the owner for a snapshot, having heard from elsewhere; zero if not
	direct    bool      // the owner is gone: we tell the other edges ourselves
	leaveBy   time.Time // detaching since nobody is here
}

// base is the owner's record of the room as we last heard it.
type base struct{ epoch, version uint64 }

func (b base) after(o base) bool {
	return b.epoch > o.epoch || (b.epoch == o.epoch && b.version > o.version)
}

// ownerDoubt is how long an owner must seem dead while its stream is up until we believe it.
const ownerDoubt = time.Second

// beatEvery is how often an edge reports though nothing changed: an owner that took it for dead asks for a snapshot.
const beatEvery = 5 * time.Second

// becomeEdge attaches to the owner. A former owner that has nobody here just leaves.
func (r *room) becomeEdge() {
	for _, e := range r.edges {
		e.attached, e.reported, e.seen, e.named = false, false, nil, nil
	}
	r.keepRecords()
	if r.wantsOwner() {
		r.attach(time.Now())
	} else if !r.occupied() {
		r.finish(false)
	}
}

func (r *room) attach(now time.Time) {
	r.reportAt = now.Add(r.d.cfg.AttachTimeout)
	r.report(r.owner.Node, r.owner.Epoch, true, r.own())
}

// report tells a node of our own participants.
func (r *room) report(to mesh.NodeID, epoch uint64, snapshot bool, records []mesh.Participant) {
	batches(records, func(batch []*pb.Participant, first, more bool) {
		rep := &pb.Report{Snapshot: snapshot && first, More: more, Participants: batch}
		if snapshot && !more {
			known := r.meta
			known.Epoch, known.Version = r.lastBase.epoch, r.lastBase.version
			rep.Known = roomToWire(known)
		}
		r.d.metrics.reports.WithLabelValues("out").Inc()
		r.tell(to, &pb.Frame{Epoch: epoch, Body: &pb.Frame_Report{Report: rep}})
	})
}

// reportOwn passes on changes of our own participants.
func (r *room) reportOwn(changed []mesh.Participant) {
	if r.currentRole() != RoleEdge {
		return
	}
	r.report(r.owner.Node, r.owner.Epoch, false, changed)
	if r.direct {
		for _, node := range r.remoteNodes() {
			if node != r.owner.Node {
				r.report(node, r.owner.Epoch, false, changed)
			}
		}
	}
}

// receiveUpdate takes what the owner says of the others.
func (r *room) receiveUpdate(u *pb.Update) {
	r.d.metrics.updates.WithLabelValues("in").Inc()
	switch {
	case u.GetSnapshot():
		r.synced, r.partial = true, true
		for _, e := range r.edges {
			e.named = make(map[mesh.ParticipantID]bool)
		}
	case !r.synced:
		return // a snapshot is on its way
	case u.GetSequence() != r.sequence+1:
		r.synced, r.partial = false, false
		r.d.metrics.resyncs.Inc()
		r.attach(time.Now())
		return
	}
	r.sequence = u.GetSequence()
	if w := u.GetRoom(); w != nil {
		r.adoptMeta(roomFromWire(w))
	}
	for _, w := range u.GetParticipants() {
		p := participantFromWire(w)
		if p.Node == r.d.self {
			continue // of ours we know better
		}
		e := r.edge(p.Node)
		if r.partial {
			if e.named == nil {
				e.named = make(map[mesh.ParticipantID]bool)
			}
			e.named[p.ID] = true
		}
		if e.confirmed != nil {
			e.confirmed[p.ID] = true
		}
		r.upsert(p.Node, p)
	}
	if r.partial && !u.GetMore() {
		r.partial = false
		r.settle(u.GetReported())
	}
}

// settle ends a snapshot: who was not named is gone if the owner knows all of its node, else has time to be named.
func (r *room) settle(reported []string) {
	complete := make(map[mesh.NodeID]bool, len(reported))
	for _, n := range reported {
		complete[mesh.NodeID(n)] = true
	}
	until := time.Now().Add(r.d.cfg.EdgeGrace)
	for _, node := range r.remoteNodes() {
		e := r.edge(node)
		if complete[node] {
			r.dropUnless(node, e.named)
			e.keepUntil, e.confirmed = time.Time{}, nil
		} else {
			e.keepUntil, e.confirmed = until, e.named
			if e.confirmed == nil {
				e.confirmed = make(map[mesh.ParticipantID]bool)
			}
		}
		e.named = nil
	}
}

func (r *room) adoptMeta(m mesh.Room) {
	r.lastBase = base{m.Epoch, m.Version}
	m.Name, m.ID, m.Owner, m.Epoch = r.name, r.owner.ID, r.owner.Node, r.owner.Epoch
	r.setMeta(m)
}

func (r *room) receiveSolicit(peer mesh.NodeID, epoch uint64) {
	if r.wantsOwner() {
		r.report(peer, epoch, true, r.own())
		return
	}
	r.tell(peer, &pb.Frame{Epoch: epoch, Body: &pb.Frame_Detach{Detach: &pb.Detach{}}})
}

func (r *room) receiveCommand(w *pb.Command) {
	id := mesh.ParticipantID(w.GetParticipant())
	c := orderFromWire(w.GetOrder())
	if _, here := r.records[r.d.self][id]; !here || c == nil {
		return
	}
	r.d.deps.Handler.Command(r.name, id, c)
}

func (r *room) receiveEndProposal(peer mesh.NodeID, epoch uint64) {
	empty := !r.occupied() && len(r.records[r.d.self]) == 0 && r.currentRole() != RoleOwner
	r.tell(peer, &pb.Frame{Epoch: epoch, Body: &pb.Frame_EndAnswer{EndAnswer: &pb.EndAnswer{Empty: empty}}})
	if !empty {
		return
	}
	if r.finish(false); !r.finished && r.known {
		r.attach(time.Now()) // somebody came in this moment
	}
}

func (r *room) tickEdge(now time.Time) {
	owner := r.d.lane(r.owner.Node, Service)
	owner.touch()
	if !r.wantsOwner() {
		r.tickLeave(now, owner.up())
		return
	}
	r.leaveBy = time.Time{}
	switch alive := r.d.deps.Alive(r.owner.Node); {
	case alive:
		r.deadSince = time.Time{}
		if r.direct {
			r.direct = false
			r.keepRecords()
			r.attach(now)
		}
	case r.deadSince.IsZero():
		r.deadSince = now
	}
	if !r.deadSince.IsZero() && (!owner.up() || now.Sub(r.deadSince) >= ownerDoubt) {
		r.goDirect(now)
	}
	if !r.doubtAt.IsZero() && !r.direct && now.After(r.doubtAt) {
		r.doubtAt, r.synced = time.Time{}, false
		r.attach(now)
	}
	if now.After(r.beatAt) {
		if r.synced && !r.beatAt.IsZero() {
			r.report(r.owner.Node, r.owner.Epoch, false, nil)
		}
		r.beatAt = now.Add(beatEvery)
	}
	if !r.synced && !r.direct && owner.up() && now.After(r.reportAt) {
		r.attach(now)
	}
}

// doubt is called when we heard of a node's participants from elsewhere than the owner: its next snapshot decides.
func (r *room) doubt(node mesh.NodeID) {
	if r.currentRole() == RoleEdge && r.records[node] != nil && r.doubtAt.IsZero() {
		r.doubtAt = time.Now().Add(r.d.cfg.EdgeGrace)
	}
}

// goDirect bridges the time without an owner: we tell the other edges ourselves and offer to be the owner.
func (r *room) goDirect(now time.Time) {
	if !r.direct {
		r.direct = true
		r.askAt = now.Add(jitter(500 * time.Millisecond)) // not all edges at once
		for _, node := range r.remoteNodes() {
			if node != r.owner.Node {
				r.report(node, r.owner.Epoch, true, r.own())
			}
		}
		r.d.log.Info("owner is gone", "room", string(r.name), "node", string(r.owner.Node))
	}
	for _, node := range r.remoteNodes() {
		r.d.lane(node, Service).touch()
	}
	epoch, self := r.owner.Epoch, r.d.self
	r.ask(now, func(ctx context.Context) (Ownership, error) {
		return r.d.deps.Owners.Reassign(ctx, r.name, epoch, self)
	})
}

// tickLeave detaches from the owner when nobody was here for the linger.
func (r *room) tickLeave(now time.Time, up bool) {
	r.mu.Lock()
	lingered := now.Sub(r.desk.lastClose) >= r.d.cfg.Linger
	r.mu.Unlock()
	if !lingered {
		return
	}
	if r.leaveBy.IsZero() {
		r.leaveBy = now.Add(detachWait)
	}
	if !up && now.Before(r.leaveBy) {
		return
	}
	// The goodbye comes first: once the room is forgotten, a new one of the name may report to the owner.
	r.tell(r.owner.Node, &pb.Frame{Body: &pb.Frame_Detach{Detach: &pb.Detach{}}})
	if r.finish(false); !r.finished {
		r.attach(now)
	}
}
