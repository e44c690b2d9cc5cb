package cascade

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/internal/meshpb/cascadepb"
	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

// gilbert loses packets in bursts of a mean length, the classic two-state channel; 1 is independent loss.
type gilbert struct {
	rng         *rand.Rand
	loss, burst float64
	bad         bool
}

func newGilbert(seed uint64, loss, burst float64) *gilbert {
	return &gilbert{rng: rand.New(rand.NewPCG(seed, 7)), loss: loss, burst: burst}
}

func (g *gilbert) lost() bool {
	if g.burst <= 1 {
		return g.rng.Float64() < g.loss
	}
	if g.bad {
		g.bad = g.rng.Float64() >= 1/g.burst
	} else {
		g.bad = g.rng.Float64() < g.loss/(1-g.loss)/g.burst
	}
	return g.bad
}

func TestCauchyMatrixInverts(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for i := range 300 {
		code := []fecCode{evenCode, gradedCode}[i%2]
		m := 1 + rng.IntN(code.parity)
		rows, columns := rng.Perm(code.parity)[:m], rng.Perm(code.packets)[:m]
		var inv fecMatrix
		inv.invert(code, rows, columns)
		for i := range m {
			for j := range m {
				var sum byte
				for k := range m {
					sum ^= fecTimes[inv[i][k]][code.coefficient(rows[k], columns[j])]
				}
				want := byte(0)
				if i == j {
					want = 1
				}
				require.Equal(t, want, sum)
			}
		}
	}
}

// codec is an encoder and a decoder with packets for them.
type codec struct {
	enc   fecEncoder
	dec   fecDecoder
	pool  rtpstream.Pool
	stats counters
	rng   *rand.Rand
	seq   uint64
}

func newCodec() *codec {
	c := &codec{rng: rand.New(rand.NewPCG(9, 9))}
	c.dec = fecDecoder{pool: &c.pool, stats: &c.stats, effort: newAllowance(repairSteps, repairSaved)}
	c.dec.slots, c.dec.last = make([]fecSlot, fecSlots), 1
	return c
}

// packet makes the next frame's packet, now and then half of one.
func (c *codec) packet() inbound {
	c.seq++
	in := inbound{h: mediaHeader{
		Flow: uint32(1 + c.rng.IntN(200)), LinkSeq: uint32(c.seq), Encoding: uint8(c.rng.IntN(4)), Marker: c.rng.IntN(2) == 0,
		Class: classBase, Temporal: uint8(c.rng.IntN(3)), AudioLevel: rtpstream.NoAudioLevel,
	}}
	in.pkt, in.size = c.pool.Get(), 60+c.rng.IntN(1100)
	b := in.pkt.Buffer()[:in.size]
	for i := range b {
		b[i] = byte(c.rng.Uint32())
	}
	b[0] = 0x80
	if c.rng.IntN(10) == 0 {
		in.h.Total, in.h.Second = uint16(in.size+100), c.rng.IntN(2) == 0
	} else if err := in.pkt.Parse(in.size); err != nil {
		panic(err)
	}
	return in
}

func (c *codec) raw(in *inbound) []byte { return in.pkt.Buffer()[:in.size] }

// send makes a block of n packets and returns them, the header of its parity and the bodies of the frames.
func (c *codec) send(n int, code fecCode, plan fecPlan) (sent []inbound, h parityHeader, bodies [][]byte) {
	c.enc = fecEncoder{usual: n, credit: 1e9}
	c.enc.follow(newLadder(plan), code)
	sent = make([]inbound, n)
	for i := range sent {
		sent[i] = c.packet()
		c.enc.add(c.seq, &sent[i].h, c.raw(&sent[i]), ms)
	}
	c.enc.credit = 1e9
	h = c.enc.finish()
	for i := range h.Parity {
		h.Index = i
		bodies = append(bodies, appendParity(nil, h, c.enc.rows[i][:c.enc.sizes[i]]))
	}
	return sent, h, bodies
}

// arrives gives the decoder a parity frame.
func (c *codec) arrives(t *testing.T, h parityHeader, body []byte) (b *fecBlock, got []inbound) {
	return c.arrivesAt(t, uint64(h.Base), h, body)
}

// arrivesAt does, the block beginning with the packet of an extended number.
func (c *codec) arrivesAt(t *testing.T, base uint64, h parityHeader, body []byte) (b *fecBlock, got []inbound) {
	h2, symbol, err := parseParity(frame{kind: h.kind(), body: body})
	require.NoError(t, err)
	p := c.pool.Get()
	defer p.Release()
	copy(p.Buffer(), symbol)
	if b = c.dec.take(base, &h2, p, len(symbol), ms); b != nil {
		got = append(got, c.dec.restore(b, ms)...)
	}
	return b, got
}

func (c *codec) verify(t *testing.T, sent, got []inbound, lost map[int]bool) {
	for i := range got {
		j := int(got[i].h.LinkSeq - sent[0].h.LinkSeq)
		require.True(t, lost[j])
		delete(lost, j)
		want := sent[j].h
		want.Retransmission = true
		require.Equal(t, want, got[i].h)
		require.True(t, bytes.Equal(c.raw(&sent[j]), c.raw(&got[i])))
		got[i].pkt.Release()
	}
}

func TestParityRestoresAnyLostPackets(t *testing.T) {
	c := newCodec()
	for round := range 60 {
		n := 1 + c.rng.IntN(evenCode.packets)
		sent, h, bodies := c.send(n, evenCode, fecPlan{loss: 0.05, burst: 4})
		lost := make(map[int]bool)
		for _, i := range c.rng.Perm(n)[:min(n, h.Parity)] {
			lost[i] = true
		}
		for i := range sent {
			if !lost[i] {
				c.dec.put(uint64(sent[i].h.LinkSeq), &sent[i], ms)
			}
		}
		for _, i := range c.rng.Perm(h.Parity) {
			_, got := c.arrives(t, h, bodies[i])
			c.verify(t, sent, got, lost)
		}
		require.Empty(t, lost, "round %d: of %d, %d parity", round, n, h.Parity)
		for i := range sent {
			sent[i].pkt.Release()
		}
	}
}

// Whatever is lost of a graded block, packets and symbols: exactly what the lengths allow comes back, and with
// retransmissions in the end all.
func TestGradedParityRestoresWhatLengthsAllow(t *testing.T) {
	withoutRace(t)
	c := newCodec()
	restored, partly := 0, 0
	for round := range 200 {
		n := 2 + c.rng.IntN(gradedCode.packets-1)
		sent, h, bodies := c.send(n, gradedCode, fecPlan{loss: 0.05, burst: 4})
		require.LessOrEqual(t, h.Parity, gradedCode.parity)
		lost := make(map[int]bool)
		var lens, sizes []int
		for _, i := range c.rng.Perm(n)[:c.rng.IntN(min(n, h.Parity)+1)] {
			lost[i] = true
			lens = append(lens, symbolBytes(&sent[i].h, sent[i].size))
		}
		for i := range sent {
			if !lost[i] {
				c.dec.put(uint64(sent[i].h.LinkSeq), &sent[i], ms)
			}
		}
		was := len(lost)
		var b *fecBlock
		for _, i := range c.rng.Perm(h.Parity)[:h.Parity-c.rng.IntN(h.Parity/4+1)] {
			sizes = append(sizes, c.enc.sizes[i])
			at, got := c.arrives(t, h, bodies[i])
			if at != nil {
				b = at
			}
			c.verify(t, sent, got, lost)
		}
		require.Len(t, lost, leftOver(lens, sizes), "round %d: %d of %d lost, symbols %v", round, was, n, sizes)
		restored += was - len(lost)
		if len(lost) > 0 && len(lost) < was {
			partly++
		}
		for i := range sent { // the rest is sent again
			if lost[i] && b != nil {
				delete(lost, i)
				c.dec.put(uint64(sent[i].h.LinkSeq), &sent[i], ms)
				c.verify(t, sent, c.dec.restore(b, ms), lost)
			}
		}
		require.True(t, b == nil || len(lost) == 0 && b.done)
		for i := range sent {
			sent[i].pkt.Release()
		}
	}
	require.NotZero(t, restored)
	require.NotZero(t, partly, "blocks of which the short packets came back")
}

// leftOver is how many packets symbols of these sizes do not make up for, the packets' symbols being of these lengths.
func leftOver(lost, sizes []int) int {
	slices.SortFunc(sizes, func(a, b int) int { return b - a })
	missing := append([]int(nil), lost...)
	for from := 0; len(missing) > 0; {
		if len(sizes) < len(missing) || sizes[len(missing)-1] <= from {
			break
		}
		from = sizes[len(missing)-1]
		missing = slices.DeleteFunc(missing, func(n int) bool { return n <= from })
	}
	return len(missing)
}

// TestLadder holds the ladder against what it says of itself: losses drawn from the path it is for.
func TestLadder(t *testing.T) {
	for _, plan := range []fecPlan{{0.02, 1}, {0.05, 4}, {0.001, 1}} {
		l := newLadder(plan)
		for _, n := range []int{10, 60, 128} {
			for _, goal := range []float64{0.01, 0.002} {
				m := l.symbols(rungOf(goal), n)
				if m == fecMaxParity {
					continue
				}
				path, left := newGilbert(1, plan.loss, plan.burst), 0
				const rounds = 20_000
				for range rounds {
					lost := 0
					for range n + m {
						if path.lost() {
							lost++
						}
					}
					if lost > m {
						left += lost
					}
				}
				got := float64(left) / rounds / float64(n+m)
				require.Less(t, got, 1.25*goal, "%v: %d symbols for %d", plan, m, n)
			}
		}
		require.True(t, l.fits(fecPlan{plan.loss * 1.02, plan.burst}))
		require.False(t, l.fits(fecPlan{plan.loss * 1.05, plan.burst}))
		require.False(t, l.fits(fecPlan{}))
	}
	require.Nil(t, newLadder(fecPlan{}))
	require.True(t, newLadder(fecPlan{}).fits(fecPlan{}))
}

// TestResidualLossOfTheCode runs the code of blocks alone, which the release before gets, over a lossy path, with the packets of cameras and microphones and parity
// symbols one by one between the packets of the next block. Any block code with 20 parity for 100 packets leaves 0.65 % of 5 % in bursts
// of 4.
func TestResidualLossOfTheCode(t *testing.T) {
	for name, x := range map[string]struct {
		loss, burst, residual, audio, overhead float64
		rate                                   int
	}{
		"2 % random, 20 Mbit/s":         {0.02, 1, 0.0002, 0.0002, 0.085, 20e6}, // a block more is 0.007 %
		"2 % random, 2 Mbit/s":          {0.02, 1, 0.0012, 0.0006, 0.21, 2e6},
		"0.1 % random, 20 Mbit/s":       {0.001, 1, 0.0001, 0.0001, 0.03, 20e6},
		"5 % in bursts of 4, 20 Mbit/s": {0.05, 4, 0.0080, 0.003, 0.229, 20e6},
		"5 % in bursts of 4, 60 Mbit/s": {0.05, 4, 0.0080, 0.003, 0.229, 60e6},
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(2) {
				residual, audio, overhead := simulateCode(x.loss, x.burst, x.rate, seed, 200_000)
				t.Logf("residual %.4f %%, audio %.4f %%, overhead %.1f %%", 100*residual, 100*audio, 100*overhead)
				require.LessOrEqual(t, residual, x.residual)
				require.LessOrEqual(t, audio, x.audio)
				require.LessOrEqual(t, overhead, x.overhead)
			}
		})
	}
}

// mixedLength is how long packets are where participants with a microphone and three encodings of a camera are many:
// one of seven is audio.
func mixedLength(rng *rand.Rand) int {
	switch k := rng.IntN(28); {
	case k < 4:
		return 96 + rng.IntN(33)
	case k < 7:
		return 340 + rng.IntN(600)
	default:
		return 820 + rng.IntN(330)
	}
}

// simulateCode counts losses instead of summing bytes.
func simulateCode(loss, burst float64, rate int, seed uint64, packets int) (residual, audioResidual, overhead float64) {
	rng := rand.New(rand.NewPCG(seed, 5))
	path := newGilbert(seed, loss, burst)
	ladder := newLadder(planFEC(150*ms, loss, burst))
	var e fecEncoder
	e.follow(ladder, gradedCode)
	type block struct {
		lost, parity, arrived []int
	}
	var now, before block
	sent, audio, bytes, parityBytes, left, leftAudio := 0, 0, 0, 0, 0, 0
	at := time.Duration(0)
	settle := func(b block) {
		over := leftOver(b.lost, b.arrived)
		left += over
		if over > 0 { // the longest are left
			slices.Sort(b.lost)
			for _, n := range b.lost[len(b.lost)-over:] {
				if n <= fecShort {
					leftAudio++
				}
			}
		}
	}
	for i := range packets {
		n := mixedLength(rng)
		at += time.Duration(n*8) * time.Second / time.Duration(rate)
		if e.full(at) {
			for _, size := range before.parity { // never: the next block is longer than its parity
				if !path.lost() {
					before.arrived = append(before.arrived, size)
				}
			}
			settle(before)
			before = now
			now = block{}
			h := e.finish()
			for r := range h.Parity {
				before.parity = append(before.parity, e.sizes[r])
				parityBytes += e.sizes[r] + parityHeaderBytes
			}
		}
		if len(before.parity) > 0 {
			if !path.lost() {
				before.arrived = append(before.arrived, before.parity[0])
			}
			before.parity = before.parity[1:]
		}
		if e.n == 0 {
			e.open(uint64(i), at)
		}
		symbol := n + 6 // the sums are not needed here
		e.lens[e.n] = uint16(symbol)
		e.n++
		e.bytes += symbol
		if symbol <= fecShort {
			e.short = max(e.short, symbol)
			audio++
		}
		if path.lost() {
			now.lost = append(now.lost, symbol)
		}
		sent++
		bytes += n
	}
	return float64(left) / float64(sent), float64(leftAudio) / float64(audio), float64(parityBytes) / float64(bytes)
}

func TestNoParityWhereItDoesNotHelp(t *testing.T) {
	require.False(t, planFEC(40*ms, 0.02, 1).on(), "a NACK is early enough")
	require.False(t, planFEC(150*ms, 0.0004, 1).on(), "nothing to speak of is lost")
	var e fecEncoder
	e.add(1, &mediaHeader{Flow: 1}, make([]byte, 100), ms)
	require.Zero(t, e.n)
	require.False(t, e.wanted())
	require.Equal(t, never, e.due())
	var m lossMeter
	for range 80 {
		m.round(200, 0, 0)
	}
	require.False(t, planFEC(150*ms, m.loss(), m.burst()).on())
	for range 20 {
		m.round(200, 10, 3)
	}
	require.InDelta(t, 3, m.burst(), 0.5)
}

func TestPathLoss(t *testing.T) {
	now, sent := time.Duration(0), uint64(0)
	var p pathLoss
	round := func(loss, burst float64) (float64, float64) {
		now += 100 * ms
		sent += 280
		return p.reckon(loss, burst, sent, now)
	}
	idle, _ := p.reckon(0, 1, 0, now)
	require.Equal(t, priorLoss, idle, "what is not known is reckoned with")
	for range 9 {
		loss, _ := round(0, 1)
		require.Equal(t, priorLoss, loss)
	}
	_, known := p.learned(now)
	require.False(t, known)
	round(0, 1)
	round(0, 1)
	loss, _ := round(0, 1)
	require.Zero(t, loss, "for a second")

	rng := rand.New(rand.NewPCG(1, 1))
	var least, most float64
	for i := range 600 { // reports that scatter
		loss, burst := round(0.02*(1+0.07*rng.NormFloat64()), 1)
		require.InDelta(t, 1, burst, 0.01)
		if i == 20 {
			least, most = loss, loss
		}
		least, most = min(least, loss), max(most, loss)
	}
	require.Greater(t, least, 0.0185)
	require.Less(t, most, 0.0280)
	loss, burst := round(0.05, 3)
	require.InDelta(t, 0.052, loss, 0.002, "what is far from the mean ends it")
	require.InDelta(t, 3, burst, 0.01)
	mean, known := p.learned(now)
	require.True(t, known)
	require.InDelta(t, 0.05, mean.loss, 0.001)

	again := pathLoss{known: mean}
	loss, burst = again.reckon(0, 1, 0, 0)
	require.InDelta(t, priorShare*0.05, loss, 0.001, "the next link to the same peer begins with it")
	require.InDelta(t, 3, burst, 0.01)
	for range 50 {
		loss, _ = round(0, 1)
	}
	require.Zero(t, loss)
}

func BenchmarkParity(b *testing.B) {
	for name, plan := range map[string]fecPlan{"thousandth": {0.001, 1}, "random": {0.02, 1}, "bursts": {0.05, 4}} {
		b.Run(name, func(b *testing.B) {
			var e fecEncoder
			e.follow(newLadder(plan), gradedCode)
			h := mediaHeader{Flow: 1}
			rtp := make([]byte, 1150)
			e.usual = 118
			b.ReportAllocs()
			var i uint64
			for b.Loop() {
				i++
				e.add(i, &h, rtp, 0)
				if e.n == 118 {
					e.finish()
				}
			}
		})
	}
}

// FuzzSymbol: a symbol is what the peer's bytes and ours add up to; whatever it is, it makes a frame or an error.
func FuzzSymbol(f *testing.F) {
	f.Add(appendSymbol(nil, &mediaHeader{Flow: 300, LinkSeq: 7, Class: classBase}, make([]byte, 30)))
	f.Add(appendSymbol(nil, &mediaHeader{Flow: 3, Total: 90, Second: true}, make([]byte, 30)))
	f.Add([]byte{0xff, 0xff, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		fr, err := parseSymbol(b, 7, nil)
		if err != nil {
			return
		}
		var h mediaHeader
		rtp, err := parseMedia(fr, &h)
		if err != nil || h.Retransmission {
			return
		}
		require.EqualValues(t, 7, h.LinkSeq)
		again, err := parseSymbol(appendSymbol(nil, &h, rtp), 7, nil)
		require.NoError(t, err)
		var h2 mediaHeader
		rtp2, err := parseMedia(again, &h2)
		require.NoError(t, err)
		require.Equal(t, h, h2)
		require.Equal(t, rtp, rtp2)
	})
}

// A release that does not know FEC gets no parity frames and no longer probes, and what it lost by NACK; one that knows
// it gets the frames it knows.
func TestPeerGetsTheParityItKnows(t *testing.T) {
	const sliding = uint32(cascadepb.Feature_FEATURE_SLIDING)
	const compact = uint32(cascadepb.Feature_FEATURE_COMPACT)
	for known, want := range map[uint32]uint8{
		0: 0, sliding: 0, features: frameSliding, features &^ sliding: frameGraded, features &^ sliding &^ compact: frameParity,
	} {
		s, lanes, f, cam := newTestSender(t, 2)
		s.adapt(150*ms, 0.05, 4, known, 10*ms)
		now := 10 * ms
		for range 300 {
			now += ms
			s.feed(f, cam, 1, now)
			s.tick(now)
			for _, l := range lanes {
				b, _ := s.fill(l, nil, now)
				for len(b) > 0 {
					fr, rest, err := nextFrame(b)
					require.NoError(t, err)
					require.True(t, !fr.parity() || fr.kind == want)
					b = rest
				}
			}
		}
		require.Equal(t, want > 0, s.stats.parity.Load() > 0)
		s.close()
	}
}
