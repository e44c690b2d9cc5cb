package ownership

import (
	"context"
	"errors"
	"time"

	"github.com/hashicorp/raft"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/meshpb/ownershippb"
)

const (
	maxInFlight    = 256 // commands written to the log and not yet committed
	enqueueTimeout = time.Second
	barrierTimeout = 2 * time.Second
)

// proposal is one command on its way into the log.
type proposal struct {
	cmd       command
	requester mesh.NodeID   // proven by its certificate
	reply     chan<- answer // capacity 1
}

// committing is a command in the log, waiting for a majority.
type committing struct {
	cmd    command
	future raft.ApplyFuture
	reply  chan<- answer
}

// answer is what a command came to, here or on the leader.
type answer struct {
	code     ownershippb.Code
	entry    Entry
	existing bool
	index    uint64
	leader   mesh.NodeID // with CODE_NOT_LEADER: who leads, if known
}

// submit asks this node, as the leader, to carry out a command for requester. It returns when the command is committed,
// refused, or when ctx ends.
func (o *Ownership) submit(ctx context.Context, requester mesh.NodeID, c command) (answer, error) {
	r, loops, err := o.running()
	if err != nil {
		return answer{}, err
	}
	if err := c.validate(); err != nil {
		return answer{}, err
	}
	if r.State() != raft.Leader {
		return answer{code: ownershippb.Code_CODE_NOT_LEADER, leader: o.group(r).leader}, nil
	}
	reply := make(chan answer, 1)
	select {
	case o.proposals <- proposal{cmd: c, requester: requester, reply: reply}:
	case <-ctx.Done():
		return answer{}, ctx.Err()
	case <-loops.Done():
		return answer{}, ErrClosed
	}
	select {
	case a := <-reply:
		return a, nil
	case <-ctx.Done():
		return answer{}, ctx.Err()
	case <-loops.Done():
		return answer{}, ErrClosed
	}
}

// proposeLoop writes commands to the log, one after the other, without waiting for them to be committed.
func (o *Ownership) proposeLoop(ctx context.Context) {
	r, _, err := o.running()
	if err != nil {
		return
	}
	for {
		select {
		case <-ctx.Done():
			return
		case p := <-o.proposals:
			if p.cmd.kind == opReassign && !o.mayReassign(r, p) {
				o.m.commands.WithLabelValues(p.cmd.kind.String(), resultOwnerAlive).Inc()
				entry, _ := o.fsm.lookup(p.cmd)
				p.reply <- answer{code: ownershippb.Code_CODE_OWNER_ALIVE, entry: entry}
				continue
			}
			b, err := encodeCommand(p.cmd)
			if err != nil {
				p.reply <- answer{code: ownershippb.Code_CODE_INVALID}
				continue
			}
			select {
			case o.committed <- committing{cmd: p.cmd, future: r.Apply(b, enqueueTimeout), reply: p.reply}:
			case <-ctx.Done():
				return
			}
		}
	}
}

// mayReassign reports whether the room may be taken from its owner: the owner itself asks, or it is gone by this
// leader's own view. A room's owner at one epoch never changes, so that an entry of that epoch, once found here, is
// enough; a stale request is left to the table.
func (o *Ownership) mayReassign(r *raft.Raft, p proposal) bool {
	entry, ok := o.fsm.lookup(p.cmd)
	if !ok || entry.Epoch != p.cmd.epoch {
		// A new leader may have the entry in its log and not yet in its table.
		if r.Barrier(barrierTimeout).Error() != nil {
			return true // no longer the leader: the log says so
		}
		entry, ok = o.fsm.lookup(p.cmd)
	}
	if !ok || entry.Epoch != p.cmd.epoch {
		return true
	}
	return entry.Owner == p.requester || !o.deps.Alive(entry.Owner)
}

// commitLoop waits for commands in log order and answers who asked.
func (o *Ownership) commitLoop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case c := <-o.committed:
			c.reply <- o.finish(c) // ends when Raft commits, loses its lease or shuts down
		}
	}
}

func (o *Ownership) finish(c committing) answer {
	kind := c.cmd.kind.String()
	err := c.future.Error()
	res, ok := c.future.Response().(result)
	if err != nil || !ok {
		o.m.commands.WithLabelValues(kind, resultUnavailable).Inc()
		a := answer{code: ownershippb.Code_CODE_UNAVAILABLE}
		if errors.Is(err, raft.ErrNotLeader) {
			a.code = ownershippb.Code_CODE_NOT_LEADER
		}
		return a
	}
	o.m.commands.WithLabelValues(kind, res.outcome.String()).Inc()
	a := answer{entry: res.entry, index: res.index, code: ownershippb.Code_CODE_INVALID}
	switch res.outcome {
	case outcomeOK:
		a.code = ownershippb.Code_CODE_OK
	case outcomeExisting:
		a.code, a.existing = ownershippb.Code_CODE_OK, true
	case outcomeStale:
		a.code = ownershippb.Code_CODE_STALE_EPOCH
	case outcomeFull:
		a.code = ownershippb.Code_CODE_TABLE_FULL
	case outcomeInvalid:
	}
	return a
}
