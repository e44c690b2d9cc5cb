package soak

import (
	"context"
	"log/slog"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestGrowthIsSeen(t *testing.T) {
	steady := func(i int) Sample {
		return Sample{Heap: 20<<20 + uint64(i%3)<<20, RSS: 80 << 20, Goroutines: 100 + i%7, Descriptors: 9, Lanes: 12}
	}
	var r Result
	for i := range 40 {
		r.Samples = append(r.Samples, steady(i))
	}
	require.Empty(t, r.Growth())
	for name, leak := range map[string]func(*Sample, int){
		"heap":            func(s *Sample, i int) { s.Heap += uint64(i) << 20 },
		"resident memory": func(s *Sample, i int) { s.RSS += uint64(i) << 21 },
		"goroutines":      func(s *Sample, i int) { s.Goroutines += 2 * i },
		"descriptors":     func(s *Sample, i int) { s.Descriptors += i },
		"lanes":           func(s *Sample, i int) { s.Lanes += i },
	} {
		var leaky Result
		for i := range 40 {
			s := steady(i)
			leak(&s, i)
			leaky.Samples = append(leaky.Samples, s)
		}
		require.Len(t, leaky.Growth(), 1, name)
		require.Contains(t, leaky.Growth()[0], name)
	}
	require.Empty(t, Result{Samples: r.Samples[:5]}.Growth(), "too few to tell")
}

func TestConfigIsChecked(t *testing.T) {
	require.NoError(t, DefaultConfig().Validate())
	_, err := New(Config{Loss: 2, RTT: -1}, slog.New(slog.DiscardHandler))
	for _, want := range []string{"duration", "loss", "rtt", "rate", "churn"} {
		require.ErrorContains(t, err, want)
	}
}

// Real sockets and goroutines, for as long as it takes to see that media flows and that nothing is left at the end.
func TestSoakRunsAndLeavesNothing(t *testing.T) {
	before := runtime.NumGoroutine()
	cfg := DefaultConfig()
	cfg.Duration, cfg.Every, cfg.Churn, cfg.RTT, cfg.Rate = 10*time.Minute, 100*time.Millisecond, 20*time.Millisecond, 10*time.Millisecond, 5e5
	s, err := New(cfg, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	res, err := s.Run(ctx, func(now Sample) {
		if now.Arrived > 100 && now.Flows > 3 {
			cancel() // seen enough
		}
	})
	require.ErrorIs(t, err, context.Canceled, "media flowed before the time was over")
	last := res.Samples[len(res.Samples)-1]
	require.NotZero(t, last.Lanes)
	require.NotZero(t, last.Heap)
	require.Eventually(t, func() bool { return runtime.NumGoroutine() <= before+1 }, 10*time.Second, 5*time.Millisecond)
}
