package cascade

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

func TestMediaFrameRoundTrip(t *testing.T) {
	rtp := bytes.Repeat([]byte{0x80}, 100)
	for name, h := range map[string]mediaHeader{
		"audio":          {Flow: 1, LinkSeq: 7, Class: classAudio, AudioLevel: 35, Marker: true, Withheld: 255, Quiet: true},
		"keyframe":       {Flow: 63, LinkSeq: 1<<32 - 1, Class: classBase, Keyframe: true, Encoding: 3, AudioLevel: 255},
		"layers":         {Flow: 64, LinkSeq: 1 << 31, Class: classRest, Spatial: 7, Temporal: 7, AudioLevel: 255, Withheld: 254, Past: true},
		"retransmission": {Flow: maxFlowIDs - 1, Class: classRest, Retransmission: true, AudioLevel: 255},
		"first half":     {Flow: 5, LinkSeq: 9, Class: classBase, Total: 1400, AudioLevel: 255},
		"second half":    {Flow: 5, LinkSeq: 10, Class: classBase, Total: 1400, Second: true, AudioLevel: 255},
	} {
		for _, last := range []bool{true, false} {
			b := appendMedia(nil, &h, rtp, last)
			require.LessOrEqual(t, len(b), mediaHeaderBytes+len(rtp), name)
			if !last {
				b = appendAnswer(b, time.Second)
			}
			f, rest, err := nextFrame(b)
			require.NoError(t, err, name)
			require.Equal(t, last, len(rest) == 0, name)
			var got mediaHeader
			body, err := parseMedia(f, &got)
			require.NoError(t, err, name)
			require.Equal(t, h, got, name)
			require.Equal(t, rtp, body, name)
		}
	}
}

func TestShortHeaderRoundTrip(t *testing.T) {
	rtp := bytes.Repeat([]byte{0x80}, 100)
	for name, h := range map[string]mediaHeader{
		"audio":          {Flow: 1, LinkSeq: 7, Class: classAudio, AudioLevel: 35},
		"quiet audio":    {Flow: 1, LinkSeq: 7, Class: classAudio, AudioLevel: 127, Quiet: true},
		"keyframe":       {Flow: 63, LinkSeq: 1<<24 - 1, Class: classBase, Keyframe: true, Encoding: 3, AudioLevel: rtpstream.NoAudioLevel},
		"layers":         {Flow: 64, LinkSeq: 1 << 23, Class: classRest, Temporal: 7, Marker: true, AudioLevel: rtpstream.NoAudioLevel},
		"retransmission": {Flow: maxFlowIDs - 1, Class: classRest, Retransmission: true, AudioLevel: rtpstream.NoAudioLevel},
	} {
		require.True(t, h.fits(), name)
		for _, last := range []bool{true, false} {
			b := appendShort(nil, &h, rtp, last)
			require.Len(t, b, len(appendMedia(nil, &h, rtp, last))-3, name)
			if !last {
				b = appendAnswer(b, time.Second)
			}
			f, rest, err := nextFrame(b)
			require.NoError(t, err, name)
			require.Equal(t, last, len(rest) == 0, name)
			var got mediaHeader
			body, err := parseMedia(f, &got)
			require.NoError(t, err, name)
			want := h
			want.Short = true
			require.Equal(t, want, got, name)
			require.Equal(t, rtp, body, name)
		}
	}
	for name, h := range map[string]mediaHeader{
		"fragment":          {Class: classBase, Total: 1400, AudioLevel: rtpstream.NoAudioLevel},
		"spatial layer":     {Class: classBase, Spatial: 1, AudioLevel: rtpstream.NoAudioLevel},
		"high layer":        {Class: classBase, Temporal: 8, AudioLevel: rtpstream.NoAudioLevel},
		"loud video":        {Class: classBase, AudioLevel: 3},
		"audio with marker": {Class: classAudio, Marker: true},
		"audio of an SVC":   {Class: classAudio, Encoding: 1},
		"no level":          {Class: classAudio, AudioLevel: rtpstream.NoAudioLevel},
		"after a gap":       {Class: classBase, AudioLevel: rtpstream.NoAudioLevel, Withheld: 3},
		"of the past":       {Class: classBase, AudioLevel: rtpstream.NoAudioLevel, Past: true},
	} {
		require.False(t, h.fits(), name)
	}
}

// The whole link sequence number is the nearest to the highest so far, across every wrap.
func TestShortSequenceNumber(t *testing.T) {
	for _, highest := range []uint64{1 << 32, 1<<32 + 5, 1<<32 + 1<<24 - 1, 1<<32 + 1<<24, 1<<33 - 1, 1<<33 + 77} {
		for _, ahead := range []int64{-1 << 22, -70_000, -1, 0, 1, 3, 70_000, 1 << 22} {
			seq := uint32(int64(highest) + ahead)
			h := mediaHeader{LinkSeq: seq & shortSeq, Short: true}
			h.complete(highest)
			require.Equal(t, mediaHeader{LinkSeq: seq}, h, "%d after %d", ahead, highest)
		}
	}
}

func TestControlFramesRoundTrip(t *testing.T) {
	base := uint64(1<<32 - 3) // across the wrap
	seqs := []uint64{base, base + 1, base + 5, base + 32, base + 33, base + 100}
	b, taken := appendNack(nil, seqs)
	require.Equal(t, len(seqs), taken)
	p := probe{Sent: 123456 * time.Microsecond, Highest: 99, Loss: 777}
	b = appendProbe(b, p)
	b = appendAnswer(b, p.Sent)

	f, b, err := nextFrame(b)
	require.NoError(t, err)
	var entries [maxNackEntries]nackEntry
	n, err := parseNack(f.body, &entries)
	require.NoError(t, err)
	var got []uint32
	for _, e := range entries[:n] {
		got = append(got, e.Base)
		for i := range uint32(32) {
			if e.Bits&(1<<i) != 0 {
				got = append(got, e.Base+1+i)
			}
		}
	}
	var want []uint32
	for _, s := range seqs {
		want = append(want, uint32(s))
	}
	require.Equal(t, want, got)

	f, b, err = nextFrame(b)
	require.NoError(t, err)
	gotProbe, err := parseProbe(f.body)
	require.NoError(t, err)
	require.Equal(t, p, gotProbe)

	f, b, err = nextFrame(b)
	require.NoError(t, err)
	require.Empty(t, b)
	sent, err := parseAnswer(f.body)
	require.NoError(t, err)
	require.Equal(t, p.Sent, sent)
}

func TestNackFrameIsBounded(t *testing.T) {
	var seqs []uint64
	for i := range uint64(100) {
		seqs = append(seqs, 1000+i*40)
	}
	b, taken := appendNack(nil, seqs)
	require.Equal(t, maxNackEntries, taken)
	require.LessOrEqual(t, len(b), laneControlBytes)
}

func TestMalformedFramesAreErrors(t *testing.T) {
	media := byte(frameVersion<<6 | frameMedia<<2)
	fragment := byte(frameVersion<<6 | frameFragment<<2)
	short := byte(frameVersion<<6 | frameVideo<<2)
	cut := byte(frameVersion<<6 | frameContextVideo<<2)
	rtp := make([]byte, 20)
	cases := map[string]struct {
		in   []byte
		want error
	}{
		"empty":              {nil, errFrameShort},
		"version 0":          {[]byte{frameMedia << 2}, errFrameVersion},
		"version 2":          {[]byte{2<<6 | frameMedia<<2}, errFrameVersion},
		"reserved bit":       {[]byte{media | 1}, errFrameVersion},
		"unknown type":       {[]byte{frameVersion<<6 | 15<<2}, errFrameType},
		"cut, no header":     {[]byte{cut, 1, 0, 0, 1, 0, 0, 0, 0, 1}, errFrameShort},
		"cut, too long":      {append([]byte{cut, 1, 0, 0, 1, 0}, make([]byte, rtpstream.MaxPacketBytes-rtpHeaderBytes+contextHeaderBytes+1)...), errFrameField},
		"half a length":      {[]byte{media | 2, 0}, errFrameShort},
		"length too long":    {[]byte{media | 2, 0, 9, 1}, errFrameLength},
		"no flow":            {[]byte{media}, errFrameShort},
		"eight-byte flow":    {append([]byte{media, 0xc0}, rtp...), errFrameField},
		"flow too large":     {append([]byte{media, 0x80, 1, 0, 0}, rtp...), errFrameField},
		"half a flow":        {[]byte{media, 0x40}, errFrameShort},
		"no header":          {[]byte{media, 1, 0, 0, 0, 1, 0}, errFrameShort},
		"no RTP":             {[]byte{media, 1, 0, 0, 0, 1, 0, 0, 0}, errFrameField},
		"class on the wire":  {append([]byte{media, 1, 0, 0, 0, 1, byte(classRetransmission) << 2, 0, 0}, rtp...), errFrameField},
		"second of a whole":  {append([]byte{media, 1, 0, 0, 0, 1, 0x10, 0, 0}, rtp...), errFrameField},
		"fragment, no total": {[]byte{fragment, 1, 0, 0, 0, 1, 0, 0, 0, 1}, errFrameShort},
		"fragment too long":  {append([]byte{fragment, 1, 0, 0, 0, 1, 0, 0, 0, 0, 20}, rtp...), errFrameField},
		"total too large":    {append([]byte{fragment, 1, 0, 0, 0, 1, 0, 0, 0, 0xff, 0xff}, rtp...), errFrameField},
		"RTP too long":       {append([]byte{media, 1, 0, 0, 0, 1, 0, 0, 0}, make([]byte, rtpstream.MaxPacketBytes+1)...), errFrameField},
		"short, no flow":     {[]byte{short}, errFrameShort},
		"short, no header":   {[]byte{short, 1, 0, 0, 1}, errFrameShort},
		"short, no RTP":      {[]byte{short, 1, 0, 0, 1, 0}, errFrameField},
		"short, flow":        {append([]byte{short, 0x80, 1, 0, 0}, rtp...), errFrameField},
		"short, too long":    {append([]byte{short, 1, 0, 0, 1, 0}, make([]byte, rtpstream.MaxPacketBytes+1)...), errFrameField},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			f, _, err := nextFrame(tc.in)
			if err == nil {
				var h mediaHeader
				if rtp, err = parseMedia(f, &h); err == nil && f.cut() {
					_, err = parseContext(rtp, &cutHeader{})
				}
			}
			require.ErrorIs(t, err, tc.want)
		})
	}
	var entries [maxNackEntries]nackEntry
	for _, n := range []int{0, 7, 9, 8 * (maxNackEntries + 1)} {
		_, err := parseNack(make([]byte, n), &entries)
		require.Error(t, err)
	}
	for _, n := range []int{0, 8, 13, 15} {
		_, err := parseProbe(make([]byte, n))
		require.Error(t, err)
	}
	_, err := parseAnswer(bytes.Repeat([]byte{0xff}, 8))
	require.ErrorIs(t, err, errFrameField)
}

// FuzzFrame takes a datagram apart; what parses must come out the same when packed again.
func FuzzFrame(f *testing.F) {
	f.Add(appendMedia(nil, &mediaHeader{Flow: 5, LinkSeq: 9, Class: classBase, Encoding: 1}, make([]byte, 40), true))
	f.Add(appendMedia(appendMedia(nil, &mediaHeader{Flow: 70}, make([]byte, 40), false), &mediaHeader{Flow: 5, Total: 80, Second: true}, make([]byte, 40), true))
	f.Add(appendAnswer(appendProbe(nil, probe{Sent: time.Second}), time.Second))
	f.Add([]byte{0x44, 0xff})
	f.Add(appendShort(appendShort(nil, &mediaHeader{Flow: 70, Class: classBase, Retransmission: true}, make([]byte, 40), false), &mediaHeader{Flow: 5, AudioLevel: 80}, make([]byte, 40), true))
	f.Add(append(appendFrameHead(appendReport(nil, rateReport{Clock: 1 << 31, Seq: 7, Age: 9, Bytes: 1 << 20, Packets: 3}), framePadding, 0, true), make([]byte, 70)...))
	rtp := contextPacket(0x8060, 5, 6, 7, make([]byte, 40)...)
	cutVideo, _ := appendContext(nil, &mediaHeader{Flow: 70, Class: classBase}, newContext(1, rtp), rtp, false)
	cutAudio, _ := appendContext(cutVideo, &mediaHeader{Flow: 5, AudioLevel: 80, Retransmission: true}, newContext(3, rtp), rtp, true)
	f.Add(cutAudio)
	f.Fuzz(func(t *testing.T, b []byte) {
		for len(b) > 0 {
			fr, rest, err := nextFrame(b)
			if err != nil {
				return
			}
			switch fr.kind {
			case frameContextVideo, frameContextAudio:
				var h, h2 mediaHeader
				var cut, cut2 cutHeader
				body, err := parseMedia(fr, &h)
				if err == nil {
					body, err = parseContext(body, &cut)
				}
				if err != nil {
					return
				}
				require.True(t, h.fits())
				c := headerContext{id: cut.context, octets: 0x8060, ssrc: 9, timestamp: 1<<32 - 5}
				var dst [rtpstream.MaxPacketBytes]byte
				again, ok := appendContext(nil, &h, &c, dst[:c.whole(dst[:], cut, h.Marker, body)], true)
				require.True(t, ok)
				f2, _, err := nextFrame(again)
				require.NoError(t, err)
				require.Equal(t, fr.r, f2.r)
				body2, err := parseMedia(f2, &h2)
				require.NoError(t, err)
				body2, err = parseContext(body2, &cut2)
				require.NoError(t, err)
				require.Equal(t, h, h2)
				require.Equal(t, cut, cut2)
				require.Equal(t, body, body2)
			case frameVideo, frameAudio:
				var h mediaHeader
				rtp, err := parseMedia(fr, &h)
				if err != nil {
					return
				}
				require.True(t, h.fits())
				again, _, err := nextFrame(appendShort(nil, &h, rtp, true))
				require.NoError(t, err)
				require.Equal(t, fr.r, again.r)
				var h2 mediaHeader
				rtp2, err := parseMedia(again, &h2)
				require.NoError(t, err)
				require.Equal(t, h, h2)
				require.Equal(t, rtp, rtp2)
			case frameMedia, frameFragment:
				var h mediaHeader
				rtp, err := parseMedia(fr, &h)
				if err != nil {
					return
				}
				if h.Total == 0 && fr.kind == frameFragment {
					t.Fatal("fragment of nothing")
				}
				again, _, err := nextFrame(appendMedia(nil, &h, rtp, true))
				require.NoError(t, err)
				var h2 mediaHeader
				rtp2, err := parseMedia(again, &h2)
				require.NoError(t, err)
				require.Equal(t, h, h2)
				require.Equal(t, rtp, rtp2)
			case frameParity, frameGraded, frameSliding:
				if h, symbol, err := parseParity(fr); err == nil {
					require.Equal(t, fr.body, appendParity(nil, h, symbol))
				}
			case frameReport:
				if r, err := parseReport(fr.body); err == nil {
					require.Equal(t, fr.body, appendReport(nil, r)[frameHeadBytes:])
				}
			case frameProbe:
				if p, err := parseProbe(fr.body); err == nil {
					require.Equal(t, fr.body, appendProbe(nil, p)[frameHeadBytes:])
				}
			}
			b = rest
		}
	})
}

// FuzzNack: what parses asks for a bounded number of packets.
func FuzzNack(f *testing.F) {
	b, _ := appendNack(nil, []uint64{5, 6, 9, 100})
	f.Add(b[frameHeadBytes:])
	f.Add([]byte{1, 2, 3})
	f.Fuzz(func(t *testing.T, b []byte) {
		var entries [maxNackEntries]nackEntry
		n, err := parseNack(b, &entries)
		if err == nil && (n < 1 || n > maxNackEntries || len(b) != 8*n) {
			t.Fatalf("%d entries of %d bytes", n, len(b))
		}
	})
}

// FuzzReceive feeds whole datagrams to a link's receive side: no panic, no leak of one packet's bytes into another.
func FuzzReceive(f *testing.F) {
	half := make([]byte, 40)
	half[0] = 0x80
	f.Add(appendMedia(appendMedia(nil, &mediaHeader{Flow: 1, LinkSeq: 1, Total: 80}, half, false), &mediaHeader{Flow: 1, LinkSeq: 2, Total: 80, Second: true}, half, true))
	f.Add(appendMedia(nil, &mediaHeader{Flow: 1, LinkSeq: 3000000}, half, true))
	symbol := appendSymbol(nil, &mediaHeader{Flow: 1, LinkSeq: 1}, half)
	for c := range symbol {
		symbol[c] = fecTimes[evenCode.coefficient(0, 0)][symbol[c]]
	}
	body := appendParity(nil, parityHeader{Base: 1, Packets: 1, Parity: 1}, symbol)
	f.Add(append(appendFrameHead(nil, frameParity, len(body), true), body...))
	liar := appendParity(nil, parityHeader{Base: 1 << 31, Packets: 128, Index: 39, Parity: 40}, []byte{0xff, 0xff, 1})
	f.Add(append(appendFrameHead(nil, frameParity, len(liar), true), liar...))
	liar = appendParity(nil, parityHeader{Base: 1, Packets: 192, Index: 63, Parity: 64}, []byte{0x84, 0xff, 1})
	f.Add(append(appendFrameHead(nil, frameGraded, len(liar), true), liar...))
	window := parityHeader{Base: 1, Packets: 2, Sliding: true, Span: 50 * ms}
	both := appendMedia(nil, &mediaHeader{Flow: 1, LinkSeq: 1, Class: classBase}, half, false)
	for c := range symbol { // of packet 2, which is missing
		symbol[c] = 0xa5
	}
	sliding := appendParity(nil, window, symbol)
	both = append(append(both, appendFrameHead(nil, frameSliding, len(sliding), false)...), sliding...)
	window.Index, window.Packets = 255, 192
	sliding = appendParity(nil, window, symbol[:1])
	f.Add(append(append(both, appendFrameHead(nil, frameSliding, len(sliding), true)...), sliding...))
	f.Fuzz(func(t *testing.T, b []byte) {
		var pool rtpstream.Pool
		var stats counters
		r := newReceiver(DefaultConfig(), &pool, &stats)
		for len(b) > 0 {
			fr, rest, err := nextFrame(b)
			if err != nil {
				return
			}
			if fr.media() {
				_ = r.take(fr, time.Second, true)
			}
			b = rest
		}
		r.collect(2*time.Second, 0, nil)
		r.close()
	})
}
