package cascade

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

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
	for range 300 {
		m := 1 + rng.IntN(fecMaxParity)
		rows, columns := rng.Perm(fecMaxParity)[:m], rng.Perm(fecMaxPackets)[:m]
		var inv fecMatrix
		inv.invert(rows, columns)
		for i := range m {
			for j := range m {
				var sum byte
				for k := range m {
					sum ^= fecTimes[inv[i][k]][fecCoefficient(rows[k], columns[j])]
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
	c.dec = fecDecoder{pool: &c.pool, stats: &c.stats}
	c.dec.slots, c.dec.last = make([]fecSlot, fecSlots), 1
	return c
}

// packet makes the next frame's packet, now and then half of one.
func (c *codec) packet() inbound {
	c.seq++
	in := inbound{h: mediaHeader{
		Flow: uint32(1 + c.rng.IntN(200)), LinkSeq: uint32(c.seq), Encoding: uint8(c.rng.IntN(4)), Marker: c.rng.IntN(2) == 0,
		Class: classBase, Temporal: uint8(c.rng.IntN(3)), AudioLevel: 127,
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

func TestParityRestoresAnyLostPackets(t *testing.T) {
	c := newCodec()
	plan := fecPlan{loss: 0.05, burst: 4}
	for round := range 60 {
		n := 1 + c.rng.IntN(fecMaxPackets)
		sent := make([]inbound, n)
		for i := range sent {
			sent[i] = c.packet()
			c.enc.add(c.seq, &sent[i].h, c.raw(&sent[i]), plan, ms)
		}
		require.Equal(t, n, c.enc.n)
		c.enc.credit = 1e9
		c.enc.usual = n
		h, size := c.enc.finish()
		lost := c.rng.Perm(n)[:min(n, h.Parity)]
		isLost := make(map[int]bool)
		for _, i := range lost {
			isLost[i] = true
		}
		for i := range sent {
			if !isLost[i] {
				c.dec.put(uint64(sent[i].h.LinkSeq), &sent[i], ms)
			}
		}
		var got []inbound
		for _, i := range c.rng.Perm(h.Parity) {
			h.Index = i
			body := appendParity(nil, h, c.enc.rows[i][:size])
			h2, symbol, err := parseParity(body)
			require.NoError(t, err)
			require.Equal(t, h, h2)
			p := c.pool.Get()
			copy(p.Buffer(), symbol)
			if b := c.dec.take(uint64(sent[0].h.LinkSeq), &h2, p, len(symbol), ms); b != nil {
				got = append(got, c.dec.restore(b, ms)...)
			}
			p.Release()
		}
		require.Len(t, got, len(lost), "round %d: %d of %d, %d parity", round, len(lost), n, h.Parity)
		for i := range got {
			j := int(got[i].h.LinkSeq - sent[0].h.LinkSeq)
			require.True(t, isLost[j])
			want := sent[j].h
			want.Retransmission = true
			require.Equal(t, want, got[i].h)
			require.True(t, bytes.Equal(c.raw(&sent[j]), c.raw(&got[i])))
			got[i].pkt.Release()
		}
		for i := range sent {
			sent[i].pkt.Release()
		}
		c.enc.usual = 0
		c.enc.credit = 0
	}
}

// TestResidualLossIsNearTheBound runs the code alone over a lossy path: 20 Mbit/s, packets of 1150 bytes, parity
// symbols one by one between the packets of the next block. Any block code with 20 parity for 100 packets leaves
// 0.65 % of 5 % in bursts of 4.
func TestResidualLossIsNearTheBound(t *testing.T) {
	for name, x := range map[string]struct {
		loss, burst, residual, overhead float64
	}{
		"2 % random":         {0.02, 1, 0.0001, 0.12},
		"5 % in bursts of 4": {0.05, 4, 0.0080, 0.215},
	} {
		t.Run(name, func(t *testing.T) {
			residual, overhead := simulateCode(x.loss, x.burst, 400_000)
			t.Logf("residual %.4f %%, overhead %.1f %%", 100*residual, 100*overhead)
			require.LessOrEqual(t, residual, x.residual)
			require.LessOrEqual(t, overhead, x.overhead)
		})
	}
}

// simulateCode counts losses instead of summing bytes: a block is restored when it has symbols enough.
func simulateCode(loss, burst float64, packets int) (residual, overhead float64) {
	const gap = 460 * time.Microsecond
	plan := planFEC(150*ms, loss, burst)
	path := newGilbert(1, loss, burst)
	var e fecEncoder
	h := mediaHeader{Flow: 1}
	rtp := make([]byte, 1150)
	pending, lostNow, lostBefore, parityLost, parities := 0, 0, 0, 0, 0
	sent, bytes, left := 0, 0, 0
	for i := range packets {
		now := time.Duration(i) * gap
		if e.full(now) {
			if lostBefore > parities-parityLost {
				left += lostBefore
			}
			var block parityHeader
			var size int
			block, size = e.finish()
			bytes += block.Parity * size
			pending, parities, parityLost, lostBefore, lostNow = block.Parity, block.Parity, 0, lostNow, 0
		}
		if pending > 0 {
			pending--
			if path.lost() {
				parityLost++
			}
		}
		if e.n == 0 { // the sums are not needed here: one packet stands for all
			e.add(uint64(i), &h, rtp, plan, now)
		} else {
			e.n++
			e.bytes += e.longest
		}
		if path.lost() {
			lostNow++
		}
		sent++
	}
	return float64(left) / float64(sent), float64(bytes) / float64(sent*len(rtp))
}

func TestNoParityWhereItDoesNotHelp(t *testing.T) {
	require.False(t, planFEC(40*ms, 0.02, 1).on(), "a NACK is early enough")
	require.False(t, planFEC(150*ms, 0.0004, 1).on(), "nothing to speak of is lost")
	var e fecEncoder
	e.add(1, &mediaHeader{Flow: 1}, make([]byte, 100), fecPlan{}, ms)
	require.Zero(t, e.n)
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

func BenchmarkParity(b *testing.B) {
	for name, plan := range map[string]fecPlan{"random": {0.02, 1}, "bursts": {0.05, 4}} {
		b.Run(name, func(b *testing.B) {
			var e fecEncoder
			h := mediaHeader{Flow: 1}
			rtp := make([]byte, 1150)
			e.usual = 91
			b.ReportAllocs()
			var i uint64
			for b.Loop() {
				i++
				e.add(i, &h, rtp, plan, 0)
				if e.n == 91 {
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

// A release that does not know FEC gets no parity frames and no longer probes, and what it lost by NACK.
func TestPeerWithoutFECGetsNone(t *testing.T) {
	s, lanes, f, cam := newTestSender(t, 2)
	for _, fec := range []bool{false, true} {
		s.adapt(150*ms, 0.05, 4, fec, 10*ms)
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
					require.True(t, fec || fr.kind != frameParity)
					b = rest
				}
			}
		}
		require.Equal(t, fec, s.stats.parity.Load() > 0)
	}
	s.close()
}
