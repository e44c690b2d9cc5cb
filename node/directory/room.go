package directory

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

// Role says what this node is for a room.
type Role string

// The roles.
const (
	RoleProvisional Role = "provisional" // nobody is known to own the room
	RoleOwner       Role = "owner"
	RoleEdge        Role = "edge"
)

const (
	inboxEvents  = 256
	detachWait   = 10 * time.Second // an edge that cannot reach the owner to say goodbye leaves without
	recheckEvery = 2 * time.Second  // the table of owners is read again, in case a change was missed
)

// room is what this node knows of one room. All of it belongs to run's goroutine, but for what mu guards: that is
// shared with callers of the Handle.
type room struct {
	d     *Directory
	name  mesh.RoomName
	inbox chan func()
	wake  chan struct{}
	done  chan struct{}

	mu      sync.Mutex
	desk    desk                                                    // guarded by mu; what callers left for the loop
	meta    mesh.Room                                               // guarded by mu; written by the loop alone
	records map[mesh.NodeID]map[mesh.ParticipantID]mesh.Participant // guarded by mu; written by the loop alone
	role    Role                                                    // guarded by mu; written by the loop alone
	ended   bool                                                    // guarded by mu; the handles do nothing any more

	ctx         context.Context // of Run, since the loop began
	owner       Ownership
	known       bool // owner is set
	edges       map[mesh.NodeID]*edge
	emits       []mesh.Participant // for the Handler, at the end of the step
	outs        []mesh.Participant // for the edges, at the end of the step
	metaChanged bool
	lastBase    base      // of the last record an owner gave the room
	blank       bool      // we own the room from a former life and know nothing of it
	finished    bool      // the loop returns
	released    Ownership // the last entry given back: a late word of it is no news

	sequencer
	attachment
	claim
}

// edge is another node with participants in the room.
type edge struct {
	attached  bool                        // it reported in this epoch and wants updates
	reported  bool                        // its records are complete in this epoch
	sequence  uint64                      // of the last update sent
	deadSince time.Time                   // it is not alive since
	keepUntil time.Time                   // its records of a former epoch are kept until; zero when they are confirmed
	seen      map[mesh.ParticipantID]bool // records named by its own snapshot that is coming in
	named     map[mesh.ParticipantID]bool // records of it named by the owner's snapshot that is coming in
	confirmed map[mesh.ParticipantID]bool // records the present owner named while keepUntil runs
}

// desk is what callers of the Handle left for the loop. It is bounded by the caller's own participants.
type desk struct {
	own       map[mesh.ParticipantID]mesh.Participant
	changed   []mesh.ParticipantID // keys of own or gone, in order of change, each once
	gone      map[mesh.ParticipantID]mesh.Participant
	handles   int
	lastClose time.Time
	heard     []heard // of the table of owners; the last one
	pinned    bool    // to be created though nobody is here
}

type heard struct {
	o  Ownership
	ok bool
}

func newRoom(d *Directory, name mesh.RoomName, meta mesh.Room) *room {
	meta.Name, meta.ID, meta.Owner, meta.Epoch, meta.Version = name, "", "", 0, 0
	if meta.CreatedAt.IsZero() {
		meta.CreatedAt = time.Now()
	}
	if meta.EmptyTimeout <= 0 {
		meta.EmptyTimeout = d.cfg.EmptyTimeout
	}
	if meta.DepartureTimeout <= 0 {
		meta.DepartureTimeout = d.cfg.DepartureTimeout
	}
	return &room{
		d: d, name: name, meta: meta, role: RoleProvisional,
		inbox: make(chan func(), inboxEvents), wake: make(chan struct{}, 1), done: make(chan struct{}),
		desk:    desk{own: make(map[mesh.ParticipantID]mesh.Participant), gone: make(map[mesh.ParticipantID]mesh.Participant)},
		records: make(map[mesh.NodeID]map[mesh.ParticipantID]mesh.Participant),
		edges:   make(map[mesh.NodeID]*edge),
	}
}

func withOwnership(m mesh.Room, o Ownership) mesh.Room {
	m.ID, m.CreatedAt, m.Owner, m.Epoch = o.ID, o.Created, o.Node, o.Epoch
	return m
}

// run is the room's loop.
func (r *room) run(ctx context.Context) {
	defer close(r.done)
	gauge := r.d.metrics.rooms
	role := RoleProvisional
	gauge.WithLabelValues(string(role)).Inc()
	defer func() { gauge.WithLabelValues(string(role)).Dec() }()
	r.ctx = ctx
	r.proposed = mesh.RoomID(mesh.NewID("RM_"))
	if o, ok := r.d.deps.Owners.Lookup(r.name); ok {
		r.blank = o.Node == r.d.self
		r.follow(o)
		r.blank = false
	}
	ticker := time.NewTicker(r.d.cfg.Tick)
	defer ticker.Stop()
	r.tick(time.Now())
	for {
		r.step()
		if now := r.currentRole(); now != role {
			gauge.WithLabelValues(string(role)).Dec()
			gauge.WithLabelValues(string(now)).Inc()
			role = now
		}
		if r.finished {
			return
		}
		select {
		case <-ctx.Done():
			return
		case f := <-r.inbox:
			f()
		case <-r.wake:
		case now := <-ticker.C:
			r.tick(now)
		}
	}
}

// post hands f to the loop. It blocks while the loop is behind, so never call it from a Handler. It reports false when
// the room is over.
func (r *room) post(ctx context.Context, f func()) bool {
	select {
	case <-r.done:
		return false
	default:
	}
	select {
	case r.inbox <- f:
		return true
	case <-r.done:
	case <-ctx.Done():
	}
	return false
}

func (r *room) nudge() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// step takes what callers left, then tells everyone what changed.
func (r *room) step() {
	r.mu.Lock()
	news := r.desk.heard
	r.desk.heard = nil
	r.mu.Unlock()
	for _, h := range news {
		if h.ok {
			r.follow(h.o)
		} else {
			r.recheck()
		}
	}
	r.takeOwn()
	r.flush()
}

// flush tells the Handler and, as the owner, the edges.
func (r *room) flush() {
	metaChanged, emits, outs := r.metaChanged, r.emits, r.outs
	r.metaChanged, r.emits, r.outs = false, nil, nil
	if r.currentRole() == RoleOwner && (metaChanged || len(outs) > 0) {
		r.broadcast(outs, metaChanged)
	}
	h := r.d.deps.Handler
	if metaChanged {
		h.RoomChanged(r.meta)
	}
	if len(emits) > 0 {
		h.Participants(r.name, emits)
	}
}

// takeOwn takes the changes of our own participants.
func (r *room) takeOwn() {
	r.mu.Lock()
	var changed []mesh.Participant
	for _, id := range r.desk.changed {
		if p, ok := r.desk.own[id]; ok {
			changed = append(changed, p)
		} else if p, ok := r.desk.gone[id]; ok {
			changed = append(changed, p)
		}
	}
	r.desk.changed = nil
	clear(r.desk.gone)
	r.mu.Unlock()
	if len(changed) == 0 {
		return
	}
	for _, p := range changed {
		r.upsert(r.d.self, p)
	}
	r.reportOwn(changed)
}

// tick looks at all deadlines.
func (r *room) tick(now time.Time) {
	if now.After(r.checkAt) {
		if !r.checkAt.IsZero() {
			r.verify()
		}
		r.checkAt = now.Add(recheckEvery)
	}
	r.expire(now)
	switch {
	case !r.known:
		r.tickProvisional(now)
	case r.owner.Node == r.d.self:
		r.tickOwner(now)
	default:
		r.tickEdge(now)
	}
}

// finish ends the loop unless somebody entered meanwhile; must ends it anyway.
func (r *room) finish(must bool) {
	r.finished = r.d.forget(r, must)
}

// occupied reports whether somebody here needs the room.
func (r *room) occupied() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.ended && (r.desk.handles > 0 || r.desk.pinned || len(r.desk.changed) > 0)
}

// over reports whether the room has ended: who enters gets a new one.
func (r *room) over() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ended
}

// enter counts a handle and returns the record.
func (r *room) enter(open bool) mesh.Room {
	r.mu.Lock()
	defer r.mu.Unlock()
	if open {
		r.desk.handles++
	}
	return r.meta
}

func (r *room) currentRole() Role { return r.role } // read by the loop, which alone writes it

func (r *room) setRole(role Role) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.role = role
}

func (r *room) setMeta(m mesh.Room) {
	if m == r.meta {
		return
	}
	r.mu.Lock()
	r.meta = m
	if r.role == RoleOwner {
		r.lastBase = base{m.Epoch, m.Version}
	}
	r.mu.Unlock()
	r.metaChanged = true
}

// end is the room's end by decision of the owner: our participants are out.
func (r *room) end(reason int32) {
	r.flush()
	r.mu.Lock()
	r.ended = true
	r.mu.Unlock()
	r.d.deps.Handler.Ended(r.name, reason)
	r.finish(true)
}

// endLate is end by decision of the owner before, whose entry is gone already.
func (r *room) endLate(reason int32) {
	switch {
	case r.over():
	case r.currentRole() == RoleOwner:
		r.dissolve()
	case r.asking: // what the answer brings is given back: see follow
		r.mu.Lock()
		r.ended = true
		r.mu.Unlock()
		r.d.deps.Handler.Ended(r.name, reason)
	default:
		r.end(reason)
	}
}

func (r *room) own() []mesh.Participant {
	return slices.SortedFunc(maps.Values(r.records[r.d.self]), byJoin)
}
