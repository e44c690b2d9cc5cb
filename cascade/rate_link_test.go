package cascade

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A peer that knows no padding would count it as garbage, and close the link.
func TestProbeWithoutPadding(t *testing.T) {
	for _, padded := range []bool{true, false} {
		s, lanes, f, cam := newTestSender(t, 1)
		l := lanes[0]
		cam.size = 1000
		now := time.Second
		s.limitRate(padded, now)
		s.rate.ctl.confine(1e6, now)
		s.want(5e6, 5e6, 0)
		padding, again := 0, 0
		for i := range 3000 {
			if i%20 == 0 {
				s.feed(f, cam, 1, now) // 400 kbit/s
			}
			s.tick(now)
			for b, ok := s.fill(l, nil, now); ok; b, ok = s.fill(l, nil, now) {
				fr, _, err := nextFrame(b)
				require.NoError(t, err)
				var h mediaHeader
				if fr.kind == framePadding {
					padding++
				} else if _, err = parseMedia(fr, &h); h.Retransmission {
					again++
				}
				require.NoError(t, err)
			}
			now += ms
		}
		sent := padding
		if !padded {
			require.Zero(t, padding)
			sent = again
		}
		require.Greater(t, sent, 10)
	}
}

// What a peer without reports asks for is what it has not got.
func TestGuessInPlaceOfReports(t *testing.T) {
	s := newSender(DefaultConfig(), new(counters), nil)
	require.False(t, s.guess(50*ms, time.Second), "nothing was sent")
	for i := range uint64(1000) {
		s.rate.left(i+1, 1000*i, time.Second+time.Duration(i)*ms)
	}
	s.next = 1001
	for i := range 36 {
		if i > 0 {
			s.rate.asked = 5
		}
		s.guess(50*ms, time.Second+time.Duration(i+2)*reportEvery)
	}
	c := &s.rate.ctl
	require.InDelta(t, 0.2, c.lossNow, 0.001)
	require.InDelta(t, 8e6, c.sent, 1e4)
	require.InDelta(t, 6.4e6, c.delivered, 1e4)
	require.Equal(t, 50*ms, c.base.delay())
	n := c.n
	s.guess(50*ms, time.Hour)
	s.guess(50*ms, 2*time.Hour)
	require.LessOrEqual(t, c.n, n+1, "nothing new left")
	s.guess(0, 3*time.Hour)
	require.LessOrEqual(t, c.n, n+1, "no answer, no news")
}
