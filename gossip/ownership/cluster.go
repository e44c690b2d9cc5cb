package ownership

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/raft"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

// bind makes the data folder one of the group id, before Raft writes anything of that group there.
func (o *Ownership) bind(id string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.bound == id {
		return nil
	}
	if o.bound != "" || o.raft == nil {
		return fmt.Errorf("%w: %s", ErrForeignCluster, o.store.dir)
	}
	if err := o.store.setCluster(id); err != nil {
		return err
	}
	o.bound = id
	return nil
}

// adopt makes id the group this node belongs to, and says so in gossip.
func (o *Ownership) adopt(id string) {
	o.mu.Lock()
	o.cluster = id
	o.mu.Unlock()
	o.deps.AnnounceCluster(id)
	o.log.Info("group known", "cluster", id)
}

// clusterLoop finds the mesh's group, starts one when it may and there is none, and watches that the mesh keeps to one.
func (o *Ownership) clusterLoop(ctx context.Context) error {
	if id := o.clusterID(); id != "" {
		o.adopt(id)
	}
	start, foreignSince := time.Now(), time.Time{}
	o.setWaiting(o.cfg.Bootstrap && o.clusterID() == "")
	for first := true; first || sleep(ctx, o.cfg.StatusInterval); first = false {
		o.observe()
		members := o.others()
		mine := o.clusterID()
		winner := winningCluster(mine, members)
		switch {
		case mine == "" && winner != "":
			o.setWaiting(false)
			o.adopt(winner)
		case mine == "":
			if !o.cfg.Bootstrap || time.Since(start) < o.cfg.BootstrapWait || o.elderWaits(ctx, members) {
				continue
			}
			if err := o.bootstrap(); err != nil {
				return err
			}
		case winner == mine:
			foreignSince = time.Time{}
		case foreignSince.IsZero():
			foreignSince = time.Now()
			o.log.Warn("another group is announced in this mesh", "cluster", winner)
		case time.Since(foreignSince) < o.cfg.BootstrapWait:
		default:
			foreignSince = time.Time{}
			if err := o.yieldTo(winner, mine); err != nil {
				return err
			}
		}
	}
	return nil
}

// yieldTo leaves the group this node is in for the mesh's. A data folder is never thrown away: a node that has one stops.
func (o *Ownership) yieldTo(winner, mine string) error {
	o.mu.Lock()
	bound := o.bound != ""
	o.mu.Unlock()
	if !bound {
		o.adopt(winner)
		return nil
	}
	return fmt.Errorf("%w: %s holds group %s, but this mesh has group %s: move the folder away so that this node joins the mesh's group, or take the node out of this mesh",
		ErrForeignCluster, o.store.dir, mine, winner)
}

func (o *Ownership) setWaiting(w bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.waiting = w
}

// bootstrap starts a new group of this node alone. The folder is bound first: Raft state without a group's ID could not
// be told from another group's.
func (o *Ownership) bootstrap() error {
	id := mesh.NewID("RC_")
	if err := o.bind(id); err != nil {
		return err
	}
	r, _, err := o.running()
	if err != nil {
		return nil //nolint:nilerr // it is being stopped: there is nothing to start
	}
	me := raft.Server{Suffrage: raft.Voter, ID: raft.ServerID(o.self), Address: raft.ServerAddress(o.self)}
	if err := r.BootstrapCluster(raft.Configuration{Servers: []raft.Server{me}}).Error(); err != nil {
		return fmt.Errorf("ownership: start a group: %w", err)
	}
	o.setWaiting(false)
	o.log.Info("new group started", "cluster", id)
	o.adopt(id)
	return nil
}

// elderWaits reports whether a live node with a smaller ID would start a group too: then that one does.
func (o *Ownership) elderWaits(ctx context.Context, members []mesh.NodeInfo) bool {
	for _, m := range members {
		if m.ID >= o.self {
			continue
		}
		if g, err := o.probe(ctx, m.ID); err == nil && (g.GetWouldBootstrap() || g.GetClusterId() != "") {
			return true
		}
	}
	return false
}

// others returns the live members but this one.
func (o *Ownership) others() []mesh.NodeInfo {
	var out []mesh.NodeInfo
	for _, m := range o.deps.Members() {
		if m.ID != o.self {
			out = append(out, m)
		}
	}
	return out
}

// winningCluster returns the group most nodes announce, the one with the smaller ID when as many announce two, so that
// all who see the same members agree. This node announces mine.
func winningCluster(mine string, others []mesh.NodeInfo) string {
	votes := make(map[string]int)
	if mine != "" {
		votes[mine]++
	}
	for _, m := range others {
		if m.RaftCluster != "" {
			votes[m.RaftCluster]++
		}
	}
	winner := ""
	for id, n := range votes {
		if winner == "" || n > votes[winner] || n == votes[winner] && id < winner {
			winner = id
		}
	}
	return winner
}
