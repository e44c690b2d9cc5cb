package directory

import (
	"context"
	"io"
	"time"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

// Service is the name of the meshnet service the directory speaks on, LossyService that of its lossy data.
const (
	Service      = "directory"
	LossyService = "directory-lossy"
)

// Deps is what a directory needs of others. All fields are required.
type Deps struct {
	Net     Network
	Owners  Owners
	Alive   func(mesh.NodeID) bool // does gossip or a link believe in the node; must not block
	Handler Handler
}

// Network gives ordered byte streams to authenticated peers. It is implemented over meshnet by [OverMeshnet].
type Network interface {
	NodeID() mesh.NodeID
	OpenService(ctx context.Context, peer mesh.NodeID, name string) (io.ReadWriteCloser, error)
	HandleService(name string, h func(peer mesh.NodeID, s io.ReadWriteCloser))
}

// Ownership says which node sequences a room, under which fencing token.
type Ownership struct {
	Node    mesh.NodeID
	Epoch   uint64 // only grows for a room name
	ID      mesh.RoomID
	Created time.Time
}

// Owners is the replicated table of rooms. Lookup must not block; the others may and honour ctx.
type Owners interface {
	// Lookup returns the entry as this node last heard of it.
	Lookup(room mesh.RoomName) (Ownership, bool)
	// Claim makes this node the owner unless the room has one; it returns the entry that holds then.
	Claim(ctx context.Context, room mesh.RoomName, id mesh.RoomID, created time.Time) (Ownership, error)
	// Release gives the entry back if its epoch is the given one.
	Release(ctx context.Context, room mesh.RoomName, epoch uint64) error
	// Reassign moves the entry if its epoch is the given one; it returns the entry that holds then.
	Reassign(ctx context.Context, room mesh.RoomName, epoch uint64, to mesh.NodeID) (Ownership, error)
	// Watch calls f for every change, in order; f does not block. ok is false when the entry is gone.
	Watch(f func(room mesh.RoomName, o Ownership, ok bool)) (cancel func())
}

// Handler is told what happened to rooms elsewhere. It is called from one goroutine per room, in order, with no lock
// held; it may call the Handle and must not block: while it does, this room and the streams that feed it wait.
type Handler interface {
	// RoomChanged: the room as a whole changed (owner, ID, metadata, settings).
	RoomChanged(r mesh.Room)
	// Participants: records of participants on other nodes; StateDisconnected means gone.
	Participants(room mesh.RoomName, changed []mesh.Participant)
	// Command: the owner asks the edge of participant id to do something to it.
	Command(room mesh.RoomName, id mesh.ParticipantID, c Command)
	// Data: a message from a participant on another node (or, with no Sender, from the server API).
	Data(room mesh.RoomName, m mesh.DataMessage)
	// Ended: the room is over; its Handles do nothing from now on. reason is one of the Reason constants.
	Ended(room mesh.RoomName, reason int32)
}
