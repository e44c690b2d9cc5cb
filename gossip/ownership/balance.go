package ownership

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

const (
	stepsPerTick  = 8  // changes of the configuration in a row, each committed before the next
	caughtUpDelta = 16 // log entries a staged server may lag behind and still get its vote
)

// balancer is the leader's memory of who is where and since when who is gone.
type balancer struct {
	region map[mesh.NodeID]mesh.Region
	gone   map[mesh.NodeID]time.Time
}

// voterLoop has the leader bring the Raft configuration to what chooseVoters says.
func (o *Ownership) voterLoop(ctx context.Context) {
	r, _, err := o.running()
	if err != nil {
		return
	}
	b := &balancer{region: make(map[mesh.NodeID]mesh.Region)}
	for sleep(ctx, o.cfg.VoterInterval) {
		if r.State() != raft.Leader {
			b.gone = make(map[mesh.NodeID]time.Time) // a new leader starts its clocks anew
			continue
		}
		for range stepsPerTick {
			s := chooseVoters(o.choice(ctx, r, b))
			if s.kind == stepNone || ctx.Err() != nil {
				break
			}
			if err := o.take(r, s); err != nil {
				o.log.Warn("raft configuration could not be changed", "node", s.node, "err", err)
				break
			}
		}
	}
}

// warmLoop keeps a connection from each voter to each other one.
func (o *Ownership) warmLoop(ctx context.Context) {
	r, _, err := o.running()
	if err != nil {
		return
	}
	for sleep(ctx, o.cfg.VoterInterval) {
		voters := votersOf(r)
		if !slices.Contains(voters, o.self) {
			continue
		}
		round, cancel := context.WithTimeout(ctx, o.cfg.RequestTimeout)
		var wg sync.WaitGroup
		for _, id := range voters {
			if id != o.self {
				wg.Go(func() { o.layer.warm(round, id) })
			}
		}
		wg.Wait()
		cancel()
	}
}

// choice collects what the choice of voters hangs on.
func (o *Ownership) choice(ctx context.Context, r *raft.Raft, b *balancer) choice {
	now, cluster := time.Now(), o.clusterID()
	if b.gone == nil {
		b.gone = make(map[mesh.NodeID]time.Time)
	}
	c := choice{self: o.self, replaceAfter: o.cfg.VoterReplaceAfter}
	live := make(map[mesh.NodeID]mesh.NodeInfo)
	for _, m := range o.deps.Members() {
		live[m.ID] = m
		b.region[m.ID] = m.Region
		if m.RaftCluster == cluster || m.ID == o.self {
			c.live = append(c.live, candidate{m.ID, m.Region, m.Draining})
		}
	}
	known := make(map[mesh.NodeID]bool)
	for _, rs := range r.GetConfiguration().Configuration().Servers {
		s := server{id: mesh.NodeID(rs.ID), voter: rs.Suffrage == raft.Voter}
		m, here := live[s.id]
		s.region, s.draining = b.region[s.id], m.Draining
		known[s.id] = true
		switch since, missing := b.gone[s.id]; {
		case here || s.id == o.self:
			delete(b.gone, s.id)
		case missing:
			s.gone = max(now.Sub(since), 1)
		default:
			b.gone[s.id] = now
			s.gone = 1
		}
		if !s.voter && s.gone == 0 {
			g, err := o.probe(ctx, s.id)
			s.caughtUp = err == nil && g.GetClusterId() == cluster && g.GetLastLogIndex()+caughtUpDelta >= r.LastIndex()
		}
		c.servers = append(c.servers, s)
	}
	for id := range b.region { // forget who is neither live nor a server
		if _, here := live[id]; !here && !known[id] {
			delete(b.region, id)
			delete(b.gone, id)
		}
	}
	return c
}

// take carries out one step and returns when it is committed.
func (o *Ownership) take(r *raft.Raft, s step) error {
	id, addr := raft.ServerID(s.node), raft.ServerAddress(s.node)
	timeout := o.cfg.RequestTimeout
	var future raft.Future
	switch s.kind {
	case stepStage:
		future = r.AddNonvoter(id, addr, 0, timeout)
	case stepPromote:
		future = r.AddVoter(id, addr, 0, timeout)
	case stepRemove:
		future = r.RemoveServer(id, 0, timeout)
	case stepTransfer:
		future = r.LeadershipTransferToServer(id, addr)
	default:
		return fmt.Errorf("ownership: unknown step %d", s.kind)
	}
	if err := future.Error(); err != nil {
		return err
	}
	o.log.Info("raft configuration changed", "step", s.kind.String(), "node", s.node)
	return nil
}
