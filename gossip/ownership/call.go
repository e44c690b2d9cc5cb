package ownership

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"time"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/meshnet"
	"github.com/meridian-sfu/meridian/internal/meshpb/ownershippb"
)

const (
	minRetry    = 20 * time.Millisecond
	maxRetry    = 300 * time.Millisecond
	viewCatchUp = time.Second // how long a call waits for the local view to show what it did
)

// Claim opens a room with candidate as its owner, or returns the entry it has: existing says which. id, created and
// digest are kept in a new entry. When it returns, Lookup knows the entry unless this node's view lags by a second.
//
// Like Release and Reassign it waits for Run to begin and goes on over changes of the leader until ctx ends. It returns
// ErrTableFull, an error wrapping ErrInvalid, ErrClosed when Run has ended, or ErrNoLeader joined with ctx's error.
func (o *Ownership) Claim(
	ctx context.Context, room mesh.RoomName, id mesh.RoomID, candidate mesh.NodeID, created time.Time, digest string,
) (Entry, bool, error) {
	start := time.Now()
	c := command{kind: opClaim, room: room, id: id, node: candidate, created: created, digest: digest}
	a, err := o.call(ctx, c)
	if err != nil {
		return Entry{}, false, err
	}
	o.m.claimSeconds.Observe(time.Since(start).Seconds())
	o.waitForView(ctx, func(v *view) bool { return v.epoch >= a.entry.Epoch })
	return a.entry, a.existing, nil
}

// Release ends the room that has the given epoch; a room that is not open is released already. It returns a
// *StaleEpochError (ErrStaleEpoch) when the room has another epoch, else errors as Claim does.
func (o *Ownership) Release(ctx context.Context, room mesh.RoomName, epoch uint64) error {
	if _, err := o.call(ctx, command{kind: opRelease, room: room, epoch: epoch}); err != nil {
		return err
	}
	o.waitForView(ctx, func(v *view) bool { return v.entries[room].Epoch != epoch })
	return nil
}

// Reassign gives the room that has the given epoch to another node under a new epoch. It returns a *StaleEpochError
// (ErrStaleEpoch) when the room has another epoch or is not open, ErrOwnerAlive when the leader sees the owner alive and
// this node is not the owner itself, else errors as Claim does.
func (o *Ownership) Reassign(ctx context.Context, room mesh.RoomName, epoch uint64, to mesh.NodeID) (Entry, error) {
	a, err := o.call(ctx, command{kind: opReassign, room: room, epoch: epoch, node: to})
	if err != nil {
		return Entry{}, err
	}
	o.waitForView(ctx, func(v *view) bool { return v.epoch >= a.entry.Epoch })
	return a.entry, nil
}

// Lookup returns the room's entry as this node sees it. It does not block and may lag behind the group.
func (o *Ownership) Lookup(room mesh.RoomName) (Entry, bool) { return o.view.lookup(room) }

// Entries returns all entries as this node sees them, by room name.
func (o *Ownership) Entries() []Entry { return o.view.all() }

// Watch calls fn for every entry there is and then for every change of the local view, in order, from one goroutine that
// all watchers share and no lock is held over: fn may call any method, but should be quick. Calls begin when Run does
// and end when it returns. A call may be under way while cancel returns; none begins after.
func (o *Ownership) Watch(fn func(Event)) (cancel func()) { return o.view.watch(fn) }

func (o *Ownership) waitForView(ctx context.Context, done func(*view) bool) {
	ctx, cancel := context.WithTimeout(ctx, viewCatchUp)
	defer cancel()
	o.view.waitFor(ctx, done)
}

// call has the leader carry out c, and tries until one does or ctx ends.
func (o *Ownership) call(ctx context.Context, c command) (answer, error) {
	if err := c.validate(); err != nil {
		return answer{}, err
	}
	select {
	case <-o.begun:
	case <-ctx.Done():
		return answer{}, fmt.Errorf("%w: %w", ErrNoLeader, ctx.Err())
	}
	var last error
	var hint mesh.NodeID
	unsure := false // an attempt may have been carried out without an answer
	retry := minRetry
	for attempt := 0; ; attempt++ {
		a, err := o.attempt(ctx, c, hint, attempt)
		switch {
		case errors.Is(err, ErrClosed), errors.Is(err, ErrInvalid):
			return answer{}, err
		case err != nil:
			last, hint, unsure = err, "", true
		default:
			if a.leader == "" || a.leader == hint {
				hint = ""
			} else {
				hint = a.leader
			}
			unsure = unsure || a.code == ownershippb.Code_CODE_UNAVAILABLE
			done, err := conclude(c, a)
			if done {
				// The room this call opened without hearing of it is no existing one.
				mine := unsure && a.entry.Owner == c.node && a.entry.ID == c.id && a.entry.previousEpoch == 0
				a.existing = a.existing && !mine
				return a, err
			}
			last = err
		}
		wait := retry
		if hint != "" && attempt < 3 {
			wait = 0 // someone knows better: ask there at once
		} else {
			retry = min(2*retry, maxRetry)
		}
		if ctx.Err() != nil || !sleep(ctx, wait) {
			return answer{}, fmt.Errorf("%w: %w", errors.Join(ErrNoLeader, last), ctx.Err())
		}
	}
}

// conclude says whether an answer ends a call, and how.
func conclude(c command, a answer) (done bool, err error) {
	switch a.code {
	case ownershippb.Code_CODE_OK:
		if c.kind != opRelease && a.entry.Room != c.room {
			return false, errors.New("ownership: answer about another room")
		}
		return true, nil
	case ownershippb.Code_CODE_STALE_EPOCH:
		return true, &StaleEpochError{Current: a.entry}
	case ownershippb.Code_CODE_OWNER_ALIVE:
		return true, ErrOwnerAlive
	case ownershippb.Code_CODE_TABLE_FULL:
		return true, ErrTableFull
	case ownershippb.Code_CODE_INVALID:
		return true, fmt.Errorf("%w: refused by the leader", ErrInvalid)
	default:
		return false, fmt.Errorf("ownership: %s", a.code)
	}
}

// attempt asks one node: the one hinted at, the leader this node knows, or some live member in turn.
func (o *Ownership) attempt(ctx context.Context, c command, hint mesh.NodeID, attempt int) (answer, error) {
	r, _, err := o.running()
	if err != nil {
		return answer{}, err
	}
	target := hint
	if target == "" {
		target = o.group(r).leader
	}
	// A leader that is known and does not answer may be gone: every third attempt asks around.
	if target == "" || attempt%3 == 2 {
		target = o.someone(attempt)
	}
	ctx, cancel := context.WithTimeout(ctx, o.cfg.RequestTimeout)
	defer cancel()
	if target == o.self {
		return o.submit(ctx, o.self, c)
	}
	resp, err := o.ask(ctx, target, &ownershippb.Request{
		Version: wireVersion, ClusterId: o.clusterID(), Body: &ownershippb.Request_Command{Command: commandToProto(c)},
	})
	if err != nil {
		return answer{}, err
	}
	return answerFromProto(resp)
}

// answerFromProto returns what a node answered a command, or an error when it makes no sense.
func answerFromProto(resp *ownershippb.Response) (a answer, err error) {
	a = answer{
		code: resp.GetCode(), existing: resp.GetExisting(), index: resp.GetIndex(),
		leader: groupFromProto(resp.GetGroup()).leader,
	}
	if m := resp.GetEntry(); m != nil {
		if a.entry, err = entryFromProto(m); err != nil {
			return answer{}, err
		}
	}
	return a, nil
}

// someone returns the live members that know the group, and this node, in turn.
func (o *Ownership) someone(attempt int) mesh.NodeID {
	ids := []mesh.NodeID{o.self}
	cluster := o.clusterID()
	for _, m := range o.others() {
		if cluster != "" && m.RaftCluster == cluster {
			ids = append(ids, m.ID)
		}
	}
	slices.Sort(ids)
	return ids[attempt%len(ids)]
}

// probe asks a node what it knows of the group.
func (o *Ownership) probe(ctx context.Context, peer mesh.NodeID) (*ownershippb.Group, error) {
	ctx, cancel := context.WithTimeout(ctx, o.cfg.RequestTimeout)
	defer cancel()
	resp, err := o.ask(ctx, peer, &ownershippb.Request{
		Version: wireVersion, ClusterId: o.clusterID(), Body: &ownershippb.Request_Probe{Probe: &ownershippb.Probe{}},
	})
	if err != nil {
		return nil, err
	}
	return resp.GetGroup(), nil
}

// ask sends a request and reads the one response.
func (o *Ownership) ask(ctx context.Context, peer mesh.NodeID, req *ownershippb.Request) (*ownershippb.Response, error) {
	s, err := o.open(ctx, peer, req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = s.Close() }()
	defer context.AfterFunc(ctx, func() { _ = s.Close() })()
	resp, err := readResponse(s)
	if err != nil {
		return nil, fmt.Errorf("ownership: answer of %s: %w", peer, err)
	}
	return resp, nil
}

func readResponse(r io.Reader) (*ownershippb.Response, error) {
	resp := &ownershippb.Response{}
	if err := meshnet.ReadMessage(r, maxResponseBytes, resp); err != nil {
		return nil, err
	}
	if resp.GetVersion() == 0 {
		return nil, errVersion
	}
	return resp, nil
}

// open opens a stream of the service and sends the request.
func (o *Ownership) open(ctx context.Context, peer mesh.NodeID, req *ownershippb.Request) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, o.cfg.RequestTimeout)
	defer cancel()
	s, err := o.deps.Net.OpenService(ctx, peer, serviceName)
	if err != nil {
		return nil, fmt.Errorf("ownership: ask %s: %w", peer, err)
	}
	deadline, _ := ctx.Deadline()
	err = errors.Join(s.SetDeadline(deadline), meshnet.WriteMessage(s, req), s.SetDeadline(time.Time{}))
	if err != nil {
		_ = s.Close() // the first error is the one that tells
		return nil, fmt.Errorf("ownership: ask %s: %w", peer, err)
	}
	return s, nil
}
