package cascade

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

// slider is a sliding code over a path: its encoder, a decoder with its tracker, and what is on its way.
type slider struct {
	*codec
	track *tracker
	enc   slidingEncoder
	sent  map[uint64]inbound // not there yet
	at    map[uint64]time.Duration
	bytes int // of parity
	late  []time.Duration
	sizes []int
	media int     // bytes of what is protected
	least float64 // of the allowance
	spent float64
}

func newSlider(plan fecPlan) *slider {
	s := &slider{codec: newCodec(), track: newTracker(500 * ms), sent: make(map[uint64]inbound), at: make(map[uint64]time.Duration)}
	s.enc.follow(newLadder(plan))
	s.seq = s.track.base
	return s
}

// leave sends a packet, which arrives or not.
func (s *slider) leave(in inbound, lost bool, now time.Duration) {
	s.sent[s.seq], s.at[s.seq] = in, now
	s.enc.add(s.seq, &in.h, s.raw(&in), now)
	if !lost {
		s.arrive(in, now)
	}
}

func (s *slider) arrive(in inbound, now time.Duration) {
	seq, fresh := s.track.received(in.h.LinkSeq, false, now)
	if fresh {
		s.dec.put(seq, &in, now)
		s.there(seq, now)
		s.restored(s.dec.came(seq, now), now)
	}
}

func (s *slider) there(seq uint64, now time.Duration) {
	s.late = append(s.late, now-s.at[seq])
	in := s.sent[seq]
	s.sizes = append(s.sizes, in.size)
	in.pkt.Release()
	delete(s.sent, seq)
}

// restored are verified against what was sent.
func (s *slider) restored(got []inbound, now time.Duration) {
	for i := range got {
		seq, fresh := s.track.received(got[i].h.LinkSeq, true, now)
		if !fresh {
			panic("restored what is here")
		}
		want := s.sent[seq]
		want.h.Retransmission = true
		if want.h != got[i].h || !slices.Equal(s.raw(&want), s.raw(&got[i])) {
			panic("restored another packet")
		}
		s.there(seq, now)
		got[i].pkt.Release()
	}
}

// mend sends the symbols that are due, some of which arrive.
func (s *slider) mend(t *testing.T, path *gilbert, now time.Duration) {
	for now >= s.enc.due && s.enc.planned > 0 {
		h, symbol, ok := s.enc.symbol(now)
		if !ok {
			continue
		}
		body := appendParity(nil, h, symbol)
		s.bytes += len(body)
		if path.lost() {
			continue
		}
		h, symbol, err := parseParity(frame{kind: frameSliding, body: body})
		require.NoError(t, err)
		base := s.track.extend(h.Base)
		s.track.announced(h.Base+uint32(h.Packets)-1, now)
		s.restored(s.dec.slid(base, &h, symbol, s.track, now), now)
	}
}

// TestSlidingWindow runs the code over lossy paths, every byte of it: what is restored is what was sent, in time.
// A release before gets blocks: TestResidualLossOfTheCode.
func TestSlidingWindow(t *testing.T) {
	withoutRace(t)
	for name, x := range map[string]struct {
		loss, burst, residual, audio, overhead, rate float64
		packets                                      int
	}{
		"2 % random, 20 Mbit/s":         {0.02, 1, 0.00006, 0.0001, 0.09, 20e6, 200_000},
		"2 % random, 2 Mbit/s":          {0.02, 1, 0.0009, 0.0004, 0.2, 2e6, 60_000},
		"0.1 % random, 20 Mbit/s":       {0.001, 1, 0.00005, 0.0001, 0.025, 20e6, 60_000},
		"5 % in bursts of 4, 20 Mbit/s": {0.05, 4, 0.0030, 0.002, 0.225, 20e6, 60_000},
		"5 % in bursts of 4, 60 Mbit/s": {0.05, 4, 0.0030, 0.002, 0.225, 60e6, 30_000},
	} {
		t.Run(name, func(t *testing.T) {
			const seeds = 3
			residual, audio := 0.0, 0.0 // means: a window that fails is several packets at once
			for seed := range uint64(seeds) {
				r, a, overhead := simulateSliding(t, x.loss, x.burst, x.rate, seed, x.packets)
				t.Logf("residual %.4f %%, audio %.4f %%, overhead %.1f %%", 100*r, 100*a, 100*overhead)
				residual, audio = residual+r/seeds, audio+a/seeds
				require.LessOrEqual(t, overhead, x.overhead)
			}
			require.LessOrEqual(t, residual, x.residual)
			require.LessOrEqual(t, audio, x.audio)
		})
	}
}

func simulateSliding(t *testing.T, loss, burst, rate float64, seed uint64, packets int) (residual, audioResidual, overhead float64) {
	s := runSliding(t, loss, burst, rate, seed, packets)
	left, audio, leftAudio := 0, 0, 0
	for i, late := range s.late {
		if s.sizes[i] <= fecShort {
			audio++
			if late > 60*ms {
				leftAudio++
			}
		}
		if late > 60*ms {
			left++
		}
	}
	return float64(left) / float64(packets), float64(leftAudio) / float64(audio), float64(s.bytes) / float64(s.media)
}

func runSliding(t *testing.T, loss, burst, rate float64, seed uint64, packets int) *slider {
	rng := rand.New(rand.NewPCG(seed, 5))
	path := newGilbert(seed, loss, burst)
	s := newSlider(planFEC(150*ms, loss, burst))
	s.least = repairSaved
	at := time.Duration(0)
	for range packets {
		n := mixedLength(rng)
		at += time.Duration(float64(n*8) / rate * float64(time.Second))
		s.dec.effort.open(at)
		before := s.dec.effort.left
		s.mend(t, path, at)
		s.seq++
		in := inbound{h: mediaHeader{Flow: 1, LinkSeq: uint32(s.seq), Class: classBase, AudioLevel: rtpstream.NoAudioLevel}, pkt: s.pool.Get(), size: n}
		b := in.pkt.Buffer()[:n]
		for i := range b {
			b[i] = byte(s.seq) + byte(i*i)
		}
		b[0], b[1] = 0x80, 96
		require.NoError(t, in.pkt.Parse(n))
		s.media += n
		s.leave(in, path.lost(), at)
		for seq, in := range s.sent {
			if at-s.at[seq] > 210*ms { // sent again
				s.arrive(in, at)
			}
		}
		s.spent += before - s.dec.effort.left
		s.least = min(s.least, s.dec.effort.left)
	}
	return s
}

// What a symbol covers may come in any order, before it and after it, and be of any kind and length.
func TestSlidingSymbolsRestoreAnyPackets(t *testing.T) {
	s := newSlider(fecPlan{loss: 0.05, burst: 4})
	path := newGilbert(1, 0, 1)
	var held []inbound
	at := ms
	for i := range 3000 {
		at += 500 * time.Microsecond
		in := s.packet()
		switch s.rng.IntN(12) {
		case 0:
			s.leave(in, true, at)
		case 1: // overtaken
			s.leave(in, true, at)
			held = append(held, in)
		default:
			s.leave(in, false, at)
		}
		if len(held) > 3 {
			if _, missing := s.sent[uint64(held[0].h.LinkSeq)+s.track.base]; missing {
				s.arrive(held[0], at)
			}
			held = held[1:]
		}
		if i > 200 {
			s.mend(t, path, at)
		}
		require.LessOrEqual(t, len(s.dec.slide.all), maxEquations)
	}
	require.Less(t, len(s.sent), 150, "the first of them, and the last")
	require.Greater(t, len(s.late), 2800)
	for _, in := range s.sent {
		in.pkt.Release()
	}
	s.dec.clear()
	require.Empty(t, s.dec.slide.all)
}

// Whatever a peer makes up, what is kept and what is tried is bounded.
func TestSlidingSymbolsOfALiar(t *testing.T) {
	s := newSlider(fecPlan{loss: 0.05, burst: 4})
	rng := rand.New(rand.NewPCG(4, 4))
	symbol := make([]byte, fecSymbolMax)
	for i := range symbol {
		symbol[i] = byte(rng.Uint32())
	}
	for i := range 2000 {
		base := s.track.base + 1 + uint64(i/3)
		h := parityHeader{Packets: 1 + rng.IntN(fecMaxPackets), Index: rng.IntN(256), Sliding: true, Span: 255 * ms}
		s.track.announced(uint32(base-s.track.base)+uint32(h.Packets)-1, ms)
		for _, in := range s.dec.slid(base, &h, symbol[:1+rng.IntN(fecSymbolMax)], s.track, ms) {
			in.pkt.Release()
		}
		require.LessOrEqual(t, len(s.dec.slide.all), maxEquations)
		require.LessOrEqual(t, len(s.dec.slide.spare), maxEquations+2)
		require.LessOrEqual(t, len(s.dec.slide.seqs), maxUnknowns)
		require.Less(t, s.dec.slide.turned, maxRows+2*maxEquations*maxUnknowns)
	}
	s.dec.clear()
}

func TestStrideGoesEverywhere(t *testing.T) {
	for n := 1; n <= fecMaxParity; n++ {
		been := make(map[int]bool)
		for i := range n {
			been[i*stride(n)%n] = true
		}
		require.Len(t, been, n)
	}
}

func BenchmarkSliding(b *testing.B) {
	for name, plan := range map[string]fecPlan{"thousandth": {0.001, 1}, "random": {0.02, 1}, "bursts": {0.05, 4}} {
		b.Run(name, func(b *testing.B) {
			var e slidingEncoder
			e.follow(newLadder(plan))
			h := mediaHeader{Flow: 1}
			rtp := make([]byte, 1150)
			b.ReportAllocs()
			var i uint64
			for b.Loop() {
				i++
				now := time.Duration(i) * 430 * time.Microsecond
				e.add(i, &h, rtp, now)
				for now >= e.due {
					e.symbol(now)
				}
			}
		})
	}
}

// A packet that comes when parity has been away for a while is not kept, though symbols that cover it may be.
func TestSlidingWindowIsForgotten(t *testing.T) {
	s := newSlider(planFEC(150*ms, 0.02, 1))
	now, n := ms, 0
	for ; len(s.dec.slide.all) == 0; n++ { // three of four are lost: more than any symbol makes up for
		require.Less(t, n, 1000)
		s.leave(s.packet(), n%4 != 0, now)
		s.mend(t, newGilbert(1, 0, 1), now)
		now += 400 * time.Microsecond
	}
	wanting := s.dec.slide.all[0].unknown[0]
	s.arrive(s.sent[wanting], now+2*fecIdle)
	require.False(t, s.dec.has(wanting))
}
