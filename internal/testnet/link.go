package testnet

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// Link is what happens to packets on their way in one direction. The zero Link delivers at once and loses nothing.
type Link struct {
	Delay      time.Duration // one way, before jitter
	Jitter     time.Duration // up to this much is added to Delay, evenly distributed
	Reorder    bool          // packets whose jitter says so overtake; otherwise jitter keeps them in order
	Loss       float64       // share of packets lost before the queue, 0 to 1
	Burst      float64       // mean number of packets lost in a row (Gilbert–Elliott); up to 1 losses are independent
	Rate       int64         // bits per second of UDP payload; 0 is unlimited
	Queue      time.Duration // longest wait for Rate before packets are dropped
	QueueBytes int64         // most bytes waiting for Rate before packets are dropped; an idle link takes any packet
}

// DefaultQueue is how long packets wait for a Link's Rate when the Link sets neither Queue nor QueueBytes.
const DefaultQueue = 100 * time.Millisecond

// Validate returns all problems of l, joined.
func (l Link) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("testnet: "+format, args...))
		}
	}
	check(l.Delay >= 0, "delay %v is negative", l.Delay)
	check(l.Jitter >= 0, "jitter %v is negative", l.Jitter)
	check(l.Loss >= 0 && l.Loss <= 1, "loss %v is not a share from 0 to 1", l.Loss)
	check(l.Burst >= 0 && !math.IsInf(l.Burst, 1), "burst %v is not a number of packets", l.Burst)
	if l.Burst > 1 && l.Loss < 1 {
		// At least one packet passes between two bursts.
		check(l.Loss <= l.Burst/(l.Burst+1), "loss %v needs longer bursts than %v", l.Loss, l.Burst)
	}
	check(l.Rate >= 0, "rate %d is negative", l.Rate)
	check(l.Queue >= 0, "queue %v is negative", l.Queue)
	check(l.QueueBytes >= 0, "queue of %d bytes is negative", l.QueueBytes)
	return errors.Join(errs...)
}
