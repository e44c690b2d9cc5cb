package rtpstream

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestKeyframeGate(t *testing.T) {
	const s = time.Second
	g := KeyframeGate{JoinGap: 5 * s, RepairGap: s}
	require.False(t, g.Due(10*s), "nobody asked")
	require.False(t, g.Request(KeyframeForJoin, 10*s))
	require.True(t, g.Due(10*s))
	require.False(t, g.Due(10*s), "one in flight")
	require.True(t, g.Request(KeyframeForJoin, 10*s+s/10), "the same one")
	g.Arrived()
	require.False(t, g.Pending())

	require.True(t, g.Request(KeyframeForJoin, 12*s))
	require.False(t, g.Due(12*s), "joiners wait")
	require.True(t, g.Request(KeyframeForRepair, 12*s))
	require.True(t, g.Due(12*s), "whoever lost its picture waits less")
	g.Arrived()
	g.Request(KeyframeForJoin, 13*s)
	require.False(t, g.Due(17*s-1))
	require.True(t, g.Due(17*s))

	// Nobody answers: asked for again, ever more slowly.
	var sent []time.Duration
	for now := 17 * s; now < 31*s; now += s / 10 {
		if g.Due(now) {
			sent = append(sent, now-17*s)
		}
	}
	require.Equal(t, []time.Duration{s / 2, 3 * s / 2, 7 * s / 2, 15 * s / 2, 23 * s / 2}, sent)
}

// RFC 5104 has no bound on requests: a thousand joiners in a minute cause one in five seconds.
func TestKeyframeGateUnderStorm(t *testing.T) {
	g := KeyframeGate{JoinGap: 5 * time.Second, RepairGap: time.Second}
	sent := 0
	for i := range 1000 {
		now := time.Duration(i) * 60 * time.Millisecond
		g.Request(KeyframeForJoin, now)
		if g.Due(now) {
			sent++
			g.Arrived()
		}
	}
	require.LessOrEqual(t, sent, 12)
}
