package directory

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/meridian-sfu/meridian/internal/mesh"
	pb "github.com/meridian-sfu/meridian/internal/meshpb/directorypb"
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

// claim is the state of asking the table of owners.
type claim struct {
	asking   bool      // a call is on its way
	askAt    time.Time // not before
	failures int
	proposed mesh.RoomID
	checkAt  time.Time
	missing  bool // the last check did not find our entry
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

func (r *room) tickProvisional(now time.Time) {
	if r.wantsOwner() {
		r.tryClaim(now)
		return
	}
	r.mu.Lock()
	lingered := now.Sub(r.desk.lastClose) >= r.d.cfg.Linger
	r.mu.Unlock()
	if lingered && !r.asking {
		r.finish(false)
	}
}

// tryClaim asks for the room in the background, with self as the candidate.
func (r *room) tryClaim(now time.Time) {
	id, created := r.proposed, r.meta.CreatedAt
	r.ask(now, func(ctx context.Context) (Ownership, error) {
		return r.d.deps.Owners.Claim(ctx, r.name, id, created)
	})
}

// ask makes one call of the table of owners at a time and follows what it says.
func (r *room) ask(now time.Time, call func(context.Context) (Ownership, error)) {
	if r.asking || now.Before(r.askAt) {
		return
	}
	r.asking = r.d.spawn(func(ctx context.Context) {
		bounded, cancel := context.WithTimeout(ctx, r.d.cfg.CallTimeout)
		defer cancel()
		o, err := call(bounded)
		r.post(ctx, func() {
			r.asking = false
			if err != nil {
				pause := min(r.d.cfg.Retry, 100*time.Millisecond<<min(r.failures, 8))
				r.failures++
				r.askAt = time.Now().Add(jitter(pause))
				r.d.log.Debug("no answer about the room's owner", "room", string(r.name), "err", err)
				return
			}
			r.failures, r.askAt = 0, time.Now().Add(jitter(r.d.cfg.Retry)) // unless the entry is news
			r.follow(o)
		})
	})
}

// ownerHeard is called by the table of owners: the last word counts, but an end is not lost behind it.
func (r *room) ownerHeard(o Ownership, ok bool) {
	r.mu.Lock()
	if n := len(r.desk.heard); n > 1 {
		r.desk.heard = r.desk.heard[n-1:]
	}
	r.desk.heard = append(r.desk.heard, heard{o, ok})
	r.mu.Unlock()
	r.nudge()
}

// follow takes an entry of the table of owners. An older one than we know is ignored.
func (r *room) follow(o Ownership) {
	if r.releasing || (r.known && o.Epoch <= r.owner.Epoch) ||
		(o.Epoch == r.released.Epoch && o.ID == r.released.ID) {
		return
	}
	was := r.currentRole()
	r.owner, r.known, r.missing = o, true, false
	r.failures, r.askAt = 0, time.Time{}
	role := RoleEdge
	if o.Node == r.d.self {
		role = RoleOwner
	}
	r.setMeta(withOwnership(r.meta, o))
	r.setRole(role)
	r.attachment = attachment{}
	r.sequencer = sequencer{}
	r.outs = nil
	if role == RoleOwner {
		if was == RoleEdge {
			r.d.metrics.takeovers.Inc()
		}
		r.becomeOwner()
	} else {
		r.becomeEdge()
	}
}

// recheck is called when the table of owners says that the entry is gone.
func (r *room) recheck() {
	if o, ok := r.d.deps.Owners.Lookup(r.name); ok {
		r.follow(o)
		return
	}
	if r.known && !r.releasing {
		r.lose()
	}
}

// lose goes on without an entry: whoever is here claims the room anew.
func (r *room) lose() {
	r.released, r.owner, r.known, r.askAt = r.owner, Ownership{}, false, time.Time{}
	r.keepRecords()
	r.attachment = attachment{}
	r.sequencer = sequencer{}
	r.setRole(RoleProvisional)
	meta := r.meta
	meta.ID, meta.Owner, meta.Epoch, meta.CreatedAt = "", "", 0, time.Now()
	r.proposed = mesh.RoomID(mesh.NewID("RM_"))
	r.setMeta(meta)
	if !r.wantsOwner() {
		r.finish(false)
		return
	}
	r.tryClaim(time.Now())
}

// verify reads the table of owners again: two looks in a row without our entry mean that it is gone.
func (r *room) verify() {
	o, ok := r.d.deps.Owners.Lookup(r.name)
	switch {
	case ok:
		r.missing = false
		r.follow(o)
	case r.known && r.missing:
		r.missing = false
		r.recheck()
	default:
		r.missing = r.known
	}
}

// finish ends the loop unless somebody entered meanwhile; must ends it anyway.
func (r *room) finish(must bool) {
	r.finished = r.d.forget(r, must)
}

// wantsOwner reports whether there is a reason to claim the room.
func (r *room) wantsOwner() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.ended && (r.desk.handles > 0 || r.desk.pinned || len(r.records[r.d.self]) > 0)
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

// reconnected is told when frames to a peer may have been lost.
func (r *room) reconnected(peer mesh.NodeID) {
	switch {
	case r.known && r.owner.Node == peer, r.direct:
		if r.wantsOwner() {
			r.report(peer, r.owner.Epoch, true, r.own())
		}
	case r.currentRole() == RoleOwner:
		if e := r.edges[peer]; e != nil && e.attached {
			r.snapshotTo(peer, e)
		} else if e != nil && !e.reported {
			r.solicit(peer)
		}
	}
}

// restarted is told when a peer has forgotten everything: its participants' sessions are gone.
func (r *room) restarted(peer mesh.NodeID) {
	if r.currentRole() == RoleOwner || r.direct || r.owner.Node == peer {
		r.dropNode(peer)
	} else {
		r.doubt(peer) // the owner may have told of its new participants already
	}
}

// receive takes a frame of a peer. Data is no decision and passes with any epoch.
func (r *room) receive(peer mesh.NodeID, f *pb.Frame) {
	if data := f.GetData(); data != nil {
		r.receiveData(peer, data)
		return
	}
	if r.known && f.GetEpoch() < r.owner.Epoch && f.GetRequest() == nil {
		r.d.metrics.stale.Inc()
		return
	}
	fromOwner := r.known && peer == r.owner.Node && f.GetEpoch() == r.owner.Epoch
	switch b := f.GetBody().(type) {
	case *pb.Frame_Report:
		r.receiveReport(peer, f.GetEpoch(), b.Report)
	case *pb.Frame_Update:
		if fromOwner && r.currentRole() == RoleEdge {
			r.receiveUpdate(b.Update)
		}
	case *pb.Frame_Solicit:
		r.receiveSolicit(peer, f.GetEpoch())
	case *pb.Frame_Detach:
		r.dropNode(peer)
		delete(r.edges, peer)
	case *pb.Frame_Command:
		if fromOwner || !r.known || f.GetEpoch() > r.owner.Epoch { // a newer owner may speak before the table does
			r.receiveCommand(b.Command)
		}
	case *pb.Frame_EndProposal:
		r.receiveEndProposal(peer, f.GetEpoch())
	case *pb.Frame_EndAnswer:
		r.receiveEndAnswer(peer, b.EndAnswer.GetEmpty())
	case *pb.Frame_Ended:
		if fromOwner {
			r.end(b.Ended.GetReason())
		}
	case *pb.Frame_Request:
		r.receiveRequest(peer, b.Request)
	}
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

func (r *room) receiveData(peer mesh.NodeID, w *pb.Data) {
	m := dataFromWire(w)
	for node, records := range r.records {
		if _, here := records[m.Sender]; here && node != peer {
			r.d.metrics.dropped.WithLabelValues(dropForeign).Inc()
			return
		}
	}
	r.d.metrics.data.WithLabelValues("in").Inc()
	r.d.deps.Handler.Data(r.name, m)
}

func (r *room) own() []mesh.Participant {
	return slices.SortedFunc(maps.Values(r.records[r.d.self]), byJoin)
}
