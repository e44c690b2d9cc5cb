package cascade

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/internal/testnet"
)

// A path that holds everything back for a moment and then delivers it at once, as a router that reroutes or a host that
// was not scheduled does, is no bottleneck: nothing is withheld for it, once or again and again.
func TestNoStepDownAfterAStall(t *testing.T) {
	withoutRace(t)
	for _, stall := range []time.Duration{15 * ms, 60 * ms, 200 * ms, 300 * ms} {
		t.Run(fmt.Sprint(stall), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				path := testnet.Link{Delay: 40 * ms}
				n := newNarrows(t, path, 1)
				n.conference(8)
				time.Sleep(2 * time.Second)
				n.produce()
				time.Sleep(5 * time.Second)
				from := time.Now()
				for range 4 {
					for left := stall; left > 0; left -= ms { // what is sent now comes with what is sent at the end
						held := path
						held.Delay += left
						n.set(held)
						time.Sleep(ms)
					}
					n.set(path)
					for range 200 {
						time.Sleep(10 * ms)
						require.Zero(t, n.status().Withheld)
					}
				}
				require.Greater(t, n.tally(from).video, 19e6)
				require.Empty(t, n.status().Drops)
				n.finish()
				require.Zero(t, n.silence())
			})
		})
	}
}
