package cascade

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func (s *sim) print(t *testing.T) {
	t.Helper()
	for i, h := range s.history {
		t.Logf("%3d s  media %5.2f  tcp %5.2f Mbit/s  estimate %6.2f  %-9v rung %2d  queue %v", i+1, 8e-6*float64(h.media), 8e-6*float64(h.tcp),
			h.estimate/1e6, h.phase, h.level, h.queue.Round(ms))
	}
}

// Loss without a queue is the path's own, whatever its pattern: RFC 8836 §2.
func TestRateIgnoresLossWithoutQueue(t *testing.T) {
	withoutRace(t)
	for _, x := range []struct {
		rate   float64
		delay  time.Duration
		jitter time.Duration
		loss   float64
		burst  float64
	}{
		{20e6, 75 * ms, 0, 0.02, 1},
		{20e6, 75 * ms, 0, 0.05, 4},
		{20e6, 75 * ms, 10 * ms, 0.05, 4},
		{60e6, 125 * ms, 0, 0.01, 1},
		{2e6, 40 * ms, 5 * ms, 0.05, 4},
		{500e3, 10 * ms, 30 * ms, 0.05, 4},
		{20e6, 50 * ms, 100 * ms, 0, 1},
	} {
		t.Run(fmt.Sprintf("%.1fM %v±%v %.0f%%", x.rate/1e6, x.delay, x.jitter, 100*x.loss), func(t *testing.T) {
			s := newSim(x.rate, 10, simPath{delay: x.delay, jitter: x.jitter, loss: newGilbert(3, x.loss, x.burst)})
			s.run(60 * time.Second)
			if s.lowest < s.rungs {
				s.print(t)
			}
			require.Equal(t, s.rungs, s.lowest, "stepped down at %v", s.steppedAt)
			require.Zero(t, s.dropped)
		})
	}
}

func TestRateFindsBottleneck(t *testing.T) {
	withoutRace(t)
	for _, x := range []struct {
		delay, queue time.Duration
		loss, burst  float64
		from, to     float64
	}{
		{40 * ms, 100 * ms, 0, 1, 20e6, 10e6},
		{40 * ms, 300 * ms, 0, 1, 20e6, 10e6},
		{75 * ms, 200 * ms, 0.02, 1, 20e6, 10e6},
		{75 * ms, 50 * ms, 0, 1, 20e6, 10e6},
		{5 * ms, 100 * ms, 0, 1, 20e6, 10e6},
		{125 * ms, 200 * ms, 0.01, 1, 60e6, 20e6},
		{40 * ms, 100 * ms, 0.05, 4, 20e6, 18e6},
		{40 * ms, 2 * ms, 0, 1, 20e6, 10e6},
		{20 * ms, 200 * ms, 0, 1, 5e6, 1e6},
	} {
		t.Run(fmt.Sprintf("%v %v %.0f%% %.0fM to %.0fM", x.delay, x.queue, 100*x.loss, x.from/1e6, x.to/1e6), func(t *testing.T) {
			s := newSim(x.from, 20, simPath{delay: x.delay, loss: newGilbert(3, x.loss, x.burst)})
			s.run(5 * time.Second)
			require.Empty(t, s.steppedAt)
			s.path.rate, s.path.queue = x.to, x.queue
			began := len(s.waits)
			s.run(20 * time.Second)
			p99 := s.quantile(0.99, began)
			dropped := s.dropped
			s.path.rate = 0
			s.run(5 * time.Second)
			require.NotEmpty(t, s.steppedAt)
			first := s.steppedAt[0] - 6*time.Second
			t.Logf("p50 %v p99 %v, dropped %d, first step after %v", s.quantile(0.5, began), p99, dropped, first)
			require.Equal(t, s.rungs, s.level, "all of it again within 5 s")
			if x.queue > 10*ms {
				require.Less(t, first, time.Second)
			}
			require.Less(t, s.quantile(0.9, began), 50*ms)
			got := 0.0
			for _, h := range s.history[7:25] {
				got += 8 * float64(h.media) / 18
			}
			require.Greater(t, got, 0.7*x.to, "what fits is used")
			require.LessOrEqual(t, got, x.to)
		})
	}
}

func TestRateSharesWithTCP(t *testing.T) {
	withoutRace(t)
	for _, cubic := range []bool{false, true} {
		for _, delay := range []time.Duration{10 * ms, 40 * ms, 75 * ms} {
			for _, queue := range []time.Duration{50 * ms, 100 * ms, 200 * ms} {
				t.Run(fmt.Sprintf("cubic %v %v %v", cubic, delay, queue), func(t *testing.T) {
					s := newSim(19e6, 20, simPath{delay: delay, rate: 20e6, queue: queue})
					s.run(5 * time.Second)
					s.bulk(cubic)
					s.run(60 * time.Second)
					media, tcp := 0, 0
					for _, h := range s.history[15:] {
						media, tcp = media+h.media, tcp+h.tcp
					}
					if os.Getenv("RATE_PRINT") != "" {
						s.print(t)
					}
					t.Logf("media %.1f %%, TCP %.1f %% of 20 Mbit/s; dropped %d", 100*8e-6*float64(media)/20/50, 100*8e-6*float64(tcp)/20/50, s.dropped)
					require.Greater(t, 8e-6*float64(media)/20/50, 0.22)
					require.Greater(t, 8e-6*float64(tcp)/20/50, 0.22)
				})
			}
		}
	}
}

// Media that comes to a queue that TCP keeps full finds its share, and has the path again when TCP goes.
func TestRateJoinsTCP(t *testing.T) {
	withoutRace(t)
	for _, x := range []struct {
		delay, queue time.Duration
		demand       float64
	}{
		{20 * ms, 100 * ms, 19e6},
		{20 * ms, 100 * ms, 38e6},
		{20 * ms, 40 * ms, 19e6},
		{75 * ms, 100 * ms, 19e6},
		{75 * ms, 100 * ms, 38e6},
		{75 * ms, 150 * ms, 19e6},
	} {
		t.Run(fmt.Sprintf("%v %v %.0fM", x.delay, x.queue, x.demand/1e6), func(t *testing.T) {
			s := newIdleSim(x.demand, 20, simPath{delay: x.delay, rate: 20e6, queue: x.queue})
			s.run(2 * time.Second)
			flow := s.bulk(true)
			s.run(10 * time.Second)
			s.begin()
			joined, dropped := len(s.history), s.overflow
			s.run(5 * time.Second)
			t.Logf("%d dropped by the path within 5 s of %d sent", s.overflow-dropped, len(s.waits))
			s.run(25 * time.Second)
			gone, began := len(s.history), len(s.waits)
			flow.window, flow.stopped = 0, true
			s.run(10 * time.Second)
			if os.Getenv("RATE_PRINT") != "" {
				s.print(t)
			}
			media, tcp := 0, 0
			for _, h := range s.history[joined+5 : gone] {
				media, tcp = media+h.media, tcp+h.tcp
			}
			share := float64(media) / float64(media+tcp)
			alone := 0
			for _, h := range s.history[gone+5:] {
				alone += h.media
			}
			p99 := s.quantile(0.99, began+(len(s.waits)-began)/2)
			t.Logf("media %.1f %%; then alone %.1f Mbit/s in queues of %v at p99", 100*share, 8e-6*float64(alone)/5, p99)
			require.Greater(t, share, 0.2)
			require.Less(t, share, 0.8)
			require.Greater(t, 8*float64(alone)/5, 0.7*min(19e6, x.demand), "what fits is used")
			require.Less(t, p99, 60*ms)
		})
	}
}

// A path that becomes longer for good is found out within a second, and what stands in its queue afterwards still is.
func TestRateOnALongerPath(t *testing.T) {
	withoutRace(t)
	for _, x := range []struct {
		rate         float64 // of the path, 0 for no limit
		from, to     time.Duration
		jitter       time.Duration
		demand, then float64
	}{
		{0, 40 * ms, 60 * ms, 0, 20e6, 10e6},
		{0, 20 * ms, 100 * ms, 0, 20e6, 10e6},
		{30e6, 40 * ms, 60 * ms, 0, 20e6, 10e6},
		{0, 40 * ms, 60 * ms, 4 * ms, 20e6, 10e6},
		{10e6, 40 * ms, 60 * ms, 0, 20e6, 5e6}, // limited before
	} {
		t.Run(fmt.Sprintf("%v to %v, %.0fM", x.from, x.to, x.rate/1e6), func(t *testing.T) {
			s := newSim(x.demand, 20, simPath{rate: x.rate, queue: 100 * ms, delay: x.from, jitter: x.jitter})
			s.run(15 * time.Second)
			full := s.level
			s.path.delay = x.to
			s.run(4 * time.Second)
			if s.level < full-1 || os.Getenv("RATE_PRINT") != "" {
				s.print(t)
			}
			require.GreaterOrEqual(t, s.level, full-1, "all that came before within 4 s")
			require.NotEqual(t, rateShared, s.ctl.phase)
			s.path.rate = x.then
			began := len(s.waits)
			s.run(10 * time.Second)
			t.Logf("queue p50 %v p90 %v", s.quantile(0.5, began), s.quantile(0.9, began))
			require.Less(t, s.quantile(0.9, began), 60*ms, "a queue of its own is one")
			require.Less(t, float64(s.level)/20*x.demand, x.then)
		})
	}
}
