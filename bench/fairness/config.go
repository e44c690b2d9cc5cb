package fairness

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/meridian-sfu/meridian/bench/trunk"
	"github.com/meridian-sfu/meridian/internal/testnet"
)

// Controls are the congestion controls a TCP may be asked to use. The kernel must have them.
var Controls = []string{"cubic", "reno", "bbr"}

// Config says what shares which bottleneck.
type Config struct {
	MediaNode []string // the program and arguments that run trunk.Node; no default
	TCPNode   []string // the program and arguments that run Node; no default

	RTT      time.Duration // round trip without queues, 0 to 2 s; default 40 ms
	Rate     int64         // of the bottleneck, bits per second of IP packets, 1 to 200 Mbit/s; default 20 Mbit/s
	Queue    time.Duration // longest wait at the bottleneck, 5 ms to 2 s; default 100 ms
	Loss     float64       // share of packets the path loses by itself in each direction, 0 to 0.5; default 0
	Offered  int64         // bits per second of RTP; default 20 Mbit/s
	Control  string        // of TCP; default cubic
	Flows    int           // TCP connections, 1 to 64; default 1
	Duration time.Duration // of each of the two phases beside one another, 500 ms to 1 h; default 30 s
	Cold     bool          // the link is opened when TCP has filled the queue, not before
	Seed     uint64        // of the traffic; default 1
	Nice     int           // scheduling priority of the measured processes, -20 (first) to 19; default 0
}

// DefaultConfig returns the values named at each field.
func DefaultConfig() Config {
	return Config{
		RTT: 40 * time.Millisecond, Rate: 20e6, Queue: 100 * time.Millisecond, Offered: 20e6, Control: "cubic", Flows: 1,
		Duration: 30 * time.Second, Seed: 1,
	}
}

// Validate returns all problems of c, joined.
func (c Config) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("fairness: "+format, args...))
		}
	}
	check(len(c.MediaNode) > 0 && len(c.TCPNode) > 0, "no commands for node processes")
	check(c.RTT >= 0 && c.RTT <= 2*time.Second, "rtt is %v, must be 0 to 2s", c.RTT)
	check(c.Rate >= 1e6 && c.Rate <= 200e6, "rate is %d, must be 1M to 200M", c.Rate)
	check(c.Queue >= 5*time.Millisecond && c.Queue <= 2*time.Second, "queue is %v, must be 5ms to 2s", c.Queue)
	check(c.Loss >= 0 && c.Loss <= 0.5, "loss is %v, must be 0 to 50%%", c.Loss)
	check(c.Offered >= trunk.MinRate && c.Offered <= trunk.MaxRate, "offered is %d, must be 500k to 200M", c.Offered)
	check(slices.Contains(Controls, c.Control), "no congestion control is called %q here: there are %v", c.Control, Controls)
	check(c.Flows >= 1 && c.Flows <= 64, "flows is %d, must be 1 to 64", c.Flows)
	check(c.Duration >= 500*time.Millisecond && c.Duration <= time.Hour, "duration is %v, must be 500ms to 1h", c.Duration)
	check(c.Nice >= -20 && c.Nice <= 19, "nice is %d, must be -20 to 19", c.Nice)
	return errors.Join(errs...)
}

// Takes is how long a run takes, about.
func (c Config) Takes() time.Duration { return c.course().end + 4*time.Second }

func (c Config) link() testnet.Link {
	return testnet.Link{Delay: c.RTT / 2, Loss: c.Loss, Rate: c.Rate, Queue: c.Queue}
}

// The phases of a run that are accounted for.
const (
	TCPFirst   = "TCP alone"
	MediaJoins = "media joins"
	BesideTCP  = "beside TCP"
	MediaAlone = "media alone"
	TCPJoins   = "TCP joins"
	BesideLink = "beside media"
	TCPLast    = "TCP alone again"
)

// Lengths of phases that do not last Config.Duration.
const (
	aloneMost  = 10 * time.Second
	settleMost = 5 * time.Second // after somebody came or went
)

// course is when who sends, since the start.
type course struct {
	mediaFrom, mediaTo time.Duration
	tcp                [2]trunk.Window // two times, each with new connections
	names              []string
	windows            []trunk.Window // by name
	end                time.Duration
}

func (c Config) course() course {
	alone, settle := min(aloneMost, c.Duration/2), min(settleMost, c.Duration/3)
	joined := alone + c.Duration // TCP has gone
	again := joined + alone      // and comes again
	last := again + c.Duration
	end := last + alone
	w := func(from, to time.Duration) trunk.Window { return trunk.Window{From: from, To: to} }
	return course{
		mediaFrom: alone, mediaTo: last, end: end,
		tcp:   [2]trunk.Window{w(0, joined), w(again, end)},
		names: []string{TCPFirst, MediaJoins, BesideTCP, MediaAlone, TCPJoins, BesideLink, TCPLast},
		windows: []trunk.Window{
			w(alone/2, alone), w(alone, alone+settle), w(alone+settle, joined), w(joined+alone/2, again),
			w(again, again+settle), w(again+settle, last), w(last+alone/2, end),
		},
	}
}
