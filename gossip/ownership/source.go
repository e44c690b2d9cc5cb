package ownership

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/proto"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/meshnet"
	"github.com/meridian-sfu/meridian/internal/meshpb/ownershippb"
)

const maxFollowBackoff = time.Second

var errRefused = errors.New("ownership: watch refused")

// sourceLoop keeps the view fed: from this node's own table while it votes, from a voter's otherwise.
func (o *Ownership) sourceLoop(ctx context.Context) {
	r, _, err := o.running()
	if err != nil {
		return
	}
	backoff := o.cfg.StatusInterval / 4
	for ctx.Err() == nil {
		if o.usable(r) {
			o.followOwn(ctx, r)
			backoff = o.cfg.StatusInterval / 4
			continue
		}
		if peer, ok := o.choosePeer(r); ok {
			start := time.Now()
			if err := o.followPeer(ctx, r, peer); err != nil && ctx.Err() == nil {
				o.log.Debug("watch of a voter ended", "node", peer, "err", err)
			}
			if time.Since(start) > o.silence() {
				backoff = o.cfg.StatusInterval / 4
			}
		}
		if !sleep(ctx, backoff) {
			return
		}
		backoff = min(2*backoff, maxFollowBackoff)
	}
}

// usable reports whether this node's own table is current: it votes, knows a leader, and has applied what it knows to be
// committed. Before that the table is history, and showing it would tell of rooms long gone.
func (o *Ownership) usable(r *raft.Raft) bool {
	_, votes := o.own(r)
	commit := r.CommitIndex()
	return votes && commit > 0 && r.AppliedIndex() >= commit
}

// followOwn feeds the view from this node's table until it no longer votes or has been without a leader for so long that
// it may have been voted out without hearing of it.
func (o *Ownership) followOwn(ctx context.Context, r *raft.Raft) {
	o.setAttached(true)
	defer o.setAttached(false)
	sub := o.fsm.subscribe()
	defer sub.close()
	tick := time.NewTicker(o.cfg.StatusInterval)
	defer tick.Stop()
	patience := 2*o.cfg.ElectionTimeout + o.silence()
	ledAt := time.Now()
	for {
		for b, ok := sub.take(); ok; b, ok = sub.take() {
			o.feed(b)
		}
		g, ok := o.own(r)
		switch {
		case ok:
			ledAt = time.Now()
		case !slices.Contains(g.voters, o.self), time.Since(ledAt) > patience:
			return
		}
		select {
		case <-sub.wake:
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (o *Ownership) feed(b batch) {
	o.m.epochs.Add(float64(o.view.apply(o.clusterID(), b)))
}

func (o *Ownership) setAttached(a bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.attached = a
}

func (o *Ownership) isAttached() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.attached
}

// choosePeer returns a node to watch: a live voter of this region, a live voter, or any live node that knows the group
// and may know the voters.
func (o *Ownership) choosePeer(r *raft.Raft) (mesh.NodeID, bool) {
	cluster := o.clusterID()
	if cluster == "" {
		return "", false
	}
	voters := o.group(r).voters
	var region mesh.Region
	var live []mesh.NodeInfo
	for _, m := range o.deps.Members() {
		switch {
		case m.ID == o.self:
			region = m.Region
		case m.RaftCluster == cluster:
			live = append(live, m)
		}
	}
	if len(live) == 0 {
		return "", false
	}
	rand.Shuffle(len(live), func(i, j int) { live[i], live[j] = live[j], live[i] })
	cost := func(m mesh.NodeInfo) int {
		switch {
		case slices.Contains(voters, m.ID) && m.Region == region:
			return 0
		case slices.Contains(voters, m.ID):
			return 1
		}
		return 2
	}
	// One attempt in four ignores what is known: the voters may all have been replaced.
	if rand.IntN(4) == 0 {
		return live[0].ID, true
	}
	best := slices.MinFunc(live, func(a, b mesh.NodeInfo) int { return cost(a) - cost(b) })
	return best.ID, true
}

// followPeer feeds the view from a voter until the stream ends, the voter falls silent, or this node's own table is
// current.
func (o *Ownership) followPeer(ctx context.Context, r *raft.Raft, peer mesh.NodeID) error {
	cluster := o.clusterID()
	s, err := o.open(ctx, peer, &ownershippb.Request{
		Version: wireVersion, ClusterId: cluster, Body: &ownershippb.Request_Watch{Watch: &ownershippb.Watch{}},
	})
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }()
	defer context.AfterFunc(ctx, func() { _ = s.Close() })()
	patience := max(o.silence(), o.cfg.RequestTimeout) // the first frame takes a round trip and more
	var whole []Entry
	for ctx.Err() == nil && !o.usable(r) && o.clusterID() == cluster {
		f := &ownershippb.WatchFrame{}
		err := errors.Join(s.SetReadDeadline(time.Now().Add(patience)), meshnet.ReadMessage(s, maxFrameBytes, f))
		if err != nil {
			return err
		}
		patience = o.silence()
		if refusal := f.GetRefusal(); refusal != nil {
			o.hear(refusal.GetGroup())
			return fmt.Errorf("%w: %s", errRefused, refusal.GetCode())
		}
		if g := f.GetGroup(); g != nil {
			o.hear(g)
		}
		b, err := batchFromFrame(f, &whole)
		if err != nil {
			return err
		}
		if b.reset || len(b.changes) > 0 {
			o.view.apply(cluster, b)
		}
	}
	return nil
}

// hear notes what a voter said of the group.
func (o *Ownership) hear(m *ownershippb.Group) {
	g := groupFromProto(m)
	g.heard = time.Now()
	o.mu.Lock()
	defer o.mu.Unlock()
	if m.GetClusterId() == o.cluster && len(g.voters) > 0 {
		o.remote = g
	}
}

// batchFromFrame checks a frame and adds it to a whole table in the making; the batch is empty until that is complete.
func batchFromFrame(f *ownershippb.WatchFrame, whole *[]Entry) (batch, error) {
	if f.GetVersion() == 0 {
		return batch{}, errVersion
	}
	b := batch{index: f.GetIndex()}
	for _, m := range f.GetSet() {
		e, err := entryFromProto(m)
		if err != nil {
			return batch{}, err
		}
		if f.GetReset_() {
			*whole = append(*whole, e)
			continue
		}
		b.changes = append(b.changes, change{room: e.Room, entry: e, index: f.GetIndex()})
	}
	if len(*whole) > MaxEntries {
		return batch{}, fmt.Errorf("%w: table of more than %d entries", ErrInvalid, MaxEntries)
	}
	for _, name := range f.GetRemoved() {
		room, err := mesh.ParseRoomName(name)
		if err != nil {
			return batch{}, err
		}
		b.changes = append(b.changes, change{room: room, removed: true, index: f.GetIndex()})
	}
	if len(b.changes) > 1 {
		return batch{}, fmt.Errorf("%w: %d changes at one index", ErrInvalid, len(b.changes))
	}
	if f.GetReset_() && !f.GetMore() {
		b.reset, b.entries = true, *whole
		*whole = nil
	}
	return b, nil
}

// writeFrame sends one message within frameWriteTimeout.
func (o *Ownership) writeFrame(s net.Conn, m proto.Message) error {
	if err := s.SetWriteDeadline(time.Now().Add(frameWriteTimeout)); err != nil {
		return err
	}
	return meshnet.WriteMessage(s, m)
}
