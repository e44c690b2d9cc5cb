package ownership

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/proto"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/meshpb/ownershippb"
)

var t0 = time.Unix(1_700_000_000, 123).UTC()

func claim(room mesh.RoomName, node mesh.NodeID) command {
	return command{kind: opClaim, room: room, id: "RM_1", node: node, created: t0, digest: "d"}
}

func release(room mesh.RoomName, epoch uint64) command {
	return command{kind: opRelease, room: room, epoch: epoch}
}

func reassign(room mesh.RoomName, epoch uint64, to mesh.NodeID) command {
	return command{kind: opReassign, room: room, epoch: epoch, node: to}
}

func TestTableApply(t *testing.T) {
	e := func(owner mesh.NodeID, epoch, previous uint64) Entry {
		return Entry{
			Room: "r", ID: "RM_1", Owner: owner, Epoch: epoch, Created: t0, ConfigDigest: "d", previousEpoch: previous,
		}
	}
	for _, tc := range []struct {
		name   string
		before []command
		cmd    command
		want   outcome
		entry  Entry
		change bool
	}{
		{"claim opens", nil, claim("r", "a"), outcomeOK, e("a", 1, 0), true},
		{"claim of an open room returns it", []command{claim("r", "a")}, claim("r", "b"), outcomeExisting, e("a", 1, 0), false},
		{"another room takes the next epoch", []command{claim("x", "a")}, claim("r", "a"), outcomeOK, e("a", 2, 0), true},
		{"release ends", []command{claim("r", "a")}, release("r", 1), outcomeOK, Entry{}, true},
		{"release of another epoch", []command{claim("r", "a")}, release("r", 2), outcomeStale, e("a", 1, 0), false},
		{"release twice", []command{claim("r", "a"), release("r", 1)}, release("r", 1), outcomeOK, Entry{}, false},
		{
			"reopened room has a higher epoch",
			[]command{claim("r", "a"), release("r", 1)},
			claim("r", "b"), outcomeOK, e("b", 2, 0), true,
		},
		{"reassign", []command{claim("r", "a")}, reassign("r", 1, "b"), outcomeOK, e("b", 2, 1), true},
		{
			"reassign repeated",
			[]command{claim("r", "a"), reassign("r", 1, "b")},
			reassign("r", 1, "b"), outcomeOK, e("b", 2, 1), false,
		},
		{
			"reassign raced",
			[]command{claim("r", "a"), reassign("r", 1, "b")},
			reassign("r", 1, "c"), outcomeStale, e("b", 2, 1), false,
		},
		{"reassign of a closed room", nil, reassign("r", 1, "b"), outcomeStale, Entry{}, false},
		{"no room name", nil, claim("", "a"), outcomeInvalid, Entry{}, false},
		{"room name of 10 kB", nil, claim(mesh.RoomName(strings.Repeat("x", 10_000)), "a"), outcomeInvalid, Entry{}, false},
		{"no node", nil, claim("r", ""), outcomeInvalid, Entry{}, false},
		{"unknown command", nil, command{}, outcomeInvalid, Entry{}, false},
		{"epoch 0", []command{claim("r", "a")}, release("r", 0), outcomeInvalid, Entry{}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tb := newTable()
			for i, c := range tc.before {
				tb.apply(uint64(i+1), c)
			}
			before := tb.clone()
			got := tb.apply(50, tc.cmd)
			require.Equal(t, tc.want, got.outcome, got.outcome.String())
			require.Equal(t, tc.entry, got.entry)
			require.Equal(t, tc.change, got.changed)
			require.Equal(t, uint64(50), got.index)
			if !tc.change {
				require.Equal(t, before.entries, tb.entries)
				require.Equal(t, before.epoch, tb.epoch)
			}
		})
	}
}

// Epochs only grow, per room and over the table, whatever the commands; equal commands make equal tables.
func TestTableEpochsOnlyGrow(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	a, b := newTable(), newTable()
	last := make(map[mesh.RoomName]uint64)
	owners := make(map[uint64]Entry)
	for i := range 5000 {
		room := mesh.RoomName(fmt.Sprintf("r%d", rng.IntN(5)))
		node := mesh.NodeID(fmt.Sprintf("n%d", rng.IntN(4)))
		epoch := a.entries[room].Epoch + uint64(rng.IntN(2))
		c := []command{claim(room, node), release(room, epoch), reassign(room, epoch, node)}[rng.IntN(3)]
		top := a.epoch
		r := a.apply(uint64(i), c)
		require.Equal(t, r, b.apply(uint64(i), c))
		require.GreaterOrEqual(t, a.epoch, top)
		if r.changed && !r.removed {
			require.Greater(t, r.entry.Epoch, last[room])
			require.NotContains(t, owners, r.entry.Epoch)
			last[room], owners[r.entry.Epoch] = r.entry.Epoch, r.entry
		}
	}
	require.Equal(t, a, b)
}

func TestTableIsBounded(t *testing.T) {
	tb := newTable()
	for i := range MaxEntries {
		tb.entries[mesh.RoomName(fmt.Sprint(i))] = Entry{}
	}
	require.Equal(t, outcomeFull, tb.apply(1, claim("r", "a")).outcome)
	require.Equal(t, outcomeExisting, tb.apply(2, claim("7", "a")).outcome)
}

func TestCommandRoundTrip(t *testing.T) {
	for _, c := range []command{claim("räum", "a"), release("r", 9), reassign("r", 9, "b"), {kind: opClaim, room: "r", node: "a"}} {
		b, err := encodeCommand(c)
		require.NoError(t, err)
		got, err := decodeCommand(b)
		require.NoError(t, err)
		require.Equal(t, c, got)
	}
}

func TestCommandOfAnotherVersionIsRefused(t *testing.T) {
	m := commandToProto(claim("r", "a"))
	m.Version = wireVersion + 1
	b, err := proto.Marshal(m)
	require.NoError(t, err)
	_, err = decodeCommand(b)
	require.ErrorIs(t, err, errVersion)
}

func sample(n int) *table {
	tb := newTable()
	for i := range n {
		tb.apply(uint64(3*i+1), claim(mesh.RoomName(fmt.Sprintf("room-%d", i)), "a"))
	}
	tb.apply(uint64(3*n+1), reassign("room-0", 1, "b"))
	tb.apply(uint64(3*n+2), release("room-1", 2))
	return tb
}

func TestSnapshotRoundTrip(t *testing.T) {
	for _, tb := range []*table{newTable(), sample(1), sample(500)} {
		var buf, again bytes.Buffer
		require.NoError(t, writeSnapshot(&buf, tb))
		raw := bytes.Clone(buf.Bytes())
		got, err := readSnapshot(&buf)
		require.NoError(t, err)
		require.Equal(t, tb, got)
		require.NoError(t, writeSnapshot(&again, got))
		require.Equal(t, raw, again.Bytes(), "equal tables make equal snapshots")
	}
}

func TestSnapshotRefusesWhatIsWrong(t *testing.T) {
	write := func(head *ownershippb.SnapshotHeader, entries ...*ownershippb.Entry) []byte {
		var b bytes.Buffer
		_, err := protodelim.MarshalTo(&b, head)
		require.NoError(t, err)
		for _, e := range entries {
			_, err := protodelim.MarshalTo(&b, e)
			require.NoError(t, err)
		}
		return b.Bytes()
	}
	head := func(epoch, n uint64) *ownershippb.SnapshotHeader {
		return &ownershippb.SnapshotHeader{Version: wireVersion, Epoch: epoch, Entries: n}
	}
	e := func(room string, epoch uint64) *ownershippb.Entry {
		return &ownershippb.Entry{Room: room, Owner: "a", Epoch: epoch}
	}
	for name, raw := range map[string][]byte{
		"empty":            nil,
		"other version":    write(&ownershippb.SnapshotHeader{Version: 9}),
		"too many entries": write(head(1, MaxEntries+1)),
		"short":            write(head(2, 2), e("r", 1)),
		"long":             write(head(2, 1), e("r", 1), e("s", 2)),
		"room twice":       write(head(2, 2), e("r", 1), e("r", 2)),
		"epoch twice":      write(head(2, 2), e("r", 1), e("s", 1)),
		"epoch too high":   write(head(1, 1), e("r", 2)),
		"epoch 0":          write(head(1, 1), e("r", 0)),
		"message too long": write(head(1, 1), &ownershippb.Entry{Room: strings.Repeat("x", maxSnapshotMessageBytes)}),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := readSnapshot(bytes.NewReader(raw))
			require.Error(t, err)
		})
	}
}

func FuzzDecodeCommand(f *testing.F) {
	for _, c := range []command{claim("r", "a"), release("r", 9), reassign("r", 9, "b")} {
		b, err := encodeCommand(c)
		require.NoError(f, err)
		f.Add(b)
	}
	f.Add([]byte{0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := decodeCommand(b)
		tb := newTable()
		r := tb.apply(1, c)
		if err == nil {
			require.NotEqual(t, outcomeInvalid, r.outcome)
			again, err := encodeCommand(c)
			require.NoError(t, err)
			back, err := decodeCommand(again)
			require.NoError(t, err)
			require.Equal(t, c, back)
		}
	})
}

func FuzzReadSnapshot(f *testing.F) {
	for _, tb := range []*table{newTable(), sample(3)} {
		var b bytes.Buffer
		require.NoError(f, writeSnapshot(&b, tb))
		f.Add(b.Bytes())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		tb, err := readSnapshot(bytes.NewReader(b))
		if err != nil {
			return
		}
		var again bytes.Buffer
		require.NoError(t, writeSnapshot(&again, tb))
		back, err := readSnapshot(&again)
		require.NoError(t, err)
		require.Equal(t, tb, back)
	})
}

func FuzzWatchFrame(f *testing.F) {
	for _, m := range []*ownershippb.WatchFrame{
		{Version: 1, Reset_: true, Index: 4, Set: []*ownershippb.Entry{entryToProto(sample(1).entries["room-0"])}},
		{Version: 1, Index: 5, Removed: []string{"r"}},
		{Version: 1, Group: &ownershippb.Group{Leader: "a", Voters: []string{"a", "B!"}}},
	} {
		b, err := proto.Marshal(m)
		require.NoError(f, err)
		f.Add(b)
	}
	f.Fuzz(func(_ *testing.T, b []byte) {
		m := &ownershippb.WatchFrame{}
		if proto.Unmarshal(b, m) != nil {
			return
		}
		var whole []Entry
		batch, err := batchFromFrame(m, &whole)
		groupFromProto(m.GetGroup())
		if err == nil {
			newView().apply("RC_x", batch)
		}
	})
}

func TestStaleEpochError(t *testing.T) {
	var err error = &StaleEpochError{}
	require.ErrorIs(t, err, ErrStaleEpoch)
	require.ErrorContains(t, err, "not open")
	err = fmt.Errorf("wrapped: %w", &StaleEpochError{Current: Entry{Epoch: 4, Owner: "b"}})
	require.True(t, errors.Is(err, ErrStaleEpoch))
	require.ErrorContains(t, err, "epoch 4")
}
