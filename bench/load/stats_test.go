package load

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A quantile of the histogram is at most 1/32 above the true one.
func TestHistogram(t *testing.T) {
	var h, empty histogram
	require.Zero(t, empty.quantile(0.5))
	rnd := rand.New(rand.NewPCG(1, 2))
	var all []time.Duration
	for range 5000 {
		d := time.Duration(rnd.ExpFloat64() * float64(20*time.Millisecond))
		h.add(d)
		all = append(all, d)
	}
	slices.Sort(all)
	for _, q := range []float64{0, 0.5, 0.9, 0.99, 1} {
		want := all[int(q*float64(len(all)-1))]
		got := h.quantile(q)
		require.Greater(t, got, want-time.Microsecond, q)
		require.LessOrEqual(t, got, want+want/32+2*time.Microsecond, q)
	}
	var sum histogram
	sum.merge(&h)
	sum.merge(&h)
	require.Equal(t, 2*h.n, sum.n)
	require.Equal(t, h.quantile(0.5), sum.quantile(0.5))
	for _, d := range []time.Duration{-time.Second, 0, 31 * time.Microsecond, 32 * time.Microsecond, time.Hour, 1000 * time.Hour} {
		i := bucketOf(d)
		require.True(t, i >= 0 && i < histogramBuckets, d)
	}
	for i := 1; i < histogramBuckets; i++ {
		require.Greater(t, bucketTop(i), bucketTop(i-1), i)
		require.Equal(t, i, bucketOf(bucketTop(i-1)), "buckets touch")
	}
}

func TestQuantile(t *testing.T) {
	require.Zero(t, quantile(nil, 0.5))
	v := []time.Duration{5, 1, 4, 2, 3}
	require.Equal(t, time.Duration(3), quantile(v, 0.5))
	require.Equal(t, time.Duration(5), quantile(v, 0.95))
	require.Equal(t, time.Duration(1), quantile(v, 0))
}

func TestMostRequests(t *testing.T) {
	s := func(at ...float64) (out []time.Duration) {
		for _, x := range at {
			out = append(out, time.Duration(x*float64(time.Second)))
		}
		return out
	}
	require.Equal(t, 0, mostRequests(nil))
	require.Equal(t, 1, mostRequests(s(0, 5, 10)))
	require.Equal(t, 3, mostRequests(s(0, 6, 7, 10.9, 12)))
}

func rtpPacket(seq uint16, timestamp uint32) []byte {
	b := make([]byte, 100)
	b[0], b[1] = 0x80, 96
	binary.BigEndian.PutUint16(b[2:], seq)
	binary.BigEndian.PutUint32(b[4:], timestamp)
	return b
}

// RFC 3550 A.1: loss by sequence numbers, across the wrap, whatever the order.
func TestStreamLoss(t *testing.T) {
	var x stream
	for _, seq := range []uint16{65533, 65534, 1, 65535, 4} { // 0, 2 and 3 are missing
		x.take(rtpPacket(seq, 0), time.Second, 0, 16)
	}
	m := x.mark()
	require.EqualValues(t, 5, m.received)
	require.EqualValues(t, 8, m.expected)
	require.InDelta(t, 3.0/8, m.loss(), 1e-9)
	x.take(rtpPacket(5, 0), time.Second, 0, 16)
	require.Zero(t, x.mark().minus(m).loss())
	require.Zero(t, (&stream{}).mark().loss())
}

// A freeze is a gap of thrice the usual one, or 150 ms more than it.
func TestStreamFreezes(t *testing.T) {
	x := stream{video: true, decoded: true}
	now, timestamp, seq := time.Second, uint32(1<<32-9000), uint16(0)
	frame := func(after time.Duration) {
		now += after
		timestamp += 3000
		for range 3 {
			seq++
			x.take(rtpPacket(seq, timestamp), now, 0, 16)
		}
	}
	for range 60 {
		frame(33 * time.Millisecond)
	}
	require.Zero(t, x.freezes)
	frame(90 * time.Millisecond)
	require.Zero(t, x.freezes)
	frame(250 * time.Millisecond)
	require.Equal(t, 1, x.freezes)
	require.Equal(t, 250*time.Millisecond, x.frozen)
	frame(33 * time.Millisecond)
	require.Equal(t, 1, x.freezes)
	x.take(rtpPacket(seq+1, timestamp+90000), now+time.Second, now+time.Millisecond, 16)
	require.Equal(t, 1, x.freezes, "muted meanwhile")
}

func TestStreamSample(t *testing.T) {
	x := stream{video: true}
	for i := range 10 {
		require.True(t, x.take(rtpPacket(uint16(i), 0), time.Second, 0, 4), "everything until a keyframe")
	}
	x.decoded = true
	n := 0
	for i := 10; i < 410; i++ {
		if x.take(rtpPacket(uint16(i), 0), time.Duration(i), 0, 4) {
			n++
			at, ok := x.arrivedAt(uint16(i))
			require.True(t, ok)
			require.Equal(t, time.Duration(i), at)
		}
	}
	require.Equal(t, 100, n)
	require.Zero(t, x.gap, "after the first picture nothing is asked for again")
	y := stream{video: true}
	y.take(rtpPacket(65534, 0), 1, 0, 4)
	y.take(rtpPacket(2, 0), 1, 0, 4)
	require.EqualValues(t, []uint16{65535, 3}, []uint16{y.gapAt, y.gap})
	_, ok := x.arrivedAt(3)
	require.False(t, ok)
}

func TestFrameHunt(t *testing.T) {
	var h frameHunt
	require.False(t, h.take(1, 10, true, false), "the end of something")
	require.False(t, h.take(2, 20, false, true))
	require.False(t, h.take(4, 20, true, false), "a packet is missing")
	late := frameHunt{}
	require.False(t, late.take(65535, 20, false, true))
	require.False(t, late.take(1, 20, true, false))
	require.True(t, late.take(0, 20, false, false), "it came late")
	require.False(t, h.take(5, 30, false, true))
	require.False(t, h.take(6, 30, false, false))
	require.True(t, h.take(7, 30, true, false))
	require.True(t, (&frameHunt{}).take(65535, 40, true, true), "a frame of one packet")
}

// RFC 7741 §4.2: what the camera makes is what a server reads.
func TestCamera(t *testing.T) {
	c := camera{width: 640, height: 360, frameBytes: 4000}
	var last uint16
	for i := range 9 {
		key := i == 0 || i == 6
		total, packets, ended := 0, 0, false
		c.frame(key, time.Duration(i), func(b []byte, marker bool) {
			require.LessOrEqual(t, len(b), packetBytes+64)
			require.Equal(t, packets == 0 && key, keyframeStart(b), "frame %d packet %d", i, packets)
			at, ok := readStamp(b)
			require.True(t, ok)
			require.Equal(t, time.Duration(i), at)
			last = binary.BigEndian.Uint16(b[2:]) & 0x7fff
			total += len(b)
			packets++
			ended = marker
		})
		require.True(t, ended)
		require.EqualValues(t, i+1, last)
		want := 4000
		if key {
			want *= keyframeSize
		}
		require.InDelta(t, want, total, float64(want)/10)
	}
	_, ok := readStamp([]byte("short"))
	require.False(t, ok)
	for _, b := range [][]byte{nil, {0x10}, {0x90}, {0x90, 0xff}, {0x90, 0x80, 0x80}} {
		require.False(t, keyframeStart(b))
	}
}

func TestRTPHeader(t *testing.T) {
	require.Equal(t, 12, rtpHeader(rtpPacket(1, 1)))
	b := rtpPacket(1, 1)
	b[0] |= 0x12
	b[23] = 2
	require.Equal(t, 12+8+4+8, rtpHeader(b))
	b[23] = 200
	require.Zero(t, rtpHeader(b), "longer than the packet")
	require.Zero(t, rtpHeader(b[:9]))
	require.True(t, isRTP(rtpPacket(1, 1)))
	require.False(t, isRTP([]byte{0x80, 200, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0}), "a sender report")
	require.False(t, isMedia([]byte{0x00, 0x01, 0, 0, 0, 0, 0, 0}), "STUN")
	require.Equal(t, kindOther, kindOf("video", "rtx/90000"))
	require.Equal(t, kindVideo, kindOf("video", "VP8/90000"))
	require.Equal(t, kindAudio, kindOf("audio", "opus/48000/2"))
	require.Equal(t, kindUnknown, kindOf("application", "webrtc-datachannel"))
}

func TestParseProcess(t *testing.T) {
	stat := []byte("4711 (a (strange) name) S 1 2 3 4 5 6 7 8 9 10 250 150 0 0 20 0 9 0 1000")
	p, ok := parseProcess(stat, []byte("5000 1200 300 10 0 900 0"), 4096)
	require.True(t, ok)
	require.Equal(t, 4*time.Second, p.cpu)
	require.EqualValues(t, 1200*4096, p.rss)
	for _, bad := range []string{"", "1 (x) S 1", "no parentheses"} {
		_, ok := parseProcess([]byte(bad), []byte("1 2"), 4096)
		require.False(t, ok, bad)
	}
	require.False(t, readProcesses(nil).ok)
	require.False(t, readProcesses([]int{-1}).ok)
}
