package cascade

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

func TestTrackerFindsLossAfterTheReorderWindow(t *testing.T) {
	tr := newTracker(500 * ms)
	for _, s := range []uint32{1, 2, 4, 7} {
		_, fresh := tr.received(s, false, 0)
		require.True(t, fresh)
	}
	require.Empty(t, tr.collect(4*ms, 50*ms, 0, nil), "lanes overtake each other")
	_, fresh := tr.received(5, false, 4*ms) // late by itself
	require.True(t, fresh)
	first := tr.collect(10*ms, 50*ms, 0, nil)
	require.Equal(t, []uint64{tr.base + 3, tr.base + 6}, first)
	require.Empty(t, tr.collect(60*ms, 50*ms, 0, nil), "not again within a round trip and a quarter")
	require.Equal(t, first, tr.collect(75*ms, 50*ms, 0, nil))
	_, fresh = tr.received(3, true, 80*ms)
	require.True(t, fresh)
	_, fresh = tr.received(3, true, 90*ms)
	require.False(t, fresh, "a duplicate")
	require.EqualValues(t, 1, tr.repaired)
	tr.collect(501*ms, 50*ms, 0, nil)
	require.False(t, tr.pending(), "given up after the deadline")
	require.EqualValues(t, 1, tr.lost)
	require.EqualValues(t, 2, tr.missed)
	require.EqualValues(t, 7, tr.expected())
	_, fresh = tr.received(6, true, 600*ms)
	require.True(t, fresh, "better late than never")
}

func TestTrackerLearnsReordering(t *testing.T) {
	tr := newTracker(500 * ms)
	require.Equal(t, minReorderWindow, tr.window())
	tr.received(2, false, 0)
	tr.received(1, false, 20*ms)
	require.Equal(t, 30*ms, tr.window())
	for range 100 {
		tr.decay()
	}
	require.Equal(t, minReorderWindow, tr.window())
}

func TestTrackerAsksAFewTimesOnly(t *testing.T) {
	tr := newTracker(5 * time.Second)
	tr.received(2, false, 0)
	asked := 0
	for now := time.Duration(0); now < 4*time.Second; now += 5 * ms {
		asked += len(tr.collect(now, 10*ms, 0, nil))
	}
	require.Equal(t, maxNacks, asked)
}

func TestTrackerIsBounded(t *testing.T) {
	tr := newTracker(500 * ms)
	tr.received(1, false, 0)
	tr.received(1<<31-5, false, 0) // a leap
	require.LessOrEqual(t, len(tr.missing), maxMissing)
	for i := range uint32(5000) {
		tr.received(1<<31+2*i, false, 0)
	}
	require.LessOrEqual(t, len(tr.missing), maxMissing)
	tr.announced(1<<31+20000, 0)
	require.LessOrEqual(t, len(tr.missing), maxMissing)
	tr.collect(time.Second, 0, 0, nil)
	require.False(t, tr.pending())
}

func TestTrackerOverTheWrap(t *testing.T) { // RFC 3550 A.1
	tr := newTracker(500 * ms)
	tr.received(1, false, 0)
	tr.received(1<<31-1, false, 0)
	tr.received(1<<32-2, false, 0)
	tr.collect(time.Second, 0, 0, nil)
	tr.received(1, false, 2*time.Second) // 2³²+1: 2³²−1 and 2³² are missing
	require.Equal(t, []uint64{tr.highest - 2, tr.highest - 1}, tr.collect(2*time.Second+10*ms, 0, 0, nil))
}

func TestReassemblerJoinsOnlyWhatFits(t *testing.T) {
	var pool rtpstream.Pool
	whole := make([]byte, 101)
	for i := range whole {
		whole[i] = byte(i)
	}
	whole[0], whole[1] = 0x80, 96
	first, second := whole[:51], whole[51:]
	header := func(second bool) *mediaHeader { return &mediaHeader{Total: 101, Second: second} }

	for name, order := range map[string][2]bool{"in order": {false, true}, "reversed": {true, false}} {
		r := reassembler{pool: &pool, stats: new(counters)}
		var got *rtpstream.Packet
		for _, isSecond := range order {
			if isSecond {
				got = r.add(8, header(true), second, 0)
			} else {
				got = r.add(7, header(false), first, 0)
			}
		}
		require.NotNil(t, got, name)
		require.Equal(t, whole, got.Raw(), name)
		got.Release()
	}

	r := reassembler{pool: &pool, stats: new(counters)}
	require.Nil(t, r.add(7, header(false), first, 0))
	require.Nil(t, r.add(8, header(true), second[:20], 0), "halves that leave a hole")
	require.Nil(t, r.add(8+maxPartials, header(true), second, 0))
	require.Nil(t, r.add(8, header(true), second, 0), "takes the place of an older one")
	r.expire(2*time.Second, time.Second)
	require.EqualValues(t, 3, r.stats.drops[dropReassembly].Load())
	for i := range uint64(1000) {
		require.Nil(t, r.add(2*i, header(false), first, 0))
	}
	r.clear()
}

// Silence on lanes is one signal. The second is a silent control path, or another round trip of probes without an answer
// where it is not silent; of life it is a word on the control path, or answers for a second.
func TestLivenessTakesASecondSignal(t *testing.T) {
	newLive := func() *liveness {
		l := &liveness{interval: 100 * ms, suspectAfter: 300 * ms}
		a, _ := l.tick(ms, heard{})
		require.Equal(t, livenessNothing, a)
		up, _ := l.answered(10*ms, 0)
		require.True(t, up, "the first answer brings a new link up")
		return l
	}
	type look struct {
		now, lanes, control time.Duration
		want                livenessAction
	}
	looks := func(t *testing.T, l *liveness, rtt time.Duration, cutOff bool, all ...look) {
		t.Helper()
		for _, x := range all {
			got, due := l.tick(x.now, heard{lanes: x.lanes, control: x.control, rtt: rtt, cutOff: cutOff})
			require.Equal(t, x.want, got, "at %v", x.now)
			require.Greater(t, due, x.now)
		}
	}
	up := func(l *liveness, now, control time.Duration) bool {
		came, _ := l.answered(now, control)
		return came
	}
	t.Run("down: lanes silent for two rounds of probes, though the control path speaks", func(t *testing.T) {
		looks(t, newLive(), 0, false, look{300 * ms, 10 * ms, 0, livenessNothing}, look{320 * ms, 10 * ms, 0, livenessProbe},
			look{430 * ms, 10 * ms, 330 * ms, livenessNothing}, look{530 * ms, 10 * ms, 330 * ms, livenessDown})
	})
	t.Run("down: lanes and control path silent; up: answers and a word on the control path", func(t *testing.T) {
		l := newLive()
		looks(t, l, 0, false, look{320 * ms, 10 * ms, 0, livenessProbe}, look{430 * ms, 10 * ms, 0, livenessDown})
		require.False(t, up(l, 500*ms, 0), "one answer is not enough")
		require.False(t, up(l, 600*ms, 0), "and nothing from the control path")
		require.False(t, up(l, 650*ms, 420*ms), "nothing new")
		require.True(t, up(l, 700*ms, 690*ms))
		require.True(t, l.up)
	})
	t.Run("up: answers for a second, though the control path is silent", func(t *testing.T) {
		l := newLive()
		looks(t, l, 0, false, look{320 * ms, 10 * ms, 0, livenessProbe}, look{430 * ms, 10 * ms, 0, livenessDown})
		for now := 500 * ms; now < 1500*ms; now += 100 * ms {
			require.False(t, up(l, now, 0))
			require.True(t, l.answering(now))
		}
		require.True(t, up(l, 1500*ms, 0))
	})
	t.Run("answers apart do not count", func(t *testing.T) {
		l := newLive()
		looks(t, l, 0, false, look{320 * ms, 10 * ms, 0, livenessProbe}, look{430 * ms, 10 * ms, 0, livenessDown})
		require.False(t, up(l, 500*ms, 500*ms))
		require.False(t, up(l, 1500*ms, 500*ms))
		require.False(t, l.answering(2*time.Second))
		require.True(t, up(l, 1600*ms, 500*ms))
	})
	t.Run("a suspicion ends with the next frame, a doubt a while later", func(t *testing.T) {
		l := newLive()
		looks(t, l, 0, false, look{150 * ms, 10 * ms, 0, livenessNothing})
		require.False(t, l.doubtful(150*ms))
		looks(t, l, 0, false, look{160 * ms, 10 * ms, 0, livenessNothing})
		require.True(t, l.doubtful(160*ms))
		looks(t, l, 0, false, look{320 * ms, 10 * ms, 0, livenessProbe}, look{400 * ms, 390 * ms, 0, livenessNothing})
		require.Zero(t, l.suspectAt)
		require.True(t, l.doubtful(1300*ms))
		require.False(t, l.doubtful(1320*ms))
	})
	t.Run("long round trips get more time", func(t *testing.T) {
		looks(t, newLive(), 400*ms, false, look{320 * ms, 10 * ms, 0, livenessProbe},
			look{700 * ms, 10 * ms, 0, livenessNothing}, look{800 * ms, 10 * ms, 0, livenessDown})
	})
	t.Run("who hears nobody judges nobody", func(t *testing.T) {
		l := newLive()
		looks(t, l, 0, true, look{320 * ms, 10 * ms, 0, livenessProbe}, look{430 * ms, 10 * ms, 0, livenessNothing},
			look{2 * time.Second, 10 * ms, 0, livenessNothing})
		require.True(t, l.up && l.doubtful(2*time.Second))
		looks(t, l, 0, false, look{2100 * ms, 10 * ms, 0, livenessNothing}, look{2200 * ms, 10 * ms, 0, livenessDown})
	})
}

func TestFlowIDsRestBeforeReuse(t *testing.T) {
	f := flowIDs{limit: 3}
	a, _ := f.take(0)
	b, _ := f.take(0)
	require.Equal(t, []uint32{1, 2}, []uint32{a, b})
	f.give(a, time.Second)
	c, _ := f.take(2 * time.Second)
	require.EqualValues(t, 3, c, "late packets of flow 1 may still come")
	d, ok := f.take(7 * time.Second)
	require.True(t, ok)
	require.Equal(t, a, d)
	_, ok = f.take(8 * time.Second)
	require.False(t, ok)
}

func TestWatchersTellTheLatestOfAFlappingLink(t *testing.T) {
	w := watchers{wake: make(chan struct{}, 1)}
	for i := range 101 {
		w.emit("a", i%2 == 0)
	}
	w.emit("b", true)
	require.Equal(t, []linkEvent{{"a", true}, {"b", true}}, w.queue)
}

func TestConfigReportsEveryProblem(t *testing.T) {
	require.NoError(t, DefaultConfig().Validate())
	err := Config{Lanes: 1, Linger: -1}.Validate()
	for _, key := range []string{
		"lanes", "linger", "link_idle", "probe_interval", "down_timeout", "open_timeout", "queue_bytes", "queue_delay",
		"audio_queue_delay", "repair_deadline", "max_flows", "garbage_limit",
	} {
		require.ErrorContains(t, err, key)
	}
}

func TestTrackerForgivesWhatWasOnlyOvertaken(t *testing.T) {
	tr := newTracker(500 * ms)
	for _, s := range []uint32{1, 5} {
		tr.received(s, false, 0)
	}
	for _, s := range []uint32{2, 3, 4} { // parity came first
		tr.received(s, true, ms)
	}
	require.EqualValues(t, []uint64{3, 1}, []uint64{tr.missed, tr.bursts})
	_, fresh := tr.received(3, false, 2*ms)
	require.False(t, fresh)
	require.EqualValues(t, []uint64{2, 2}, []uint64{tr.missed, tr.bursts})
	tr.received(3, false, 3*ms)
	tr.received(2, true, 3*ms)
	require.EqualValues(t, []uint64{2, 2}, []uint64{tr.missed, tr.bursts}, "once, and not for what was sent again")
	for _, s := range []uint32{2, 4} {
		tr.received(s, false, 4*ms)
	}
	require.EqualValues(t, []uint64{0, 0}, []uint64{tr.missed, tr.bursts})
}
