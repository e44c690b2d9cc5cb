package directory

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

// publish brings every node with quorum up to date with the table.
func (c *cluster) publish() {
	type note struct {
		n    *node
		name mesh.RoomName
		o    Ownership
		ok   bool
	}
	var notes []note
	c.mu.Lock()
	for _, n := range c.nodes {
		if n.dead || !n.quorum {
			continue
		}
		for name, o := range c.table {
			if n.view[name] != o {
				n.view[name] = o
				notes = append(notes, note{n, name, o, true})
			}
		}
		for name, o := range n.view {
			if _, ok := c.table[name]; !ok {
				delete(n.view, name)
				notes = append(notes, note{n, name, o, false})
			}
		}
	}
	c.mu.Unlock()
	for _, x := range notes {
		c.mu.Lock()
		watchers := slices.Clone(x.n.watchers)
		c.mu.Unlock()
		for _, w := range watchers {
			w(x.name, x.o, x.ok)
		}
	}
}

var errQuorum = errors.New("no quorum")

// table runs f on the table as Raft would: with quorum, one at a time, 20 ms away.
func (n *node) commit(ctx context.Context, name mesh.RoomName, f func(Ownership, bool) (Ownership, bool)) (Ownership, error) {
	wait(ctx, 20*time.Millisecond)
	n.c.mu.Lock()
	if !n.quorum || n.dead {
		n.c.mu.Unlock()
		<-ctx.Done()
		return Ownership{}, errQuorum
	}
	o, ok := n.c.table[name]
	if o, ok = f(o, ok); ok {
		n.c.table[name] = o
	} else {
		delete(n.c.table, name)
	}
	n.c.mu.Unlock()
	n.c.publish()
	return o, nil
}

func (n *node) Claim(ctx context.Context, room mesh.RoomName, id mesh.RoomID, created time.Time) (Ownership, error) {
	return n.commit(ctx, room, func(o Ownership, ok bool) (Ownership, bool) {
		if !ok {
			n.c.epoch++
			o = Ownership{Node: n.id, Epoch: n.c.epoch, ID: id, Created: created}
		}
		return o, true
	})
}

func (n *node) Release(ctx context.Context, room mesh.RoomName, epoch uint64) error {
	_, err := n.commit(ctx, room, func(o Ownership, ok bool) (Ownership, bool) { return o, ok && o.Epoch != epoch })
	return err
}

func (n *node) Reassign(ctx context.Context, room mesh.RoomName, epoch uint64, to mesh.NodeID) (Ownership, error) {
	return n.commit(ctx, room, func(o Ownership, ok bool) (Ownership, bool) {
		if ok && o.Epoch == epoch {
			n.c.epoch++
			o.Node, o.Epoch = to, n.c.epoch
		}
		return o, ok
	})
}

func (n *node) Lookup(room mesh.RoomName) (Ownership, bool) {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	o, ok := n.view[room]
	return o, ok
}

func (n *node) Watch(f func(mesh.RoomName, Ownership, bool)) func() {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	n.watchers = append(n.watchers, f)
	return func() {}
}
