package failover

import (
	"io"
	"log/slog"
	"os"
	"strconv"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

func quiet() *slog.Logger {
	out := io.Discard
	if os.Getenv("MERIDIAN_TEST_LOG") != "" {
		out = os.Stderr
	}
	return slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// virtually runs trials one after the other in virtual time.
func virtually(t *testing.T, cfg Config) *Report {
	t.Helper()
	var outcomes []Outcome
	for i := range uint64(cfg.Trials) {
		synctest.Test(t, func(t *testing.T) {
			o, err := Trial(t.Context(), cfg, cfg.Seed<<20+i, quiet())
			require.NoError(t, err)
			outcomes = append(outcomes, o)
			if testing.Verbose() {
				t.Logf("%+v", o)
			}
		})
	}
	r := NewReport(cfg.Scenario, outcomes)
	_ = WriteTable(os.Stdout, []*Report{r})
	return r
}

// trials is how many a test runs; MERIDIAN_FAILOVER_TRIALS makes it more.
func trials(t *testing.T, n int) int {
	if s := os.Getenv("MERIDIAN_FAILOVER_TRIALS"); s != "" {
		more, err := strconv.Atoi(s)
		require.NoError(t, err)
		return more
	}
	return n
}

func TestFailover(t *testing.T) {
	for _, s := range Scenarios {
		t.Run(string(s), func(t *testing.T) {
			cfg := DefaultConfig()
			cfg.Scenario, cfg.Trials = s, trials(t, 8)
			r := virtually(t, cfg)
			require.LessOrEqual(t, r.Video.P95, 500.0)
			if s != BlackHole {
				return
			}
			require.LessOrEqual(t, r.AudioTwin.Max, 60.0)
			require.Equal(t, r.Trials, r.Returned)
			require.LessOrEqual(t, max(r.BackVideo.Max, r.BackAudio.Max), 60.0, "no gap on the way back, 33 ms of it between two frames")
		})
	}
}
