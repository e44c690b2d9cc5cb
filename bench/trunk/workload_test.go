package trunk

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

// collect takes the packets of the first while of a workload.
func collect(w *workload, d time.Duration) []event {
	var out []event
	for w.peek() < d {
		out = append(out, w.take())
	}
	return out
}

func TestWorkloadKeepsItsRate(t *testing.T) {
	for _, rate := range []int64{MinRate, 2_000_000, 3_700_000, 20_000_000, 60_000_000, MaxRate} {
		const d = 12 * time.Second
		bits := 0
		for _, e := range collect(newWorkload(rate, 1), d) {
			bits += e.bytes * 8
		}
		require.InEpsilon(t, float64(rate), float64(bits)/d.Seconds(), 0.05, "rate %d", rate)
	}
}

func TestWorkloadIsRepeatable(t *testing.T) {
	a, b := collect(newWorkload(20e6, 7), time.Second), collect(newWorkload(20e6, 7), time.Second)
	require.Equal(t, a, b)
	require.NotEqual(t, a, collect(newWorkload(20e6, 8), time.Second))
}

func TestWorkloadLooksLikeMedia(t *testing.T) {
	w := newWorkload(20e6, 3)
	events := collect(w, 7*time.Second)
	next := make([]uint32, len(w.streams))
	framePackets := make([]int, len(w.streams))
	keyframes := make([]int, len(w.streams))
	audio := 0
	last := time.Duration(0)
	for i := range events {
		e := &events[i]
		require.GreaterOrEqual(t, e.at, last, "in order of time")
		last = e.at
		require.Equal(t, next[e.stream], e.counter, "counters have no holes")
		next[e.stream]++
		require.LessOrEqual(t, e.bytes, maxVideoBytes)
		require.GreaterOrEqual(t, e.bytes, minVideoBytes)
		if w.streams[e.stream].audio {
			audio++
			continue
		}
		require.Equal(t, framePackets[e.stream] == 0, e.first)
		framePackets[e.stream]++
		require.LessOrEqual(t, framePackets[e.stream], maxFramePackets)
		if e.marker {
			framePackets[e.stream] = 0
		}
		if e.keyframe && e.first {
			keyframes[e.stream]++
		}
	}
	require.InDelta(t, 8*50*7, audio, 8, "50 audio packets a second from each of 8 microphones")
	for i, s := range w.streams {
		if !s.audio {
			require.GreaterOrEqual(t, keyframes[i], 2, "a keyframe every 3 s")
			require.LessOrEqual(t, keyframes[i], 3)
		}
	}
}

// What a receiver finds in a packet is what its sender says of it.
func TestPacketsAreVP8AndOpus(t *testing.T) {
	w := newWorkload(2e6, 1)
	var pool rtpstream.Pool
	kinds := map[string]int{}
	for _, e := range collect(w, 4*time.Second) {
		audio := w.streams[e.stream].audio
		p := pool.Get()
		raw := e.build(p.Buffer(), audio, true, 12345)
		require.NoError(t, p.Parse(len(raw)))
		e.describe(p, audio)
		s, ok := parseStamp(raw)
		require.True(t, ok)
		require.Equal(t, stamp{counted: true, stream: e.stream, counter: e.counter, sent: 12345}, s)
		require.Equal(t, uint16(e.counter), p.SequenceNumber)
		if audio {
			kinds["audio"]++
			require.NotEqual(t, uint8(rtpstream.NoAudioLevel), p.AudioLevel)
		} else {
			d, err := rtpstream.ParseVP8(p.Payload())
			require.NoError(t, err)
			require.Equal(t, e.temporal, d.TID)
			require.Equal(t, e.first, d.Start)
			require.Equal(t, e.marker, p.Marker)
			if p.Keyframe {
				kinds["keyframe"]++
				require.Zero(t, p.Payload()[d.Size]&1)
				require.Zero(t, p.Temporal)
			}
		}
		p.Release()
	}
	require.NotZero(t, kinds["audio"])
	require.NotZero(t, kinds["keyframe"])
}
