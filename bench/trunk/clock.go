package trunk

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// clock tells the machine's monotonic time, which all processes share, at the price of time.Now.
type clock struct {
	start time.Time
	base  int64
}

// newClock compares the two clocks a few times: between two readings the process may lose its processor.
func newClock() (clock, error) {
	var best clock
	closest := int64(-1)
	for range 5 {
		var before, after unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &before); err != nil {
			return clock{}, fmt.Errorf("trunk: monotonic clock: %w", err)
		}
		now := time.Now()
		if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &after); err != nil {
			return clock{}, fmt.Errorf("trunk: monotonic clock: %w", err)
		}
		if apart := after.Nano() - before.Nano(); closest < 0 || apart < closest {
			closest, best = apart, clock{start: now, base: before.Nano() + apart/2}
		}
	}
	return best, nil
}

// now is nanoseconds of the monotonic clock.
func (c clock) now() int64 { return c.base + int64(time.Since(c.start)) }

// until is how long it is to a moment of the monotonic clock.
func (c clock) until(t int64) time.Duration { return time.Duration(t - c.now()) }
