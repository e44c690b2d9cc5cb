package ownership

import (
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/meshpb/ownershippb"
)

// wireVersion is the version of every message this release writes. A change that an older release would
// misunderstand raises it; a command of an unknown version leaves the table unchanged (see doc.go).
const wireVersion = 1

var errVersion = errors.New("ownership: message of an unknown version")

// encodeCommand makes what is written to the Raft log.
func encodeCommand(c command) ([]byte, error) {
	return proto.MarshalOptions{Deterministic: true}.Marshal(commandToProto(c))
}

// decodeCommand reads a log entry. Its errors are the same on every node of a release.
func decodeCommand(b []byte) (command, error) {
	m := &ownershippb.Command{}
	if err := proto.Unmarshal(b, m); err != nil {
		return command{}, fmt.Errorf("ownership: command: %w", err)
	}
	return commandFromProto(m)
}

func commandToProto(c command) *ownershippb.Command {
	m := &ownershippb.Command{Version: wireVersion}
	switch c.kind {
	case opClaim:
		m.Op = &ownershippb.Command_Claim{Claim: &ownershippb.Claim{
			Room: string(c.room), RoomId: string(c.id), Owner: string(c.node),
			CreatedUnixNano: unixNano(c.created), ConfigDigest: c.digest,
		}}
	case opRelease:
		m.Op = &ownershippb.Command_Release{Release: &ownershippb.Release{Room: string(c.room), Epoch: c.epoch}}
	case opReassign:
		m.Op = &ownershippb.Command_Reassign{Reassign: &ownershippb.Reassign{
			Room: string(c.room), Epoch: c.epoch, To: string(c.node),
		}}
	}
	return m
}

// commandFromProto returns a valid command or an error.
func commandFromProto(m *ownershippb.Command) (command, error) {
	if m.GetVersion() != wireVersion {
		return command{}, fmt.Errorf("%w: command version %d", errVersion, m.GetVersion())
	}
	var c command
	switch op := m.GetOp().(type) {
	case *ownershippb.Command_Claim:
		c = command{
			kind: opClaim, room: mesh.RoomName(op.Claim.GetRoom()), id: mesh.RoomID(op.Claim.GetRoomId()),
			node: mesh.NodeID(op.Claim.GetOwner()), created: fromUnixNano(op.Claim.GetCreatedUnixNano()),
			digest: op.Claim.GetConfigDigest(),
		}
	case *ownershippb.Command_Release:
		c = command{kind: opRelease, room: mesh.RoomName(op.Release.GetRoom()), epoch: op.Release.GetEpoch()}
	case *ownershippb.Command_Reassign:
		c = command{
			kind: opReassign, room: mesh.RoomName(op.Reassign.GetRoom()), epoch: op.Reassign.GetEpoch(),
			node: mesh.NodeID(op.Reassign.GetTo()),
		}
	}
	return c, c.validate()
}

func entryToProto(e Entry) *ownershippb.Entry {
	return &ownershippb.Entry{
		Room: string(e.Room), RoomId: string(e.ID), Owner: string(e.Owner), Epoch: e.Epoch,
		CreatedUnixNano: unixNano(e.Created), ConfigDigest: e.ConfigDigest, PreviousEpoch: e.previousEpoch,
	}
}

// entryFromProto returns a valid entry or an error.
func entryFromProto(m *ownershippb.Entry) (Entry, error) {
	e := Entry{
		Room: mesh.RoomName(m.GetRoom()), ID: mesh.RoomID(m.GetRoomId()), Owner: mesh.NodeID(m.GetOwner()),
		Epoch: m.GetEpoch(), Created: fromUnixNano(m.GetCreatedUnixNano()), ConfigDigest: m.GetConfigDigest(),
		previousEpoch: m.GetPreviousEpoch(),
	}
	c := command{kind: opClaim, room: e.Room, id: e.ID, node: e.Owner, digest: e.ConfigDigest}
	if err := c.validate(); err != nil {
		return Entry{}, err
	}
	if e.Epoch == 0 || e.previousEpoch >= e.Epoch {
		return Entry{}, fmt.Errorf("%w: entry with epoch %d after %d", ErrInvalid, e.Epoch, e.previousEpoch)
	}
	return e, nil
}

// unixNano maps the zero time to 0: every other time within 1678 to 2262 maps to its nanoseconds since 1970.
func unixNano(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func fromUnixNano(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}
