package node

import (
	"context"
	"time"

	"github.com/meridian-sfu/meridian/gossip/ownership"
	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/node/directory"
)

// owners introduces gossip/ownership to node/directory.
type owners struct {
	table *ownership.Ownership
	self  mesh.NodeID
}

var _ directory.Owners = owners{}

func directoryOwnership(e ownership.Entry) directory.Ownership {
	return directory.Ownership{Node: e.Owner, Epoch: e.Epoch, ID: e.ID, Created: e.Created}
}

// Lookup implements directory.Owners.
func (o owners) Lookup(room mesh.RoomName) (directory.Ownership, bool) {
	e, ok := o.table.Lookup(room)
	return directoryOwnership(e), ok
}

// Claim implements directory.Owners.
func (o owners) Claim(ctx context.Context, room mesh.RoomName, id mesh.RoomID, created time.Time) (directory.Ownership, error) {
	e, _, err := o.table.Claim(ctx, room, id, o.self, created, "")
	return directoryOwnership(e), err
}

// Release implements directory.Owners.
func (o owners) Release(ctx context.Context, room mesh.RoomName, epoch uint64) error {
	return o.table.Release(ctx, room, epoch)
}

// Reassign implements directory.Owners.
func (o owners) Reassign(ctx context.Context, room mesh.RoomName, epoch uint64, to mesh.NodeID) (directory.Ownership, error) {
	e, err := o.table.Reassign(ctx, room, epoch, to)
	return directoryOwnership(e), err
}

// Watch implements directory.Owners.
func (o owners) Watch(f func(mesh.RoomName, directory.Ownership, bool)) (cancel func()) {
	return o.table.Watch(func(e ownership.Event) {
		f(e.Entry.Room, directoryOwnership(e.Entry), e.Type == ownership.Set)
	})
}
