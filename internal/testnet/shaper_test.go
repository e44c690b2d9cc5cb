package testnet

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Share lost and mean burst length come out as configured, within four standard errors: a burst is geometric with
// mean B, so the number of lost packets among n has the variance of a binomial times about 2B-1.
func TestShaperLoss(t *testing.T) {
	const packets = 1_000_000
	for name, link := range map[string]Link{
		"none":                {},
		"all":                 {Loss: 1},
		"0.1 %":               {Loss: 0.001},
		"2 %":                 {Loss: 0.02},
		"2 % in bursts of 5":  {Loss: 0.02, Burst: 5},
		"5 % in bursts of 4":  {Loss: 0.05, Burst: 4},
		"75 % in bursts of 3": {Loss: 0.75, Burst: 3},
	} {
		t.Run(name, func(t *testing.T) {
			s := NewShaper(link, 1, 2)
			var dropped, runs, single, run int
			for range packets {
				_, v := s.Packet(time.Unix(0, 0), 1000)
				if v == Lost {
					dropped++
					run++
					continue
				}
				if run > 0 {
					runs++
				}
				if run == 1 {
					single++
				}
				run = 0
			}
			burst := link.Burst
			if burst <= 1 { // independent losses come in runs, too
				burst = 1 / (1 - link.Loss)
			}
			if link.Loss == 0 || link.Loss == 1 {
				require.Equal(t, link.Loss*packets, float64(dropped))
				return
			}
			spread := math.Sqrt(link.Loss * (1 - link.Loss) * (2*burst - 1) / packets)
			require.InDelta(t, link.Loss, float64(dropped)/packets, 4*spread)
			deviation := math.Sqrt(burst * max(burst-1, 0.05) / float64(runs))
			require.InDelta(t, burst, float64(dropped)/float64(runs), 4*deviation)
			require.InDelta(t, 1/burst, float64(single)/float64(runs), 4*math.Sqrt(0.25/float64(runs)))
		})
	}
}

func TestShaperIsRepeatable(t *testing.T) {
	l := Link{Delay: 10 * time.Millisecond, Jitter: 5 * time.Millisecond, Loss: 0.1, Burst: 3}
	a, b := NewShaper(l, 7, 8), NewShaper(l, 7, 8)
	for i := range 1000 {
		now := time.Unix(0, int64(i)*int64(time.Millisecond))
		dueA, vA := a.Packet(now, 1200)
		dueB, vB := b.Packet(now, 1200)
		require.Equal(t, dueA, dueB)
		require.Equal(t, vA, vB)
	}
}

func TestShaperJitterKeepsOrder(t *testing.T) {
	s := NewShaper(Link{Delay: 20 * time.Millisecond, Jitter: 10 * time.Millisecond}, 1, 1)
	last := time.Time{}
	late := false
	for i := range 1000 {
		now := time.Unix(0, int64(i)*int64(time.Millisecond))
		due, v := s.Packet(now, 1200)
		require.Equal(t, Pass, v)
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
	s := NewShaper(Link{Rate: 1_000_000, Queue: 20 * time.Millisecond}, 1, 1)
	start := time.Unix(0, 0)
	for i := range 3 {
		due, v := s.Packet(start, 1000)
		require.Equal(t, Pass, v)
		require.Equal(t, time.Duration(i+1)*8*time.Millisecond, due.Sub(start))
	}
	_, v := s.Packet(start, 1000)
	require.Equal(t, Overflow, v)
	due, v := s.Packet(start.Add(100*time.Millisecond), 1000)
	require.Equal(t, Pass, v)
	require.Equal(t, 108*time.Millisecond, due.Sub(start))
}

func TestShaperTickRoundsUp(t *testing.T) {
	s := NewShaper(Link{Delay: 10 * time.Millisecond}, 1, 1)
	s.tick = time.Millisecond
	due, _ := s.Packet(time.Unix(0, 300_000), 1)
	require.Equal(t, time.Unix(0, 11_000_000), due)
}

func TestShaperReorders(t *testing.T) {
	s := NewShaper(Link{Delay: 20 * time.Millisecond, Jitter: 10 * time.Millisecond, Reorder: true}, 1, 1)
	const packets = 10_000
	var sum time.Duration
	var late int // packets that somebody sent later overtakes
	var last time.Duration
	for i := range packets {
		at := time.Duration(i) * time.Millisecond
		due, v := s.Packet(time.Unix(0, int64(at)), 1200)
		require.Equal(t, Pass, v)
		took := due.Sub(time.Unix(0, int64(at)))
		require.GreaterOrEqual(t, took, 20*time.Millisecond)
		require.LessOrEqual(t, took, 30*time.Millisecond)
		if at+took < last {
			late++
		}
		sum += took
		last = max(last, at+took)
	}
	require.InDelta(t, 25, (sum/packets).Seconds()*1000, 0.2) // evenly distributed: jitter is not pushed up by order
	require.Greater(t, late, packets/4)

	s.Set(Link{Delay: 0})
	due, _ := s.Packet(time.Unix(0, int64(packets*time.Millisecond)), 1200)
	require.Equal(t, time.Unix(0, int64(last)), due, "in order again behind the latest in flight")
}

func TestShaperQueueBytes(t *testing.T) {
	start := time.Unix(0, 0)
	for name, tc := range map[string]struct {
		link Link
		want int // packets of 1000 bytes taken at once; each takes 8 ms
	}{
		"bytes alone":          {Link{Rate: 1e6, QueueBytes: 30_000}, 30}, // longer than DefaultQueue
		"smaller than one":     {Link{Rate: 1e6, QueueBytes: 10}, 1},
		"time first":           {Link{Rate: 1e6, Queue: 20 * time.Millisecond, QueueBytes: 30_000}, 3},
		"bytes first":          {Link{Rate: 1e6, Queue: time.Second, QueueBytes: 5000}, 5},
		"neither: the default": {Link{Rate: 1e6}, 13},
	} {
		t.Run(name, func(t *testing.T) {
			s := NewShaper(tc.link, 1, 1)
			var got int
			for range 100 {
				if _, v := s.Packet(start, 1000); v == Pass {
					got++
				}
			}
			require.Equal(t, tc.want, got)
		})
	}
}

func BenchmarkShaper(b *testing.B) {
	s := NewShaper(Link{Delay: time.Second, Jitter: time.Millisecond, Reorder: true, Loss: 0.05, Burst: 4, Rate: 1e9}, 1, 1)
	var line Timeline[int]
	now := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		now = now.Add(100 * time.Microsecond)
		if due, v := s.Packet(now, 1200); v == Pass {
			line.Push(due, 1)
		}
		line.PopDue(now)
	}
}
