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

func newClock() (clock, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return clock{}, fmt.Errorf("trunk: monotonic clock: %w", err)
	}
	return clock{start: time.Now(), base: ts.Nano()}, nil
}

// now is nanoseconds of the monotonic clock.
func (c clock) now() int64 { return c.base + int64(time.Since(c.start)) }

// until is how long it is to a moment of the monotonic clock.
func (c clock) until(t int64) time.Duration { return time.Duration(t - c.now()) }
