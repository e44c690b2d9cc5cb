package testnet

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestLinkValidate(t *testing.T) {
	for name, tc := range map[string]struct {
		link Link
		want []string // parts of the error; none: valid
	}{
		"zero":    {Link{}, nil},
		"all":     {Link{Delay: time.Second, Jitter: time.Millisecond, Loss: 1, Burst: 3, Rate: 1e6, Queue: time.Second, QueueBytes: 1}, nil},
		"loss":    {Link{Loss: 1.5}, []string{"loss 1.5"}},
		"NaN":     {Link{Loss: math.NaN(), Burst: math.NaN()}, []string{"loss NaN", "burst NaN"}},
		"endless": {Link{Loss: 0.5, Burst: math.Inf(1)}, []string{"burst +Inf"}},
		"dense":   {Link{Loss: 0.8, Burst: 3}, []string{"longer bursts"}},
		"everything": {
			Link{Delay: -1, Jitter: -1, Loss: -1, Burst: -1, Rate: -1, Queue: -1, QueueBytes: -1},
			[]string{"delay", "jitter", "loss", "burst", "rate", "queue -1ns", "queue of -1 bytes"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			err := tc.link.Validate()
			if tc.want == nil {
				require.NoError(t, err)
			}
			for _, part := range tc.want {
				require.ErrorContains(t, err, part)
			}
		})
	}
}
