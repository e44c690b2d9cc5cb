package gossip

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

const (
	updateEvery    = time.Second
	introduceEvery = time.Second
	// twinWindow is how young a node must be to give way to another process of its ID. An older one stays and complains:
	// a newcomer with a copied certificate must not end a working node.
	twinWindow = 30 * time.Second
)

// Run joins the mesh and watches it until ctx ends, then says goodbye (at most Config.LeaveTimeout) and returns after
// its last goroutine. The mesh network must run all the while. It returns nil when ctx ended, ErrNameConflict if it
// finds another live process of its ID soon after its start, and runs once.
func (g *Gossip) Run(ctx context.Context) error {
	if g.ran.Swap(true) {
		return errors.New("gossip: Run may be called once")
	}
	mc := g.cfg.memberlist()
	mc.Name = string(g.self.Load().ID)
	mc.Transport = g.transport
	mc.LogOutput, mc.Logger = nil, newLogBridge(g.log)
	d := delegate{g}
	mc.Delegate, mc.Events, mc.Alive, mc.Conflict, mc.Ping = d, d, d, d, g.coords
	if g.cfg.tune != nil {
		g.cfg.tune(mc)
	}
	g.transport.open()
	m, err := memberlist.Create(mc)
	if err != nil {
		return errors.Join(fmt.Errorf("gossip: start: %w", err), g.transport.Shutdown())
	}
	g.list.Store(m)

	inner, stop := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { g.join(inner, m) })
	wg.Go(func() { g.update(inner, m) })
	wg.Go(func() { g.events.run(inner) })
	wg.Go(func() {
		if err := g.watchTwins(inner, m); err != nil {
			stop(err)
		}
	})
	<-inner.Done()
	cause := context.Cause(inner)
	stop(nil)
	if !errors.Is(cause, ErrNameConflict) { // a goodbye of ours would be taken for our twin's
		g.leave(m, mc.GossipInterval)
	}
	g.list.Store(nil)
	err = m.Shutdown()
	wg.Wait()
	if errors.Is(cause, ErrNameConflict) {
		return cause
	}
	return err
}

// leave tells everyone that this node goes on purpose, then makes memberlist say so.
func (g *Gossip) leave(m *memberlist.Memberlist, gossipInterval time.Duration) {
	if g.count() == 1 {
		return
	}
	deadline := time.Now().Add(g.cfg.LeaveTimeout)
	bye := notice{g.self.Load().ID}
	g.notices.QueueBroadcast(bye)
	for _, n := range g.Members() { // memberlist's own hands out what it goes on writing to
		if n.ID != bye.id {
			to := memberlist.Address{Addr: n.MeshAddr.String(), Name: string(n.ID)}
			_ = m.SendToAddress(to, bye.Message()) // only queues
		}
	}
	time.Sleep(min(gossipInterval, g.cfg.LeaveTimeout/4)) // the notice shall arrive before the going
	if err := m.Leave(time.Until(deadline)); err != nil {
		g.log.Debug("goodbye may not have reached everyone", "err", err)
	}
}

// update tells others what changed of this node, at most once per updateEvery.
func (g *Gossip) update(ctx context.Context, m *memberlist.Memberlist) {
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-pause.C:
		}
		select {
		case <-ctx.Done():
			return
		case <-g.dirty:
		}
		_ = m.UpdateNode(time.Millisecond) // its one error is not having waited: the broadcast goes out by itself
		pause.Reset(updateEvery)
	}
}

// watchTwins looks who answers where somebody else claims this node's ID.
//
// Nobody answering means an earlier life of this node that others do not know dead yet: then it says who it is until they
// believe it, because they would else hear it only by chance.
func (g *Gossip) watchTwins(ctx context.Context, m *memberlist.Memberlist) error {
	started := time.Now()
	for {
		var at netip.AddrPort
		select {
		case <-ctx.Done():
			return nil
		case at = <-g.twins:
		}
		dialCtx, cancel := context.WithTimeout(ctx, dialTimeout)
		twin := g.transport.twinAt(dialCtx, at)
		cancel()
		if !twin {
			g.log.Debug("stale or own address claims this node's ID", "addr", at)
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(introduceEvery):
			}
			g.introduce(m)
			continue
		}
		g.metrics.conflicts.Inc()
		g.log.Error("another live process bears this node's ID: issue it a certificate of its own",
			"node", g.self.Load().ID, "addr", at)
		if time.Since(started) < twinWindow {
			return fmt.Errorf("gossip: %w: %s answers at %s", ErrNameConflict, g.self.Load().ID, at)
		}
	}
}

// introduce exchanges views with one member; another claim of our ID in its view calls watchTwins again.
func (g *Gossip) introduce(m *memberlist.Memberlist) {
	self := g.self.Load().ID
	others := slices.DeleteFunc(g.Members(), func(n mesh.NodeInfo) bool { return n.ID == self })
	if len(others) == 0 {
		return
	}
	to := others[rand.IntN(len(others))]
	if _, err := m.Join([]string{to.MeshAddr.String()}); err != nil {
		g.log.Debug("member not reached", "node", to.ID, "err", err)
	}
}
