package ownership

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protodelim"

	"github.com/meridian-sfu/meridian/internal/meshpb/ownershippb"
)

// A snapshot is a SnapshotHeader and as many Entry messages as the header says, ordered by room, each behind its length
// as a varint:
//
//	┌────────┬────────────────┬────────┬───────┬────────┬───────┬─┄
//	│ varint │ SnapshotHeader │ varint │ Entry │ varint │ Entry │
//	└────────┴────────────────┴────────┴───────┴────────┴───────┴─┄
const maxSnapshotMessageBytes = 4 << 10

// writeSnapshot writes t to w.
func writeSnapshot(w io.Writer, t *table) error {
	bw := bufio.NewWriter(w)
	head := &ownershippb.SnapshotHeader{
		Version: wireVersion, Epoch: t.epoch, Index: t.index, Entries: uint64(len(t.entries)),
	}
	if _, err := protodelim.MarshalTo(bw, head); err != nil {
		return fmt.Errorf("ownership: write snapshot: %w", err)
	}
	for _, e := range sortedEntries(t) {
		if _, err := protodelim.MarshalTo(bw, entryToProto(e)); err != nil {
			return fmt.Errorf("ownership: write snapshot: %w", err)
		}
	}
	if err := bw.Flush(); err != nil {
		return fmt.Errorf("ownership: write snapshot: %w", err)
	}
	return nil
}

// readSnapshot reads what writeSnapshot wrote, and nothing else: a short, long or contradictory snapshot is
// an error.
func readSnapshot(r io.Reader) (*table, error) {
	br := bufio.NewReader(r)
	opt := protodelim.UnmarshalOptions{MaxSize: maxSnapshotMessageBytes}
	head := &ownershippb.SnapshotHeader{}
	if err := opt.UnmarshalFrom(br, head); err != nil {
		return nil, fmt.Errorf("ownership: read snapshot header: %w", err)
	}
	if head.GetVersion() != wireVersion {
		return nil, fmt.Errorf("%w: snapshot version %d", errVersion, head.GetVersion())
	}
	if head.GetEntries() > MaxEntries {
		return nil, fmt.Errorf("ownership: read snapshot: %d entries, at most %d are allowed", head.GetEntries(), MaxEntries)
	}
	t := newTable()
	t.epoch, t.index = head.GetEpoch(), head.GetIndex()
	epochs := make(map[uint64]struct{})
	for range head.GetEntries() {
		m := &ownershippb.Entry{}
		if err := opt.UnmarshalFrom(br, m); err != nil {
			return nil, fmt.Errorf("ownership: read snapshot entry: %w", err)
		}
		e, err := entryFromProto(m)
		if err != nil {
			return nil, fmt.Errorf("ownership: read snapshot entry: %w", err)
		}
		_, twice := t.entries[e.Room]
		_, shared := epochs[e.Epoch]
		if twice || shared || e.Epoch > t.epoch {
			return nil, fmt.Errorf("ownership: read snapshot: room %q contradicts the rest", e.Room)
		}
		t.entries[e.Room] = e
		epochs[e.Epoch] = struct{}{}
	}
	if _, err := br.ReadByte(); !errors.Is(err, io.EOF) {
		return nil, errors.New("ownership: read snapshot: bytes after the last entry")
	}
	return t, nil
}

func sortedEntries(t *table) []Entry {
	out := make([]Entry, 0, len(t.entries))
	for _, e := range t.entries {
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b Entry) int { return strings.Compare(string(a.Room), string(b.Room)) })
	return out
}
