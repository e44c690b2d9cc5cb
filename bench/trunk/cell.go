package trunk

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/meridian-sfu/meridian/internal/testnet"
)

// Cell is one set of conditions. Both directions of the path are alike.
type Cell struct {
	RTT        time.Duration // round trip without queues, 0 to 2 s
	Loss       float64       // share of packets lost in each direction, 0 to 0.5
	Burst      float64       // mean packets lost in a row; up to 1 losses are independent
	Jitter     time.Duration // up to this much is added to each packet's delay, 0 to 500 ms
	Bottleneck int64         // bits per second of UDP payload the path carries; 0 is unlimited
	Rate       int64         // bits per second of RTP offered, 500 kbit/s to 200 Mbit/s

	// The bottleneck comes and goes if BottleneckTo is not 0: it is there from BottleneckFrom to BottleneckTo of the counted time.
	BottleneckFrom  time.Duration
	BottleneckTo    time.Duration
	BottleneckQueue time.Duration // longest wait before it drops, up to 10 s; 0: 100 ms

	Duration time.Duration // counted, 500 ms to 1 h
}

// Limits of a Cell.
const (
	MinRate     = 500_000
	MaxRate     = 200_000_000
	minDuration = 500 * time.Millisecond
	maxDuration = time.Hour
)

// Slack is how late a packet may be beyond the path's own delay and still count as delivered.
const Slack = 60 * time.Millisecond

// Validate returns all problems of c, joined.
func (c Cell) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(c.RTT >= 0 && c.RTT <= 2*time.Second, "rtt is %v, must be 0 to 2s", c.RTT)
	check(c.Loss >= 0 && c.Loss <= 0.5, "loss is %v, must be 0 to 50%%", c.Loss)
	check(c.Burst >= 0 && c.Burst <= 1000, "burst is %v, must be up to 1000 packets", c.Burst)
	check(c.Jitter >= 0 && c.Jitter <= 500*time.Millisecond, "jitter is %v, must be 0 to 500ms", c.Jitter)
	check(c.Bottleneck == 0 || (c.Bottleneck >= 100_000 && c.Bottleneck <= 10_000_000_000),
		"bottleneck is %d, must be 100k to 10G, or 0 for none", c.Bottleneck)
	check(c.BottleneckQueue >= 0 && c.BottleneckQueue <= 10*time.Second, "queue of the bottleneck is %v, must be up to 10s", c.BottleneckQueue)
	if c.BottleneckFrom != 0 || c.BottleneckTo != 0 {
		check(c.Bottleneck > 0, "no bottleneck can come and go: it has no rate")
		check(c.BottleneckFrom >= 0 && c.BottleneckFrom < c.BottleneckTo && c.BottleneckTo <= c.Duration,
			"bottleneck is there from %v to %v, must be within %v, in order", c.BottleneckFrom, c.BottleneckTo, c.Duration)
	}
	check(c.Rate >= MinRate && c.Rate <= MaxRate, "rate is %d, must be 500k to 200M", c.Rate)
	check(c.Duration >= minDuration && c.Duration <= maxDuration, "duration is %v, must be 500ms to 1h", c.Duration)
	return errors.Join(errs...)
}

// link is one direction of the path.
func (c Cell) link() testnet.Link {
	return testnet.Link{
		Delay: c.RTT / 2, Jitter: c.Jitter, Loss: c.Loss, Burst: c.Burst, Rate: c.Bottleneck, Queue: c.BottleneckQueue,
	}
}

// wide is the path without its bottleneck.
func (c Cell) wide() Cell {
	c.Bottleneck, c.BottleneckFrom, c.BottleneckTo, c.BottleneckQueue = 0, 0, 0, 0
	return c
}

// episodic reports whether the bottleneck comes and goes.
func (c Cell) episodic() bool { return c.BottleneckTo > 0 }

// empty reports whether the path does nothing to packets.
func (c Cell) empty() bool { return c.RTT == 0 && c.Loss == 0 && c.Jitter == 0 && c.Bottleneck == 0 }

// clean is the path without loss, jitter and bottleneck.
func (c Cell) clean() Cell {
	c.Loss, c.Burst, c.Jitter = 0, 0, 0
	return c.wide()
}

// limits are the delays up to which a packet counts, in time and late.
func (c Cell) limits() (inTime, late time.Duration) {
	inTime = c.RTT/2 + Slack
	return inTime, inTime + c.RTT
}

// LossName tells the loss as people write it: "2%", "5%×4" for bursts of four.
func (c Cell) LossName() string {
	s := fmt.Sprintf("%g%%", c.Loss*100)
	if c.Loss > 0 && c.Burst > 1 {
		s += fmt.Sprintf("×%g", c.Burst)
	}
	return s
}

// RateName tells a rate as people write it: "20M", "500k".
func RateName(rate int64) string {
	if rate >= 1_000_000 {
		return fmt.Sprintf("%gM", float64(rate)/1e6)
	}
	return fmt.Sprintf("%gk", float64(rate)/1e3)
}

func (c Cell) String() string {
	s := fmt.Sprintf("%v RTT, %s loss, %s", c.RTT, c.LossName(), RateName(c.Rate))
	if c.Jitter > 0 {
		s += fmt.Sprintf(", %v jitter", c.Jitter)
	}
	if c.Bottleneck > 0 {
		s += fmt.Sprintf(", %s bottleneck", RateName(c.Bottleneck))
	}
	if c.episodic() {
		s += fmt.Sprintf(" from %v to %v", c.BottleneckFrom, c.BottleneckTo)
	}
	return s
}

type cellJSON struct {
	RTT        float64 `json:"rtt_ms"`
	Loss       float64 `json:"loss"`
	Burst      float64 `json:"burst"`
	Jitter     float64 `json:"jitter_ms"`
	Bottleneck int64   `json:"bottleneck_bps"`
	Rate       int64   `json:"rate_bps"`
	Duration   float64 `json:"duration_s"`
	From       float64 `json:"bottleneck_from_s,omitempty"`
	To         float64 `json:"bottleneck_to_s,omitempty"`
	Queue      float64 `json:"bottleneck_queue_ms,omitempty"`
}

// MarshalJSON writes the cell with units in the names of its fields.
func (c Cell) MarshalJSON() ([]byte, error) {
	return json.Marshal(cellJSON{
		RTT: millis(c.RTT), Loss: c.Loss, Burst: c.Burst, Jitter: millis(c.Jitter), Bottleneck: c.Bottleneck,
		Rate: c.Rate, Duration: c.Duration.Seconds(), From: c.BottleneckFrom.Seconds(), To: c.BottleneckTo.Seconds(),
		Queue: millis(c.BottleneckQueue),
	})
}

// UnmarshalJSON reads what MarshalJSON writes. It does not validate.
func (c *Cell) UnmarshalJSON(b []byte) error {
	var j cellJSON
	if err := json.Unmarshal(b, &j); err != nil {
		return err
	}
	*c = Cell{
		RTT: fromMillis(j.RTT), Loss: j.Loss, Burst: j.Burst, Jitter: fromMillis(j.Jitter), Bottleneck: j.Bottleneck,
		Rate: j.Rate, Duration: fromMillis(j.Duration * 1000), BottleneckFrom: fromMillis(j.From * 1000), BottleneckTo: fromMillis(j.To * 1000),
		BottleneckQueue: fromMillis(j.Queue),
	}
	return nil
}

func millis(d time.Duration) float64      { return float64(d) / float64(time.Millisecond) }
func fromMillis(ms float64) time.Duration { return time.Duration(ms * float64(time.Millisecond)) }

// Matrix is every combination of the losses, round trips and rates that links of a mesh meet, each counted for d, at the
// lowest rate, where packets are few and cells cheap, three times as long.
func Matrix(d time.Duration) []Cell {
	var cells []Cell
	for _, rate := range []int64{2_000_000, 20_000_000, 60_000_000} {
		for _, rtt := range []int{20, 80, 150, 250} {
			for _, loss := range []Cell{{}, {Loss: 0.001}, {Loss: 0.005}, {Loss: 0.01}, {Loss: 0.02}, {Loss: 0.05, Burst: 4}} {
				loss.RTT, loss.Rate, loss.Duration = time.Duration(rtt)*time.Millisecond, rate, d
				if rate == 2_000_000 {
					loss.Duration = 3 * d
				}
				cells = append(cells, loss)
			}
		}
	}
	return cells
}
