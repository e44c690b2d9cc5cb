package ownership

import (
	"errors"
	"fmt"
	"time"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

// Entry says who owns a room, and since which epoch. It is a value: nothing in it is shared.
type Entry struct {
	Room         mesh.RoomName
	ID           mesh.RoomID // one life of the room
	Owner        mesh.NodeID
	Epoch        uint64    // fencing token: unique over all rooms and all time, never 0
	Created      time.Time // when the room was opened, by the clock of the node that claimed it
	ConfigDigest string    // digest of the room's configuration, as the claimer gave it; at most MaxDigestBytes

	previousEpoch uint64 // the epoch a Reassign took the room from, 0 after a Claim
}

// Limits of the table. They bound memory, snapshots and every message.
const (
	MaxEntries     = 200_000 // rooms open at once in the whole mesh
	MaxDigestBytes = 128     // bytes of Entry.ConfigDigest
	maxRoomIDBytes = 64      // bytes of Entry.ID
)

// Errors callers branch on.
var (
	// ErrNoLeader is returned, together with the context's error, when no leader answered while the context lasted.
	// The command may have been carried out all the same.
	ErrNoLeader = errors.New("ownership: no leader")
	// ErrStaleEpoch is wrapped by *StaleEpochError.
	ErrStaleEpoch = errors.New("ownership: stale epoch")
	// ErrOwnerAlive is returned by Reassign when the leader still sees the owner alive.
	ErrOwnerAlive = errors.New("ownership: owner is alive")
	// ErrTableFull is returned by Claim when MaxEntries rooms are open.
	ErrTableFull = errors.New("ownership: table is full")
	// ErrInvalid is wrapped by errors about arguments that could never be accepted.
	ErrInvalid = errors.New("ownership: invalid argument")
	// ErrForeignCluster is wrapped by the error of Run when the data folder belongs to another Raft group.
	ErrForeignCluster = errors.New("ownership: data folder belongs to another group")
	// ErrClosed is returned by calls on an Ownership that has stopped.
	ErrClosed = errors.New("ownership: stopped")
)

// StaleEpochError says that a room is not at the epoch the caller named. It matches ErrStaleEpoch.
type StaleEpochError struct {
	Current Entry // the entry as it stands; zero (Epoch 0) when the room has none
}

// Error implements error.
func (e *StaleEpochError) Error() string {
	if e.Current.Epoch == 0 {
		return ErrStaleEpoch.Error() + ": the room is not open"
	}
	return fmt.Sprintf("%s: the room is at epoch %d, owner %s", ErrStaleEpoch, e.Current.Epoch, e.Current.Owner)
}

// Is reports whether target is ErrStaleEpoch.
func (e *StaleEpochError) Is(target error) bool { return target == ErrStaleEpoch }

// EventType says what happened to a room's entry.
type EventType uint8

// The event types.
const (
	Set     EventType = iota + 1 // the room has a new or changed entry
	Removed                      // the room has no entry any more
)

// Event is one change of the local view. Changes of one room that follow each other faster than the watcher takes
// them are merged into one: the latest wins, and epochs only grow.
type Event struct {
	Type     EventType
	Entry    Entry // as it is now; for Removed, what was removed
	Previous Entry // what this watcher was told last of the room; zero (Epoch 0) when it was told nothing
}

// Role says how a node takes part.
type Role string

// The roles.
const (
	RoleLeader   Role = "leader"
	RoleFollower Role = "follower"
	RoleWatcher  Role = "watcher" // no voter: it asks and watches one
)

// Status is what this node knows of the group. All of it may lag.
type Status struct {
	Ready     bool // a leader is known
	Leader    mesh.NodeID
	Term      uint64
	Voters    []mesh.NodeID // sorted
	Role      Role
	Applied   uint64 // Raft index of the last command in the local view
	ClusterID string // empty until the node knows a group
	Entries   int    // rooms in the local view
}
