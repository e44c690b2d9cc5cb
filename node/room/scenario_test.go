package room

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

// TestScenarios runs testdata/*.txt. A line is an operation; the lines after it that begin with "> " are the effects it
// must have, in order.
//
//	attach ID IDENTITY auto|manual [record]    remove ID       subscribe|unsubscribe ID SOURCE…
//	upsert ID IDENTITY [record]                meta v=N TEXT
//
// record is any of: joining|joined|active|disconnected · v=N · node=N · sources=A,B · muted · hidden · nosub · acl=IDENTITY · at=SECONDS · quality=LEVEL
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			r := New("r")
			var op string
			var want, got []string
			check := func() { require.Equal(t, want, got, "after %q", op) }
			for line := range strings.Lines(string(text)) {
				line = strings.TrimSpace(line)
				switch {
				case line == "" || line[0] == '#':
				case strings.HasPrefix(line, "> "):
					want = append(want, line[2:])
				default:
					check()
					op, want, got = line, nil, nil
					for _, e := range perform(t, r, strings.Fields(line)) {
						got = append(got, describe(e))
					}
				}
			}
			check()
		})
	}
}

func perform(t *testing.T, r *Room, f []string) []Effect {
	t.Helper()
	switch f[0] {
	case "attach":
		return r.Attach(record(t, f[1], f[2], f[4:]...), Options{AutoSubscribe: f[3] == "auto"})
	case "upsert":
		return r.Upsert(record(t, f[1], f[2], f[3:]...))
	case "remove":
		return r.Remove(mesh.ParticipantID(f[1]), 1)
	case "subscribe", "unsubscribe":
		var ids []mesh.SourceID
		for _, s := range f[2:] {
			ids = append(ids, mesh.SourceID(s))
		}
		return r.Subscribe(mesh.ParticipantID(f[1]), ids, f[0] == "subscribe")
	case "meta":
		v, err := strconv.ParseUint(strings.TrimPrefix(f[1], "v="), 10, 64)
		require.NoError(t, err)
		return r.SetMeta(mesh.Room{Name: "r", Version: v, Metadata: f[2]})
	}
	t.Fatalf("unknown operation %q", f[0])
	return nil
}

func record(t *testing.T, id, identity string, words ...string) mesh.Participant {
	t.Helper()
	p := mesh.Participant{
		ID: mesh.ParticipantID(id), Identity: mesh.Identity(identity), Version: 1, Node: "n1",
		Permission: mesh.Permission{CanSubscribe: true, CanPublish: true},
	}
	muted := false
	for _, w := range words {
		key, value, _ := strings.Cut(w, "=")
		switch key {
		case "joining", "joined", "active", "disconnected":
			for s, name := range states {
				if name == key {
					p.State = mesh.ParticipantState(s)
				}
			}
		case "v":
			n, err := strconv.Atoi(value)
			require.NoError(t, err)
			p.Version = uint32(n)
		case "node":
			p.Node = mesh.NodeID(value)
		case "sources":
			for s := range strings.SplitSeq(value, ",") {
				p.Sources = append(p.Sources, mesh.Source{ID: mesh.SourceID(s)})
			}
		case "muted":
			muted = true
		case "hidden":
			p.Permission.Hidden = true
		case "nosub":
			p.Permission.CanSubscribe = false
		case "acl":
			p.Subscribers = &mesh.SubscriberACL{Identities: map[mesh.Identity][]mesh.SourceID{mesh.Identity(value): nil}}
		case "quality":
			n, err := strconv.Atoi(value)
			require.NoError(t, err)
			p.Quality = mesh.Quality{Level: uint8(n), Score: 4}
		case "at":
			n, err := strconv.Atoi(value)
			require.NoError(t, err)
			p.JoinedAt = time.Unix(int64(n), 0)
		default:
			t.Fatalf("unknown word %q", w)
		}
	}
	for i := range p.Sources {
		p.Sources[i].Muted = muted
	}
	return p
}

var states = []string{"joining", "joined", "active", "disconnected"}

func describe(e Effect) string {
	switch e := e.(type) {
	case Tell:
		var records []string
		for _, p := range e.Participants {
			s := fmt.Sprintf("%s/%s", p.ID, states[p.State])
			var ids []string
			for _, src := range p.Sources {
				ids = append(ids, string(src.ID))
			}
			if len(ids) > 0 {
				s += "[" + strings.Join(ids, ",") + "]"
			}
			records = append(records, s)
		}
		return fmt.Sprintf("tell %s: %s", join(e.To), strings.Join(records, " "))
	case Attach:
		return fmt.Sprintf("attach %s %s", e.Subscriber, e.Source.ID)
	case Detach:
		return fmt.Sprintf("detach %s %s", e.Subscriber, e.Source)
	case SubscriptionPermission:
		return fmt.Sprintf("permission %s %s %s %t", e.To, e.Publisher, e.Source, e.Allowed)
	case SubscriptionError:
		return fmt.Sprintf("error %s %s %s", e.To, e.Source, map[bool]string{true: "unknown", false: "own"}[e.Unknown])
	case FirstSubscriber:
		return fmt.Sprintf("first %s %s", e.Publisher, e.Source)
	case RoomChanged:
		return fmt.Sprintf("room %s: %s", join(e.To), e.Room.Metadata)
	}
	return fmt.Sprintf("%T", e)
}

func join(ids []mesh.ParticipantID) string {
	var s []string
	for _, id := range ids {
		s = append(s, string(id))
	}
	return strings.Join(s, ",")
}
