package gossip

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

func TestEventsInOrderAndCoalesced(t *testing.T) {
	d := newDispatcher()
	v := func(id mesh.NodeID, version string) mesh.NodeInfo { return mesh.NodeInfo{ID: id, Version: version} }
	for _, e := range []Event{
		{Joined, v("a", "1")},
		{Joined, v("b", "1")},
		{Updated, v("a", "2")}, // joins a's first event
		{Left, v("a", "2")},
		{Updated, v("a", "3")}, // stands alone: a was gone
		{Updated, v("a", "4")},
		{Failed, v("b", "1")},
	} {
		d.publish(e)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var got []Event
	var wg sync.WaitGroup
	seen := make(chan struct{})
	stop := d.subscribe(func(e Event) {
		if got = append(got, e); len(got) == 5 {
			close(seen)
		}
	})
	wg.Go(func() { d.run(ctx) })
	<-seen
	cancel()
	wg.Wait()
	require.Equal(t, []Event{
		{Joined, v("a", "2")},
		{Joined, v("b", "1")},
		{Left, v("a", "2")},
		{Updated, v("a", "4")},
		{Failed, v("b", "1")},
	}, got)
	stop()
	stop()
	require.Empty(t, d.subs)
}

func TestEventsAreBounded(t *testing.T) {
	d := newDispatcher()
	for range maxPending + 10 {
		d.publish(Event{Type: Joined, Node: mesh.NodeInfo{ID: "a"}})
	}
	require.Len(t, d.pending, maxPending)
}

func TestLogBridge(t *testing.T) {
	for line, level := range map[string]string{
		"[DEBUG] memberlist: x": "DEBUG",
		"[INFO] memberlist: x":  "DEBUG",
		"[WARN] memberlist: x":  "WARN",
		"[ERR] memberlist: x":   "WARN",
		"no level":              "DEBUG",
		"[WARN] memberlist: Binding to public address without encryption!": "DEBUG",
	} {
		var buf bytes.Buffer
		newLogBridge(slog.New(slog.NewTextHandler(&buf, &slog.HandlerOptions{Level: slog.LevelDebug}))).Print(line)
		require.Contains(t, buf.String(), "level="+level+" msg=memberlist detail=", line)
		require.NotContains(t, buf.String(), "detail=[", line)
	}
}
