package node

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/node/signal"
)

// G.107 and G.109: what clients show follows delay and loss of the participant's own way to its edge.
func TestPathRating(t *testing.T) {
	for name, tc := range map[string]struct {
		path path
		want signal.ConnectionLevel
	}{
		"next door":          {path{rtt: 5 * time.Millisecond}, signal.ConnectionExcellent},
		"across the land":    {path{rtt: 60 * time.Millisecond, loss: 0.005}, signal.ConnectionExcellent},
		"some loss":          {path{rtt: 60 * time.Millisecond, loss: 0.05}, signal.ConnectionGood},
		"much loss":          {path{rtt: 60 * time.Millisecond, loss: 0.15}, signal.ConnectionPoor},
		"satellite":          {path{rtt: 600 * time.Millisecond}, signal.ConnectionGood},
		"satellite and loss": {path{rtt: 600 * time.Millisecond, loss: 0.05}, signal.ConnectionPoor},
		"nothing arrives":    {path{rtt: 100 * time.Millisecond, loss: 1}, signal.ConnectionPoor},
	} {
		t.Run(name, func(t *testing.T) {
			r := tc.path.rating()
			require.Equal(t, tc.want, level(r), "R %.1f", r)
			require.GreaterOrEqual(t, opinion(r), float32(1))
			require.LessOrEqual(t, opinion(r), float32(4.5))
		})
	}
}
