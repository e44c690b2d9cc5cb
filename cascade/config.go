package cascade

import (
	"errors"
	"fmt"
	"time"
)

// Config is how links between nodes behave.
type Config struct {
	Lanes         int           // media connections a link has at least, 2 to MaxLanes; default 2
	MaxLanes      int           // and at most, to 128; default 128. The smaller wish of both ends holds
	Linger        time.Duration // a flow nobody watches is closed after this; default 3 s
	LinkIdle      time.Duration // a link neither end needs is closed after this; default 60 s
	ProbeInterval time.Duration // between probes on each lane, 10 ms to 1 s; default 100 ms
	SuspectAfter  time.Duration // silence on all lanes after which a link is doubted; default 300 ms, ≥ 2 probe intervals
	DownTimeout   time.Duration // a link that is down this long is given up and opened anew; default 3 s
	OpenTimeout   time.Duration // to open a link, a lane or a flow; default 5 s

	QueueBytes      int           // bytes of RTP a link may have waiting, 64 KiB to 64 MiB; default 1 MiB
	QueueDelay      time.Duration // video that waited longer is dropped; default 60 ms
	AudioQueueDelay time.Duration // audio that waited longer is dropped; default 60 ms

	RepairDeadline time.Duration // a lost packet is asked for no longer than this; default 500 ms
	MaxFlows       int           // flows a peer may open to this node, 1 to 16384; default 4096
	GarbageLimit   int           // malformed frames or senseless messages a second that close a link; default 200
}

// DefaultConfig returns the values a node uses when nothing else is said.
func DefaultConfig() Config {
	return Config{
		Lanes:           2,
		MaxLanes:        maxLanes,
		Linger:          3 * time.Second,
		LinkIdle:        60 * time.Second,
		ProbeInterval:   100 * time.Millisecond,
		SuspectAfter:    300 * time.Millisecond,
		DownTimeout:     3 * time.Second,
		OpenTimeout:     5 * time.Second,
		QueueBytes:      1 << 20,
		QueueDelay:      60 * time.Millisecond,
		AudioQueueDelay: 60 * time.Millisecond,
		RepairDeadline:  500 * time.Millisecond,
		MaxFlows:        4096,
		GarbageLimit:    200,
	}
}

// Validate returns every problem of the configuration, joined.
func (c Config) Validate() error {
	var errs []error
	bad := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("cascade: "+format, args...))
		}
	}
	bad(c.Lanes >= 2 && c.Lanes <= c.MaxLanes, "lanes is %d, must be 2 to max_lanes", c.Lanes)
	bad(c.MaxLanes <= maxLanes, "max_lanes is %d, must be up to %d", c.MaxLanes, maxLanes)
	bad(c.Linger >= 0, "linger is %s, must not be negative", c.Linger)
	bad(c.LinkIdle > 0, "link_idle is %s, must be positive", c.LinkIdle)
	bad(c.ProbeInterval >= 10*time.Millisecond && c.ProbeInterval <= time.Second,
		"probe_interval is %s, must be 10ms to 1s", c.ProbeInterval)
	bad(c.SuspectAfter >= 2*c.ProbeInterval, "suspect_after is %s, must be at least two probe intervals", c.SuspectAfter)
	bad(c.DownTimeout > 0, "down_timeout is %s, must be positive", c.DownTimeout)
	bad(c.OpenTimeout > 0, "open_timeout is %s, must be positive", c.OpenTimeout)
	bad(c.QueueBytes >= 64<<10 && c.QueueBytes <= 64<<20, "queue_bytes is %d, must be 64 KiB to 64 MiB", c.QueueBytes)
	bad(c.QueueDelay > 0, "queue_delay is %s, must be positive", c.QueueDelay)
	bad(c.AudioQueueDelay > 0, "audio_queue_delay is %s, must be positive", c.AudioQueueDelay)
	bad(c.RepairDeadline > 0 && c.RepairDeadline <= 5*time.Second, "repair_deadline is %s, must be up to 5s", c.RepairDeadline)
	bad(c.MaxFlows >= 1 && c.MaxFlows <= maxFlowIDs, "max_flows is %d, must be 1 to %d", c.MaxFlows, maxFlowIDs)
	bad(c.GarbageLimit > 0, "garbage_limit is %d, must be positive", c.GarbageLimit)
	return errors.Join(errs...)
}
