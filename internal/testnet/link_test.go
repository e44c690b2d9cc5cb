package testnet

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestLinkValidate(t *testing.T) {
	for name, tc := range map[string]struct {
		link Link
		want []string // parts of the error; none: valid
	}{
		"zero": {Link{}, nil},
		"all":  {Link{Delay: time.Second, Jitter: time.Millisecond, Loss: 1, Burst: 3, Rate: 1e6, Queue: time.Second}, nil},
		"loss": {Link{Loss: 1.5}, []string{"loss 1.5"}},
		"everything": {
			Link{Delay: -1, Jitter: -1, Loss: -1, Burst: -1, Rate: -1, Queue: -1},
			[]string{"delay", "jitter", "loss", "burst", "rate", "queue"},
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

func TestShaperLoss(t *testing.T) {
	const packets = 200_000
	for name, tc := range map[string]struct {
		link            Link
		loss, lossDelta float64
		burst           float64 // mean length of runs of losses
	}{
		"none":        {Link{}, 0, 0, 0},
		"all":         {Link{Loss: 1}, 1, 0, packets},
		"independent": {Link{Loss: 0.02}, 0.02, 0.003, 1.02},
		"bursts of 5": {Link{Loss: 0.02, Burst: 5}, 0.02, 0.004, 5},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShaper(tc.link, 0, 1, 2)
			var dropped, runs int
			last := pass
			for range packets {
				_, v := s.packet(time.Unix(0, 0), 1000)
				if v == lost {
					dropped++
					if last != lost {
						runs++
					}
				}
				last = v
			}
			require.InDelta(t, tc.loss, float64(dropped)/packets, tc.lossDelta)
			if runs > 0 {
				require.InEpsilon(t, tc.burst, float64(dropped)/float64(runs), 0.1)
			}
		})
	}
}

func TestShaperIsRepeatable(t *testing.T) {
	l := Link{Delay: 10 * time.Millisecond, Jitter: 5 * time.Millisecond, Loss: 0.1, Burst: 3}
	a, b := newShaper(l, 0, 7, 8), newShaper(l, 0, 7, 8)
	for i := range 1000 {
		now := time.Unix(0, int64(i)*int64(time.Millisecond))
		dueA, vA := a.packet(now, 1200)
		dueB, vB := b.packet(now, 1200)
		require.Equal(t, dueA, dueB)
		require.Equal(t, vA, vB)
	}
}

func TestShaperJitterKeepsOrder(t *testing.T) {
	s := newShaper(Link{Delay: 20 * time.Millisecond, Jitter: 10 * time.Millisecond}, 0, 1, 1)
	last := time.Time{}
	late := false
	for i := range 1000 {
		now := time.Unix(0, int64(i)*int64(time.Millisecond))
		due, v := s.packet(now, 1200)
		require.Equal(t, pass, v)
		require.False(t, due.Before(last))
		require.GreaterOrEqual(t, due.Sub(now), 20*time.Millisecond)
		require.LessOrEqual(t, due.Sub(now), 30*time.Millisecond)
		late = late || due.Sub(now) > 25*time.Millisecond
		last = due
	}
	require.True(t, late, "jitter had no effect")
}

func TestShaperRate(t *testing.T) {
	// 1000 bytes at 1 Mbit/s take 8 ms; with 20 ms of queue packets 0 to 3 start at 0, 8, 16 ms; 24 ms is too late.
	s := newShaper(Link{Rate: 1_000_000, Queue: 20 * time.Millisecond}, 0, 1, 1)
	start := time.Unix(0, 0)
	for i := range 3 {
		due, v := s.packet(start, 1000)
		require.Equal(t, pass, v)
		require.Equal(t, time.Duration(i+1)*8*time.Millisecond, due.Sub(start))
	}
	_, v := s.packet(start, 1000)
	require.Equal(t, overflow, v)
	due, v := s.packet(start.Add(100*time.Millisecond), 1000)
	require.Equal(t, pass, v)
	require.Equal(t, 108*time.Millisecond, due.Sub(start))
}

func TestShaperTickRoundsUp(t *testing.T) {
	s := newShaper(Link{Delay: 10 * time.Millisecond}, time.Millisecond, 1, 1)
	due, _ := s.packet(time.Unix(0, 300_000), 1)
	require.Equal(t, time.Unix(0, 11_000_000), due)
}
