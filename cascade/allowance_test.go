package cascade

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

// victim is the half of a link that a worst case is given to, without a lane.
type victim struct {
	rx    *receiver
	tx    *sender
	stats *counters
	now   time.Duration
}

func newVictim(tb testing.TB) *victim {
	v := &victim{stats: new(counters), now: time.Second}
	v.rx = newReceiver(DefaultConfig(), new(rtpstream.Pool), v.stats)
	v.tx = newSender(DefaultConfig(), v.stats, nil)
	tb.Cleanup(v.rx.close)
	return v
}

// take gives it a datagram of frames.
func (v *victim) take(tb testing.TB, b []byte) {
	for len(b) > 0 {
		f, rest, err := nextFrame(b)
		require.NoError(tb, err)
		b = rest
		switch f.kind {
		case frameNack:
			var entries [maxNackEntries]nackEntry
			n, err := parseNack(f.body, &entries)
			require.NoError(tb, err)
			if !v.tx.repeat(entries[:n], v.now, 0) {
				v.stats.drop(dropOverwork)
			}
		case frameProbe:
			p, err := parseProbe(f.body)
			require.NoError(tb, err)
			v.rx.announced(p.Highest, v.now)
		default:
			require.NoError(tb, v.rx.take(f, v.now, true))
		}
	}
}

// worst are the frames that cost most of their kind: each is given its number.
func worst() map[string]func(i int) []byte {
	rng := rand.New(rand.NewPCG(4, 4))
	noise := make([]byte, fecSymbolMax)
	for i := range noise {
		noise[i] = byte(rng.Uint32())
	}
	var packets [maxUnknowns][]byte // of a length no symbol reaches, so that their ends are looked for again and again
	for i := range packets {
		packets[i] = make([]byte, 1200)
		for j := range packets[i] {
			packets[i][j] = byte(rng.Uint32())
		}
		binary.BigEndian.PutUint16(packets[i], 1400)
	}
	return map[string]func(int) []byte{
		"sliding noise": func(i int) []byte {
			return slidingFrame(1, maxUnknowns, i, append([]byte{byte(i), byte(i >> 8)}, noise[:1150+i%30]...))
		},
		"sliding without an end": func(i int) []byte {
			sum := make([]byte, 1200)
			for p := range packets {
				galois.GalMulSliceXor(slideCoefficient(i%256, uint32(1+p)), packets[p], sum)
			}
			return slidingFrame(1, maxUnknowns, i, sum)
		},
		"sliding by the byte": func(i int) (b []byte) {
			if i == 0 {
				return slidingFrame(1, 1, 0, []byte{0})
			}
			if i < fecMaxPackets {
				return mediaFrame(1, uint32(i), rtpOf(uint16(i), 1000))
			}
			for j := range 60 {
				body := appendParity(nil, parityHeader{Base: 1, Packets: 192, Index: (60*i + j) % 256, Sliding: true, Span: 255 * ms}, []byte{byte(j)})
				b = append(appendFrameHead(b, frameSliding, len(body), false), body...)
			}
			return b
		},
		"graded noise": func(i int) []byte {
			body := appendParity(nil, parityHeader{
				Base: uint32(1 + i/fecMaxParity*fecMaxPackets), Packets: fecMaxPackets, Index: i % fecMaxParity, Parity: fecMaxParity, Graded: true,
			}, noise[:1150])
			return append(appendFrameHead(nil, frameGraded, len(body), true), body...)
		},
		"NACKs": func(i int) (b []byte) {
			for range 4 {
				b = append(b, fullNack(uint32(i), 33)...)
			}
			return b
		},
		"jumps": func(i int) (b []byte) {
			for j := range 60 {
				b = append(b, appendProbe(nil, probe{Sent: time.Second, Highest: uint32(60*i+j) * 600})...)
			}
			return b
		},
		"media without payload": func(i int) (b []byte) {
			for j := range 40 {
				b = appendMedia(b, &mediaHeader{Flow: 1, LinkSeq: uint32(1 + 2*(40*i+j)), Class: classRest, AudioLevel: 255}, rtpOf(uint16(2*(40*i+j)), 12), false)
			}
			return b
		},
	}
}

// What a peer makes up costs no more than its allowance, in steps: ten thousand datagrams at once, and as many in a second.
func TestWorstFramesStayWithinTheAllowance(t *testing.T) {
	for name, frame := range worst() {
		t.Run(name, func(t *testing.T) {
			v := newVictim(t)
			const datagrams = 10_000
			for i := range datagrams {
				v.take(t, frame(i))
				if i >= datagrams/2 {
					v.now += 2 * time.Second / datagrams
				}
				require.Greater(t, v.rx.fec.effort.left, -2.0*maxRows, "the last may overdraw it")
				require.Greater(t, v.tx.asking.left, -2.0*33*maxNackEntries)
				require.LessOrEqual(t, len(v.rx.fec.slide.all), maxEquations)
				require.LessOrEqual(t, len(v.rx.fec.slide.seqs), maxUnknowns)
			}
		})
	}
}

// Noise over 64 missing packets is turned over once for as many symbols, and not at each: what it makes is no packet, so
// the symbols go.
func TestNoiseIsTurnedOverOnce(t *testing.T) {
	v := newVictim(t)
	frame := worst()["sliding noise"]
	for i := range 1000 {
		v.take(t, frame(i))
	}
	require.Less(t, repairSaved-v.rx.fec.effort.left, 1000*400.0)
}

// Loss beyond what parity is made for is dear, but nobody is refused for it.
func TestHonestRepairIsWithinTheAllowance(t *testing.T) {
	withoutRace(t)
	for _, x := range []struct{ loss, burst, rate, left float64 }{
		{0.05, 4, 60e6, 0.75},
		{0.05, 4, 100e6, 0.75},
		{0.10, 4, 100e6, 0.25},
		{0.20, 4, 100e6, 0.25},
	} {
		t.Run(fmt.Sprintf("%v in bursts of %v at %v Mbit a second", x.loss, x.burst, x.rate/1e6), func(t *testing.T) {
			s := runSliding(t, x.loss, x.burst, x.rate, 1, 10_000)
			t.Logf("%.0f steps at most of %d saved up, %.0f a packet", repairSaved-s.least, repairSaved, s.spent/10_000)
			require.Greater(t, s.least, x.left*repairSaved)
		})
	}
}

func TestAllowance(t *testing.T) {
	a := newAllowance(100, 50)
	require.True(t, a.open(0))
	a.spend(60)
	require.False(t, a.open(0))
	require.Equal(t, 110*ms, a.debt(0))
	require.False(t, a.open(90*ms))
	require.True(t, a.open(110*ms))
	require.True(t, a.low(110*ms))
	require.False(t, a.low(time.Hour))
	require.True(t, a.open(0), "a clock that goes back takes nothing")
}

// BenchmarkWorst is what the worst datagram of each kind takes while it is allowed, and when no more is.
func BenchmarkWorst(b *testing.B) {
	for name, frame := range worst() {
		var made [1024][]byte
		for i := range made {
			made[i] = frame(i)
		}
		for how, left := range map[string]float64{"allowed": 1, "refused": 0} {
			b.Run(name+"/"+how, func(b *testing.B) {
				v := newVictim(b)
				steps, i := 0.0, 0
				for b.Loop() {
					v.rx.fec.effort.left, v.tx.asking.left = left*repairSaved, left*askedSaved
					v.take(b, made[i%len(made)])
					steps += left*(repairSaved+askedSaved) - v.rx.fec.effort.left - v.tx.asking.left
					if i++; i%len(made) == 0 {
						b.StopTimer()
						v.rx.close()
						v = newVictim(b)
						b.StartTimer()
					}
				}
				if left > 0 {
					b.ReportMetric(steps/float64(b.N), "steps/op")
				}
			})
		}
	}
}
