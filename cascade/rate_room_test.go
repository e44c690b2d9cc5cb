package cascade

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestRateWindows(t *testing.T) {
	const mbit = 1e6 / 8 / 10 // bytes in a look
	for _, x := range []struct {
		name    string
		blocked time.Duration // in each look of 100 ms
		drops   uint64
		wanting bool
		first   time.Duration // looks until the first word, 0 for none in three seconds
	}{
		{"room", 0, 0, false, 0},
		{"drops for another reason", 10 * ms, 3, false, 0},
		{"waiting does no harm", 90 * ms, 0, false, 0},
		{"short", 50 * ms, 2, false, 400 * ms},
		{"lanes are being dialled", 50 * ms, 2, true, 2 * time.Second},
	} {
		t.Run(x.name, func(t *testing.T) {
			var w rateWindows
			now, first := time.Second, time.Duration(0)
			w.look(0, 0, x.wanting, now)
			for i := range uint64(30) {
				if x.blocked > 0 {
					w.full(now, true)
					w.full(now+x.blocked, false)
				}
				now += 100 * ms
				rate, short := w.look((i+1)*x.drops, uint64(5*mbit*float64(i+1)), x.wanting, now)
				if short && first == 0 {
					first = now - time.Second
					require.InDelta(t, 5e6, rate, 1e4)
				}
			}
			require.Equal(t, x.first, first)
		})
	}
}

// What lanes took is an estimate like any other: never above an earlier one, and never without a way up.
func TestRateConfined(t *testing.T) {
	var c rateControl
	c.confine(4e6, time.Second)
	require.Equal(t, rateLimited, c.phase)
	require.InDelta(t, rateTrust*4e6, c.estimate, 1)
	c.confine(8e6, 2*time.Second)
	require.InDelta(t, rateTrust*4e6, c.estimate, 1)
	c.confine(0, 3*time.Second)
	require.EqualValues(t, rateFloor, c.estimate)
	c.want(2e6, 1e6)
	c.tick(3*time.Second + probeMost)
	require.True(t, c.probe.sending)
}
