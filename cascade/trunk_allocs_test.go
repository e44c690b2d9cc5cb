//go:build !race

package cascade

import (
	"math"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

// What a packet allocates between two nodes over real sockets, both sides together: nothing over direct media, but for
// what ticks; eleven times in quic-go as a QUIC DATAGRAM. It is 0.001 and 10.5. The race detector makes pools forget.
func TestTrunkAllocs(t *testing.T) {
	for name, tc := range map[string]struct {
		direct bool
		budget float64
	}{"direct": {true, 0.05}, "datagrams": {false, 12}} {
		t.Run(name, func(t *testing.T) {
			x := newTrunk(t, tc.direct)
			carry := func(frames int) {
				for range frames {
					x.frame()
					x.settle(50)
				}
				x.settle(0)
			}
			carry(1000) // fill the caches
			per := math.Inf(1)
			for attempt := 0; attempt < 3 && per > tc.budget; attempt++ { // a machine that stalls ticks more often to a packet
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				carry(500)
				runtime.ReadMemStats(&after)
				per = min(per, float64(after.Mallocs-before.Mallocs)/5000)
			}
			t.Logf("%.3f allocations a packet", per)
			require.LessOrEqual(t, per, tc.budget)
		})
	}
}
