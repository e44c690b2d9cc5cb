package ownership

import (
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

func drain(v *view) {
	for more := true; more; {
		var fn func(Event)
		var ev Event
		if fn, ev, more = v.nextEvent(); fn != nil {
			fn(ev)
		}
	}
}

func TestViewTellsWatchers(t *testing.T) {
	v := newView()
	e := func(room string, epoch uint64) Entry { return Entry{Room: "r" + "", Epoch: epoch, ID: "RM_" + "1"} }
	r1, r2, r3 := e("r", 1), e("r", 2), e("r", 3)
	v.apply("RC_1", batch{reset: true, index: 10, entries: []Entry{r1}})

	var got []Event
	cancel := v.watch(func(ev Event) { got = append(got, ev) })
	drain(v)
	require.Equal(t, []Event{{Type: Set, Entry: r1}}, got, "what there is comes first")

	v.apply("RC_1", batch{changes: []change{{room: "r", entry: r2, index: 11}}})
	drain(v)
	require.Equal(t, Event{Type: Set, Entry: r2, Previous: r1}, got[1])

	require.Zero(t, v.apply("RC_1", batch{reset: true, index: 10, entries: []Entry{r1}}), "a feeder that is behind")
	require.Zero(t, v.apply("RC_1", batch{changes: []change{{room: "r", entry: r1, index: 10}}}))
	drain(v)
	require.Len(t, got, 2)

	v.apply("RC_1", batch{changes: []change{{room: "r", removed: true, index: 12}, {room: "r", entry: r3, index: 13}}})
	drain(v)
	require.Equal(t, Event{Type: Set, Entry: r3, Previous: r2}, got[2], "changes nobody took yet are merged")

	v.apply("RC_2", batch{changes: []change{{room: "r", entry: r1, index: 99}}})
	require.Equal(t, []Entry{r3}, v.all(), "a change of another group means nothing")
	v.apply("RC_2", batch{reset: true, index: 1})
	drain(v)
	require.Equal(t, Event{Type: Removed, Entry: r3, Previous: r3}, got[3], "another group's table replaces all")

	cancel()
	cancel()
	v.apply("RC_2", batch{changes: []change{{room: "r", entry: r1, index: 2}}})
	drain(v)
	require.Len(t, got, 4)
}

func TestSlowSubscriberGetsTheWholeTable(t *testing.T) {
	f := newFSM(func(error) {})
	sub := f.subscribe()
	defer sub.close()
	b, ok := sub.take()
	require.True(t, ok)
	require.True(t, b.reset)
	f.mu.Lock()
	for i := range maxQueuedChanges + 1 {
		sub.pushLocked(change{index: uint64(i)})
	}
	require.Empty(t, sub.queue)
	f.mu.Unlock()
	b, ok = sub.take()
	require.True(t, ok)
	require.True(t, b.reset)
	_, ok = sub.take()
	require.False(t, ok)
}

func TestWatcherMayCallBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemMesh()
		n := start(t, m, "a", "us", t.TempDir(), bootstrap)
		seen := make(chan int, 1)
		n.Watch(func(Event) {
			cancel := n.Watch(func(Event) {})
			cancel()
			seen <- len(n.Entries())
		})
		_, _, err := n.Claim(ctx10(t), "room", "RM_1", "a", t0, "")
		require.NoError(t, err)
		require.Equal(t, 1, <-seen)
	})
}
