package rtpstream

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const everyEncoding = EncodingSet(1<<MaxEncodings - 1)

func TestKeyframeGates(t *testing.T) {
	const s = time.Second
	g := KeyframeGates{JoinGap: 5 * s, RepairGap: s}
	require.Zero(t, g.Due(10*s, everyEncoding), "nobody asked")
	require.False(t, g.Request(0, KeyframeForJoin, 10*s))
	require.Zero(t, g.Due(10*s, everyEncoding&^1), "a stream that has not begun cannot be asked")
	require.Equal(t, everyEncoding, g.Due(10*s, everyEncoding))
	require.Zero(t, g.Due(10*s, everyEncoding), "one in flight")
	require.True(t, g.Request(0, KeyframeForJoin, 10*s+s/10), "the same one")
	g.Arrived(0)
	require.False(t, g.Pending())

	require.True(t, g.Request(0, KeyframeForJoin, 12*s))
	require.Zero(t, g.Due(12*s, everyEncoding), "joiners wait")
	require.True(t, g.Request(0, KeyframeForRepair, 12*s))
	require.EqualValues(t, 1, g.Due(12*s, everyEncoding), "whoever lost its picture waits less")
	g.Arrived(0)
	g.Request(0, KeyframeForJoin, 13*s)
	require.Zero(t, g.Due(17*s-1, everyEncoding))
	require.Equal(t, everyEncoding, g.Due(17*s, everyEncoding))

	// Nobody answers: asked for again, ever more slowly.
	var sent []time.Duration
	for now := 17 * s; now < 31*s; now += s / 10 {
		if g.Due(now, everyEncoding) != 0 {
			sent = append(sent, now-17*s)
		}
	}
	require.Equal(t, []time.Duration{s / 2, 3 * s / 2, 7 * s / 2, 15 * s / 2, 23 * s / 2}, sent)
	require.True(t, g.Request(MaxEncodings, KeyframeForRepair, 31*s), "no such encoding")
}

// The source is asked once for all that waits, and at the same time for what those who begin go on to.
func TestKeyframeGatesOfOneSource(t *testing.T) {
	const s = time.Second
	const three = EncodingSet(7)
	g := KeyframeGates{JoinGap: 5 * s, RepairGap: s}
	g.Request(0, KeyframeForJoin, s)
	require.Equal(t, three, g.Due(s, three))
	for e := range uint8(3) {
		g.Arrived(e)
	}
	require.True(t, g.Request(2, KeyframeForJoin, 2*s))
	require.Zero(t, g.Due(6*s-1, three), "the large one as well")
	require.Equal(t, three, g.Due(6*s, three))
	g.Arrived(0)
	g.Arrived(2)
	g.Request(1, KeyframeForJoin, 7*s)
	require.Zero(t, g.Due(7*s, three), "it was asked for without being wanted: whether it comes is not waited for, nor asked again")
	g.Request(2, KeyframeForRepair, 7*s)
	require.EqualValues(t, 6, g.Due(7*s, three), "who waits goes along with who may")
	g.Arrived(1)
	g.Arrived(2)
	g.Request(0, KeyframeForJoin, 11*s)
	require.EqualValues(t, 7, g.Due(11*s, three), "four seconds are not of late")
	g.Arrived(0)
	g.Request(2, KeyframeForRepair, 14*s)
	require.EqualValues(t, 4, g.Due(14*s, three), "a lost picture renews nothing else")
	g.Arrived(2)
	g.Request(0, KeyframeForJoin, 16*s)
	require.EqualValues(t, 3, g.Due(16*s, three), "two seconds are")
}

// RFC 5104 has no bound on requests: a thousand joiners in a minute cause one in five seconds, whatever they begin with.
func TestKeyframeGatesUnderStorm(t *testing.T) {
	g := KeyframeGates{JoinGap: 5 * time.Second, RepairGap: time.Second}
	var sent []time.Duration
	for i := range 1000 {
		now := time.Duration(i) * 60 * time.Millisecond
		g.Request(uint8(i%3), KeyframeForJoin, now)
		if ask := g.Due(now, everyEncoding); ask != 0 {
			sent = append(sent, now)
			for e := range uint8(MaxEncodings) {
				if ask.Has(e) {
					g.Arrived(e)
				}
			}
		}
	}
	require.Len(t, sent, 12)
	for i, at := range sent[1:] {
		require.GreaterOrEqual(t, at-sent[i], g.JoinGap)
	}
}
