package soak

import (
	"errors"
	"fmt"
	"time"
)

// Config is what a soak goes through.
type Config struct {
	Duration time.Duration // of all of it; default 20 min, 10 s at least
	Every    time.Duration // between two samples; default a fortieth of Duration
	Churn    time.Duration // between two changes; default 500 ms, 10 ms at least
	RTT      time.Duration // of every path; default 80 ms
	Loss     float64       // worst share lost in each direction, 0 to 0.5; default 0.03
	Rate     int64         // bits per second each node publishes, 100 kbit/s to 50 Mbit/s; default 2 Mbit/s
	Seed     uint64        // of losses and churn; default 1
}

// DefaultConfig is twenty minutes of it.
func DefaultConfig() Config {
	return Config{
		Duration: 20 * time.Minute, Churn: 500 * time.Millisecond, RTT: 80 * time.Millisecond, Loss: 0.03, Rate: 2e6, Seed: 1,
	}
}

// Validate returns every problem of the configuration, joined.
func (c Config) Validate() error {
	var errs []error
	bad := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("soak: "+format, args...))
		}
	}
	bad(c.Duration >= 10*time.Second, "duration is %s, must be 10s at least", c.Duration)
	bad(c.Every >= 0 && c.Every <= c.Duration/6, "every is %s, must be a sixth of the duration at most", c.Every)
	bad(c.Churn >= 10*time.Millisecond, "churn is %s, must be 10ms at least", c.Churn)
	bad(c.RTT >= 0 && c.RTT <= 2*time.Second, "rtt is %s, must be up to 2s", c.RTT)
	bad(c.Loss >= 0 && c.Loss <= 0.5, "loss is %v, must be a share from 0 to 0.5", c.Loss)
	bad(c.Rate >= 1e5 && c.Rate <= 50e6, "rate is %d, must be 100k to 50M", c.Rate)
	return errors.Join(errs...)
}

func (c Config) every() time.Duration {
	if c.Every > 0 {
		return c.Every
	}
	return c.Duration / 40
}
