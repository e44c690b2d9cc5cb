package directory

import (
	"context"
	"time"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

// claim is the state of asking the table of owners.
type claim struct {
	asking   bool      // a call is on its way
	askAt    time.Time // not before
	failures int
	proposed mesh.RoomID
	checkAt  time.Time
	missing  bool // the last check did not find our entry
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
				if o, ok := r.d.deps.Owners.Lookup(r.name); ok { // refused because of news?
					r.follow(o)
				}
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
	if r.over() { // while it was claimed anew
		if role == RoleOwner {
			r.release(func() { r.finish(true) })
		} else {
			r.finish(true)
		}
		return
	}
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

// wantsOwner reports whether there is a reason to claim the room.
func (r *room) wantsOwner() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.ended && (r.desk.handles > 0 || r.desk.pinned || len(r.records[r.d.self]) > 0)
}
