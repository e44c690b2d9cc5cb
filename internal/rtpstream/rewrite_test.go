package rtpstream

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// rig feeds frames of several encodings to a rewriter as a sender would.
type rig struct {
	t    *testing.T
	pool Pool
	src  *Source
	r    *Rewriter
}

func newRig(t *testing.T, cfg RewriterConfig) *rig {
	src, _ := videoSource(3)
	if cfg.ClockRate == 0 {
		cfg.ClockRate = 90000
	}
	if cfg.History == 0 {
		cfg.History = 64
	}
	return &rig{t: t, src: src, r: NewRewriter(cfg)}
}

func (g *rig) packet(f frame) *Packet {
	p, err := fill(&g.pool, rtpBytes(f.seq, f.ts, f.payload()...))
	require.NoError(g.t, err)
	p.Arrival = f.at
	p.MarkVP8()
	g.src.Stream(f.encoding).Write(p)
	return p
}

// out is what the receiver sees of a packet.
type out struct {
	seq      uint16
	ts       uint32
	pid, tl0 int
}

func (g *rig) read(w Rewritten, p *Packet) out {
	d, err := ParseVP8(w.AppendPayload(nil, p))
	require.NoError(g.t, err)
	o := out{seq: w.SequenceNumber(), ts: w.Timestamp, pid: -1, tl0: -1}
	if d.HasPictureID {
		require.True(g.t, d.LongPictureID)
		o.pid = int(d.PictureID)
	}
	if d.HasTL0 {
		o.tl0 = int(d.TL0)
	}
	return o
}

func (g *rig) send(f frame) (out, bool) {
	p := g.packet(f)
	w, ok := g.r.Rewrite(p)
	if !ok {
		return out{}, false
	}
	return g.read(w, p), true
}

func TestRewriterScenarios(t *testing.T) {
	const ms = time.Millisecond
	type step struct {
		target *int // set before
		in     frame
		skip   bool // leave out on purpose
		drop   bool // expected not to be sent
		want   out
	}
	to := func(e int) *int { return &e }
	for name, tc := range map[string]struct {
		cfg   RewriterConfig
		steps []step
	}{
		"waits for a keyframe": {
			cfg: RewriterConfig{VP8: true, FirstSequenceNumber: 100, FirstTimestamp: 1000},
			steps: []step{
				{target: to(0), in: frame{seq: 5, ts: 50, pid: 7, long: true, tl0: 3, tid: 0}, drop: true},
				{in: frame{seq: 6, ts: 60, key: true, pid: 8, long: true, tl0: 4, tid: 0}, want: out{100, 1000, 8, 4}},
				{in: frame{seq: 7, ts: 70, pid: 9, long: true, tl0: 5, tid: 0}, want: out{101, 1010, 9, 5}},
			},
		},
		"switch up and down by arrival": {
			cfg: RewriterConfig{VP8: true},
			steps: []step{
				{target: to(0), in: frame{seq: 40, ts: 0, key: true, pid: 10, long: true, tl0: 1, tid: 0, at: 0}, want: out{0, 0, 10, 1}},
				{target: to(2), in: frame{seq: 41, ts: 3000, pid: 11, long: true, tl0: 2, tid: 0, at: 33 * ms}, want: out{1, 3000, 11, 2}},
				{in: frame{encoding: 2, seq: 70, ts: 9, pid: 500, long: true, tl0: 90, tid: 0, at: 40 * ms}, drop: true},
				{in: frame{encoding: 2, seq: 71, ts: 900000, key: true, pid: 501, long: true, tl0: 91, tid: 0, at: 73 * ms}, want: out{2, 6600, 12, 3}},
				{in: frame{seq: 42, ts: 6000, pid: 12, long: true, tl0: 3, tid: 0, at: 66 * ms}, drop: true},
				{target: to(0), in: frame{encoding: 2, seq: 72, ts: 903000, pid: 502, long: true, tl0: 92, tid: 0, at: 106 * ms}, want: out{3, 9600, 13, 4}},
				{in: frame{seq: 43, ts: 12000, key: true, pid: 14, long: true, tl0: 9, tid: 0, at: 116 * ms}, want: out{4, 10500, 14, 5}},
			},
		},
		"sequence, timestamp and picture ID wrap": {
			cfg: RewriterConfig{VP8: true, FirstSequenceNumber: 65535, FirstTimestamp: 0xffffff00},
			steps: []step{
				{target: to(0), in: frame{seq: 65534, ts: 0xfffff000, key: true, pid: 32767, long: true, tl0: 255, tid: 0}, want: out{65535, 0xffffff00, 32767, 255}},
				{in: frame{seq: 65535, ts: 0x00000000, pid: 0, long: true, tl0: 0, tid: 0}, want: out{0, 0xf00, 0, 0}},
				{in: frame{seq: 0, ts: 0x1000, pid: 1, long: true, tl0: 1, tid: 0}, want: out{1, 0x1f00, 1, 1}},
			},
		},
		"lost packets stay gaps, late ones find their place": {
			cfg: RewriterConfig{VP8: true},
			steps: []step{
				{target: to(0), in: frame{seq: 10, key: true, pid: 1, long: true, tl0: -1, tid: -1}, want: out{0, 0, 1, -1}},
				{in: frame{seq: 13, ts: 30, pid: 4, long: true, tl0: -1, tid: -1}, want: out{3, 30, 4, -1}},
				{in: frame{seq: 11, ts: 10, pid: 2, long: true, tl0: -1, tid: -1}, want: out{1, 10, 2, -1}},
				{in: frame{seq: 9, ts: 0, pid: 0, long: true, tl0: -1, tid: -1}, drop: true},
				{in: frame{seq: 14, ts: 40, pid: 5, long: true, tl0: -1, tid: -1}, want: out{4, 40, 5, -1}},
			},
		},
		"lost before the switch, late after it": {
			cfg: RewriterConfig{VP8: true},
			steps: []step{
				{target: to(0), in: frame{seq: 10, key: true, pid: 1, long: true, tl0: -1, tid: -1, at: ms}, want: out{0, 0, 1, -1}},
				{in: frame{seq: 12, ts: 6000, pid: 3, long: true, tl0: -1, tid: -1, at: 67 * ms}, want: out{2, 6000, 3, -1}},
				{target: to(1), in: frame{encoding: 1, seq: 7, ts: 5, key: true, pid: 90, long: true, tl0: -1, tid: -1, at: 77 * ms}, want: out{3, 6900, 4, -1}},
				{in: frame{encoding: 1, seq: 6, ts: 5, pid: 89, long: true, tl0: -1, tid: -1, at: 78 * ms}, drop: true},
				{in: frame{seq: 11, ts: 3000, pid: 2, long: true, tl0: -1, tid: -1, at: 79 * ms}, drop: true},
				{in: frame{encoding: 1, seq: 9, ts: 3005, pid: 91, long: true, tl0: -1, tid: -1, at: 110 * ms}, want: out{5, 9900, 5, -1}},
			},
		},
		"left out on purpose leaves no gap": {
			cfg: RewriterConfig{VP8: true},
			steps: []step{
				{target: to(0), in: frame{seq: 10, key: true, pid: 1, long: true, tl0: 1, tid: 0}, want: out{0, 0, 1, 1}},
				{in: frame{seq: 11, ts: 10, pid: 2, long: true, tl0: 1, tid: 1}, skip: true},
				{in: frame{seq: 12, ts: 10, pid: 2, long: true, tl0: 1, tid: 1}, skip: true},
				{in: frame{seq: 14, ts: 20, pid: 3, long: true, tl0: 2, tid: 0}, want: out{2, 20, 2, 2}},
				{in: frame{seq: 13, ts: 20, pid: 3, long: true, tl0: 2, tid: 0}, want: out{1, 20, 2, 2}},
				{in: frame{seq: 15, ts: 30, pid: 4, long: true, tl0: 2, tid: 1}, skip: true},
				{in: frame{seq: 16, ts: 40, pid: 5, long: true, tl0: 3, tid: 0}, want: out{3, 40, 3, 3}},
			},
		},
		"picture IDs of 7 bits become 15": {
			cfg: RewriterConfig{VP8: true},
			steps: []step{
				{target: to(0), in: frame{seq: 1, key: true, pid: 126, tl0: -1, tid: -1}, want: out{0, 0, 126, -1}},
				{in: frame{seq: 2, ts: 10, pid: 127, tl0: -1, tid: -1}, want: out{1, 10, 127, -1}},
				{in: frame{seq: 3, ts: 20, pid: 0, tl0: -1, tid: -1}, want: out{2, 20, 128, -1}},
				{in: frame{seq: 5, ts: 40, pid: 2, tl0: -1, tid: -1}, want: out{4, 40, 130, -1}},
				{in: frame{seq: 4, ts: 30, pid: 1, tl0: -1, tid: -1}, want: out{3, 30, 129, -1}},
				{target: to(1), in: frame{encoding: 1, seq: 1, ts: 7, key: true, pid: 20000, long: true, tl0: -1, tid: -1}, want: out{5, 41, 131, -1}},
				{target: to(0), in: frame{seq: 6, ts: 50, key: true, pid: 3, tl0: -1, tid: -1}, want: out{6, 42, 132, -1}},
			},
		},
		"stopped and started again": {
			cfg: RewriterConfig{VP8: true},
			steps: []step{
				{target: to(0), in: frame{seq: 1, key: true, pid: 1, long: true, tl0: -1, tid: -1}, want: out{0, 0, 1, -1}},
				{target: to(NoEncoding), in: frame{seq: 2, ts: 3000, pid: 2, long: true, tl0: -1, tid: -1}, drop: true},
				{target: to(0), in: frame{seq: 30, ts: 90000, pid: 31, long: true, tl0: -1, tid: -1, at: 1000 * ms}, drop: true},
				{in: frame{seq: 31, ts: 93000, key: true, pid: 32, long: true, tl0: -1, tid: -1, at: 1033 * ms}, want: out{1, 92970, 2, -1}},
			},
		},
		"audio starts anywhere": {
			cfg: RewriterConfig{Audio: true, ClockRate: 48000, FirstSequenceNumber: 9},
			steps: []step{
				{target: to(0), in: frame{seq: 500, ts: 960, pid: -1, tl0: -1, tid: -1}, want: out{9, 0, -1, -1}},
				{in: frame{seq: 501, ts: 1920, pid: -1, tl0: -1, tid: -1}, want: out{10, 960, -1, -1}},
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := newRig(t, tc.cfg)
			for i, s := range tc.steps {
				if s.target != nil {
					g.r.SetTarget(*s.target)
				}
				if s.skip {
					g.r.Skip(g.packet(s.in))
					continue
				}
				got, ok := g.send(s.in)
				require.Equal(t, s.drop, !ok, "step %d", i)
				if ok {
					require.Equal(t, s.want, got, "step %d", i)
				}
			}
		})
	}
}

// RFC 3550 §6.4.1: with both encodings' sender reports known, a frame keeps its instant over the switch, whatever the
// network did to its arrival.
func TestRewriterSwitchBySenderClock(t *testing.T) {
	g := newRig(t, RewriterConfig{VP8: true})
	g.src.Stream(0).SetClock(SenderClock{NTP: 100 << 32, RTPTimestamp: 1000})
	g.src.Stream(1).SetClock(SenderClock{NTP: 101<<32 + 1<<31, RTPTimestamp: 5000}) // 1.5 s later
	g.r.SetTarget(0)
	_, ok := g.send(frame{seq: 1, ts: 1000 + 90000, key: true, pid: -1, tl0: -1, tid: -1, at: 10 * time.Second}) // at 101 s
	require.True(t, ok)
	g.r.SetTarget(1)
	got, ok := g.send(frame{encoding: 1, seq: 8, ts: 5000, key: true, pid: -1, tl0: -1, tid: -1, at: 10*time.Second + 700*time.Millisecond}) // at 101.5 s
	require.True(t, ok)
	require.EqualValues(t, 45000, got.ts)
	require.EqualValues(t, 45000-5000, int32(g.r.TimestampOffset()))

	// Back again, to a report that cannot be true: arrival decides.
	g.src.Stream(0).SetClock(SenderClock{NTP: 900 << 32, RTPTimestamp: 1000})
	g.r.SetTarget(0)
	got, ok = g.send(frame{seq: 9, ts: 7, key: true, pid: -1, tl0: -1, tid: -1, at: 11 * time.Second})
	require.True(t, ok)
	require.EqualValues(t, 45000+27000, got.ts)
}

func TestRewriterAnswersNACKs(t *testing.T) {
	g := newRig(t, RewriterConfig{VP8: true, FirstSequenceNumber: 65530, History: 64})
	g.r.SetTarget(0)
	sent := map[uint16]out{}
	for i := range 20 {
		f := frame{seq: uint16(100 + i), ts: uint32(i) * 3000, key: i == 0, pid: (120 + i) % 128, tl0: i, tid: 0}
		p := g.packet(f)
		if i == 7 {
			continue // arrives in the cache after it was missed
		}
		w, ok := g.r.Rewrite(p)
		require.True(t, ok)
		sent[w.SequenceNumber()] = g.read(w, p)
	}
	for seq, want := range sent {
		encoding, ext, ok := g.r.Origin(seq)
		require.True(t, ok)
		p := g.src.Stream(encoding).Cached(ext)
		require.NotNil(t, p)
		w, ok := g.r.Again(seq, p)
		require.True(t, ok)
		require.Equal(t, want, g.read(w, p), "the same again")
		p.Release()
	}
	_, ext, ok := g.r.Origin(1) // 65530 + 7 wraps to 1
	require.True(t, ok, "a gap has a place")
	require.EqualValues(t, 107, uint16(ext))
	p := g.src.Stream(0).Cached(ext)
	w, ok := g.r.Again(1, p)
	require.True(t, ok)
	require.Equal(t, out{1, 21000, 127, 7}, g.read(w, p))
	_, ok = g.r.Again(2, p)
	require.False(t, ok, "another packet")
	_, _, ok = g.r.Origin(500)
	require.False(t, ok, "never sent")
	_, _, ok = g.r.Origin(65529)
	require.False(t, ok, "before the first")
}

func TestRewriterAllocs(t *testing.T) {
	g := newRig(t, RewriterConfig{VP8: true, History: 512})
	g.r.SetTarget(0)
	first := g.packet(frame{key: true, pid: 1, long: true, tl0: 1, tid: 0})
	_, ok := g.r.Rewrite(first)
	require.True(t, ok)
	p := g.packet(frame{seq: 1, pid: 2, long: true, tl0: 1, tid: 0})
	buf := make([]byte, 0, MaxPacketBytes)
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		p.ExtSeq++
		w, _ := g.r.Rewrite(p)
		buf = w.AppendPayload(buf[:0], p)
	}))
	require.Panics(t, func() { NewRewriter(RewriterConfig{History: 3}) })
}

func FuzzRewriter(f *testing.F) {
	f.Add([]byte{0, 1, 0x10, 0, 1, 2, 0x90, 0x80, 3, 0, 2, 1})
	f.Fuzz(func(t *testing.T, script []byte) {
		src, _ := videoSource(3)
		var pl Pool
		r := NewRewriter(RewriterConfig{VP8: true, ClockRate: 90000, History: 16})
		seen := map[uint64]bool{}
		sink := &countingSink{}
		src.Subscribe(sink).SetDemand(Demand{Encodings: 0b111})
		for len(script) >= 6 {
			op, seq, payload := script[0], script[1], script[2:6]
			script = script[6:]
			r.SetTarget(int(op>>4&3) - 1)
			p, err := fill(&pl, rtpBytes(uint16(seq), uint32(seq)*90, payload...))
			if err != nil {
				t.Fatal(err)
			}
			p.MarkVP8()
			was := sink.n.Load()
			src.Stream(op & 1).Write(p)
			if sink.n.Load() == was {
				continue // a duplicate never gets here
			}
			if op&0x80 != 0 {
				r.Skip(p)
				continue
			}
			w, ok := r.Rewrite(p)
			if !ok {
				continue
			}
			_ = w.AppendPayload(nil, p)
			if seen[w.ExtSeq] {
				t.Fatalf("sequence number %d sent twice", w.ExtSeq)
			}
			seen[w.ExtSeq] = true
			if _, _, ok := r.Origin(w.SequenceNumber()); !ok {
				t.Fatal("a packet just sent is not known")
			}
		}
	})
}
