package rtpstream

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// past is a stream fed by frames of one packet each, 30 a second.
type past struct {
	*rig
	seq uint16
	now time.Duration
}

func newPast(t *testing.T) *past {
	return &past{rig: newRig(t, RewriterConfig{VP8: true, History: 512, FirstSequenceNumber: 1000, FirstTimestamp: 5000})}
}

func (g *past) frame(key bool, change ...func(*Packet)) *Packet {
	g.seq++
	g.now += 33 * time.Millisecond
	f := frame{seq: g.seq, ts: uint32(g.seq) * 3000, at: g.now, key: key, pid: int(g.seq), long: true, tl0: int(g.seq) & 255, tid: -1}
	p, err := fill(&g.pool, rtpBytes(f.seq, f.ts, f.payload()...))
	require.NoError(g.t, err)
	p.Arrival = f.at
	p.MarkVP8()
	for _, c := range change {
		c(p)
	}
	g.src.Stream(0).Write(p)
	p.Release()
	return p
}

func (g *past) replay() []*Packet { return g.src.Stream(0).Replay(g.now, 1<<20, nil) }

func seqs(list []*Packet) (out []uint16) {
	for _, p := range list {
		out = append(out, p.SequenceNumber)
		p.Release()
	}
	return out
}

func TestReplayHoldsTheNewestKeyframeAndWhatFollowed(t *testing.T) {
	g := newPast(t)
	g.frame(false)
	require.Empty(t, g.replay(), "nobody can start here")
	g.frame(true)
	g.frame(false)
	g.frame(true)
	g.frame(false)
	require.Equal(t, []uint16{4, 5}, seqs(g.replay()))
	require.Empty(t, g.src.Stream(0).Replay(g.now, 20, nil), "more than asked for")
	require.Empty(t, g.src.Stream(0).Replay(g.now+gopStale+time.Second, 1<<20, nil), "the encoder stopped")

	g.seq++ // 6 is lost
	g.frame(false)
	require.Empty(t, g.replay(), "a gap")
	late := frame{seq: 6, ts: 18000, at: g.now, pid: 6, long: true, tl0: -1, tid: -1}
	p := g.packet(late)
	p.Release()
	require.Equal(t, []uint16{4, 5, 6, 7}, seqs(g.replay()), "repaired")

	g.seq += 2 // 8 and 9 were left out on purpose
	g.frame(false, func(p *Packet) { p.Withheld = 2 })
	require.Equal(t, []uint16{4, 5, 6, 7, 10}, seqs(g.replay()))
	g.src.Close()
	require.Empty(t, g.replay())
}

func TestReplayIsBounded(t *testing.T) {
	g := newPast(t)
	g.frame(true)
	for range int(gopSpan/(time.Second/30)) + 2 {
		g.frame(false)
	}
	require.Empty(t, g.replay(), "too long ago")
	g.frame(true)
	for range gopPackets {
		g.frame(false, func(p *Packet) { p.size = 700; p.Timestamp = 0 })
	}
	require.Empty(t, g.replay(), "too many packets")
	require.LessOrEqual(t, len(g.src.Stream(0).gop.packets), gopPackets)
}

// A start from the past: picture IDs and sequence numbers follow each other, timestamps never go back, and the newest
// frame stands where it would have stood.
func TestRewriterReplay(t *testing.T) {
	g := newPast(t)
	g.frame(true)
	for range 89 {
		g.frame(false)
	}
	g.r.SetTarget(0)
	list := g.replay()
	require.Len(t, list, 90)
	g.r.Replay(list)
	var last out
	for i, p := range list {
		w, ok := g.r.Rewrite(p)
		require.True(t, ok)
		o := g.read(w, p)
		if i == 0 {
			require.Equal(t, uint16(1000), o.seq)
			require.Equal(t, uint32(5000), o.ts)
		} else {
			require.Equal(t, last.seq+1, o.seq)
			require.Equal(t, (last.pid+1)&0x7fff, o.pid)
			require.Equal(t, last.ts+90, o.ts, "a millisecond apart")
		}
		last = o
	}
	_, ok := g.r.Rewrite(list[40])
	require.False(t, ok, "what comes again from the fanout is not sent twice")
	w, ok := g.r.Again(1000+40, list[40])
	require.True(t, ok, "but on request")
	require.Equal(t, uint32(5000+40*90), w.Timestamp, "with the timestamp it had")
	for _, p := range list {
		p.Release()
	}
	for range 3 { // live
		g.seq++
		o, ok := g.send(frame{seq: g.seq, ts: uint32(g.seq) * 3000, at: g.now, pid: int(g.seq), long: true, tl0: 0, tid: -1})
		require.True(t, ok)
		require.Equal(t, last.seq+1, o.seq)
		require.Equal(t, last.pid+1, o.pid)
		require.Equal(t, last.ts+3000, o.ts, "the pace of the source")
		last = o
	}

	// The receiver lost its picture: the same again, from the past, without the publisher.
	list = g.replay()
	g.r.Replay(list)
	for _, p := range list {
		w, ok := g.r.Rewrite(p)
		require.True(t, ok)
		o := g.read(w, p)
		require.Equal(t, last.seq+1, o.seq)
		require.Equal(t, last.pid+1, o.pid)
		require.Positive(t, int32(o.ts-last.ts))
		require.LessOrEqual(t, o.ts-last.ts, uint32(90))
		last = o
		p.Release()
	}
	was := int64(5000 + 89*90 - 90*3000)
	require.Less(t, g.r.TimestampOffset()-uint32(was), uint32(200), "no more than a tick for each frame")
}

// A replay of which nothing was sent, the client being gone for a moment, is as if it had not been.
func TestRewriterReplayThatWasNotSent(t *testing.T) {
	g := newPast(t)
	g.frame(true)
	g.frame(false)
	g.r.SetTarget(0)
	list := g.replay()
	g.r.Replay(list)
	g.r.Replay(list)
	w, ok := g.r.Rewrite(list[0])
	require.True(t, ok)
	require.Equal(t, out{seq: 1000, ts: 5000, pid: 1, tl0: 1}, g.read(w, list[0]))
	for _, p := range list {
		p.Release()
	}
}

// A switch to another encoding from its past stays near the timestamps of the one before.
func TestRewriterReplayOfAnotherEncoding(t *testing.T) {
	g := newPast(t)
	g.r.SetTarget(1)
	o, ok := g.send(frame{encoding: 1, seq: 7, ts: 100, at: 10 * time.Second, key: true, pid: 3, long: true, tl0: -1, tid: -1})
	require.True(t, ok)
	g.now = 9 * time.Second
	g.frame(true)
	for range 29 {
		g.frame(false)
	}
	g.r.SetTarget(0)
	list := g.replay()
	g.r.Replay(list)
	require.Equal(t, 0, g.r.Current())
	last := o
	for _, p := range list {
		w, ok := g.r.Rewrite(p)
		require.True(t, ok)
		o := g.read(w, p)
		require.Equal(t, last.seq+1, o.seq)
		require.Positive(t, int32(o.ts-last.ts))
		last = o
		p.Release()
	}
	require.LessOrEqual(t, last.ts-o.ts, uint32(32), "captured at the same time: no second ahead")
}

// What was left out on the way here leaves no gap, what was lost does.
func TestRewriterPassesOverWhatWasWithheld(t *testing.T) {
	g := newPast(t)
	g.r.SetTarget(0)
	send := func(seq uint16, withheld uint8, skip bool) (out, bool) {
		f := frame{seq: seq, ts: uint32(seq) * 3000, key: seq == 1, pid: int(seq), long: true, tl0: -1, tid: -1}
		p, err := fill(&g.pool, rtpBytes(f.seq, f.ts, f.payload()...))
		require.NoError(t, err)
		p.MarkVP8()
		p.Withheld = withheld
		g.src.Stream(0).Write(p)
		if skip {
			g.r.Skip(p)
			return out{}, false
		}
		w, ok := g.r.Rewrite(p)
		if !ok {
			return out{}, false
		}
		return g.read(w, p), true
	}
	for _, tc := range []struct {
		seq      uint16
		withheld uint8
		skip     bool
		want     uint16 // of sequence number and picture ID
	}{
		{seq: 1, want: 1},
		{seq: 4, withheld: 2, want: 2},
		{seq: 5, want: 3},
		{seq: 8, want: 6}, // 6 and 7 were lost
		{seq: 10, withheld: 1, want: 7},
		{seq: 12, withheld: 1, skip: true},
		{seq: 14, withheld: 1, want: 8},
	} {
		o, ok := send(tc.seq, tc.withheld, tc.skip)
		require.Equal(t, !tc.skip, ok, tc.seq)
		if ok {
			require.Equal(t, 999+tc.want, o.seq, tc.seq)
			require.EqualValues(t, tc.want, o.pid, tc.seq)
		}
	}
	o, ok := send(7, 0, false)
	require.True(t, ok, "repaired: its place was kept")
	require.EqualValues(t, 999+5, o.seq)
	_, ok = send(13, 0, false)
	require.False(t, ok, "came another way: it has no place")

	// One lost and one left out, nobody knows which: one place.
	o, ok = send(17, 1, false)
	require.True(t, ok)
	require.EqualValues(t, 999+10, o.seq)
	require.EqualValues(t, 1, g.src.Stream(0).Stats().Lost, "6, and 15 or 16; 13 was counted as left out, and came")
}
