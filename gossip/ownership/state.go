package ownership

import (
	"fmt"
	"maps"
	"time"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

// opKind says what a command asks for.
type opKind uint8

const (
	opClaim opKind = iota + 1
	opRelease
	opReassign
)

func (k opKind) String() string {
	switch k {
	case opClaim:
		return "claim"
	case opRelease:
		return "release"
	case opReassign:
		return "reassign"
	}
	return "unknown"
}

// command is one change asked of the table. It carries its own time: the table has no clock.
type command struct {
	kind    opKind
	room    mesh.RoomName
	epoch   uint64      // release, reassign: the epoch the room must have
	node    mesh.NodeID // claim: the candidate; reassign: the new owner
	id      mesh.RoomID // claim
	created time.Time   // claim
	digest  string      // claim
}

// validate reports why c could never be accepted. Its errors wrap ErrInvalid.
func (c command) validate() error {
	if _, err := mesh.ParseRoomName(string(c.room)); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	switch c.kind {
	case opClaim, opReassign:
		if _, err := mesh.ParseNodeID(string(c.node)); err != nil {
			return fmt.Errorf("%w: %w", ErrInvalid, err)
		}
	case opRelease:
	default:
		return fmt.Errorf("%w: unknown command", ErrInvalid)
	}
	switch {
	case len(c.id) > maxRoomIDBytes:
		return fmt.Errorf("%w: room ID has %d bytes, at most %d are allowed", ErrInvalid, len(c.id), maxRoomIDBytes)
	case len(c.digest) > MaxDigestBytes:
		return fmt.Errorf("%w: digest has %d bytes, at most %d are allowed", ErrInvalid, len(c.digest), MaxDigestBytes)
	case c.kind != opClaim && c.epoch == 0:
		return fmt.Errorf("%w: epoch is 0", ErrInvalid)
	}
	return nil
}

// outcome says how a command ended.
type outcome uint8

const (
	outcomeOK       outcome = iota + 1
	outcomeExisting         // claim: the room was open
	outcomeStale            // release, reassign: the room has another epoch, or none
	outcomeFull             // claim: MaxEntries rooms are open
	outcomeInvalid          // the command makes no sense, or is of a version this release does not know
)

func (o outcome) String() string {
	switch o {
	case outcomeOK:
		return "ok"
	case outcomeExisting:
		return "existing"
	case outcomeStale:
		return "stale_epoch"
	case outcomeFull:
		return "table_full"
	case outcomeInvalid:
		return "invalid"
	}
	return "unknown"
}

// result is what a command came to.
type result struct {
	outcome outcome
	entry   Entry // the room's entry after the command; zero when it has none
	changed bool  // the table is another one now
	removed bool  // changed by removing
	index   uint64
}

// table is the replicated state. It is pure: equal commands in equal order make equal tables on every node.
// Invariant: epoch ≥ the epoch of every entry, and it never falls.
type table struct {
	epoch   uint64 // the highest epoch ever given
	index   uint64 // Raft index of the last command
	entries map[mesh.RoomName]Entry
}

func newTable() *table {
	return &table{entries: make(map[mesh.RoomName]Entry)}
}

// apply carries out c, the command at the given Raft index.
func (t *table) apply(index uint64, c command) result {
	t.index = index
	r := t.applyCommand(c)
	r.index = index
	return r
}

func (t *table) applyCommand(c command) result {
	if c.validate() != nil {
		return result{outcome: outcomeInvalid}
	}
	current, open := t.entries[c.room]
	switch c.kind {
	case opClaim:
		if open {
			return result{outcome: outcomeExisting, entry: current}
		}
		if len(t.entries) >= MaxEntries {
			return result{outcome: outcomeFull}
		}
		return t.set(Entry{Room: c.room, ID: c.id, Owner: c.node, Created: c.created, ConfigDigest: c.digest})
	case opRelease:
		switch {
		case !open:
			return result{outcome: outcomeOK} // a repeated release answers as the first did
		case current.Epoch != c.epoch:
			return result{outcome: outcomeStale, entry: current}
		}
		delete(t.entries, c.room)
		return result{outcome: outcomeOK, changed: true, removed: true}
	case opReassign:
		if !open {
			return result{outcome: outcomeStale}
		}
		if current.previousEpoch == c.epoch && current.Owner == c.node {
			return result{outcome: outcomeOK, entry: current} // a repeated reassign answers as the first did
		}
		if current.Epoch != c.epoch {
			return result{outcome: outcomeStale, entry: current}
		}
		next := current
		next.Owner, next.previousEpoch = c.node, current.Epoch
		return t.set(next)
	}
	return result{outcome: outcomeInvalid}
}

// set stores e under the next epoch.
func (t *table) set(e Entry) result {
	t.epoch++
	e.Epoch = t.epoch
	t.entries[e.Room] = e
	return result{outcome: outcomeOK, entry: e, changed: true}
}

func (t *table) clone() *table {
	return &table{epoch: t.epoch, index: t.index, entries: maps.Clone(t.entries)}
}
