package directory

import (
	"errors"
	"fmt"
	"time"
)

// Config says how patient a directory is and how much it keeps.
type Config struct {
	// EdgeGrace is how long participants of a silent node, or of one that has not yet reported to a new owner, are kept. Default 3s.
	EdgeGrace time.Duration
	// EmptyTimeout ends a room nobody ever came to, when the room itself does not say. Default 300s.
	EmptyTimeout time.Duration
	// DepartureTimeout ends a room after the last participant left, when the room itself does not say. Default 20s.
	DepartureTimeout time.Duration
	// Linger is how long an edge stays attached after its last handle closed. Default 5s.
	Linger time.Duration
	// AttachTimeout is how long an edge waits for the owner's answer before it reports again. Default 1s.
	AttachTimeout time.Duration
	// Retry is the longest pause between tries of a claim, a reassignment or a connection; pauses are jittered. Default 1s.
	Retry time.Duration
	// CallTimeout bounds one call of the table of owners. Default 5s.
	CallTimeout time.Duration
	// Tick is the period in which a room looks at its deadlines. Default 250ms.
	Tick time.Duration
	// MaxRooms is how many rooms this node takes part in at once. Default 20000.
	MaxRooms int
	// MaxParticipants is how many participants one node may report of one room. Default 10000.
	MaxParticipants int
	// QueueFrames is how many frames wait for one peer on one stream. Default 8192.
	QueueFrames int
	// QueueBytes is how many bytes wait for one peer on one stream. Default 32 MiB.
	QueueBytes int
}

// DefaultConfig returns the defaults named at each field.
func DefaultConfig() Config {
	return Config{
		EdgeGrace:        3 * time.Second,
		EmptyTimeout:     300 * time.Second,
		DepartureTimeout: 20 * time.Second,
		Linger:           5 * time.Second,
		AttachTimeout:    time.Second,
		Retry:            time.Second,
		CallTimeout:      5 * time.Second,
		Tick:             250 * time.Millisecond,
		MaxRooms:         20000,
		MaxParticipants:  10000,
		QueueFrames:      8192,
		QueueBytes:       32 << 20,
	}
}

// Validate returns all problems of the configuration.
func (c Config) Validate() error {
	var errs []error
	positive := func(name string, d time.Duration) {
		if d <= 0 {
			errs = append(errs, fmt.Errorf("directory: %s: must be positive, not %s", name, d))
		}
	}
	positive("edge_grace", c.EdgeGrace)
	positive("empty_timeout", c.EmptyTimeout)
	positive("departure_timeout", c.DepartureTimeout)
	positive("linger", c.Linger)
	positive("attach_timeout", c.AttachTimeout)
	positive("retry", c.Retry)
	positive("call_timeout", c.CallTimeout)
	positive("tick", c.Tick)
	atLeast := func(name string, n, least int) {
		if n < least {
			errs = append(errs, fmt.Errorf("directory: %s: must be at least %d, not %d", name, least, n))
		}
	}
	atLeast("max_rooms", c.MaxRooms, 1)
	atLeast("max_participants", c.MaxParticipants, 1)
	atLeast("queue_frames", c.QueueFrames, 16)
	atLeast("queue_bytes", c.QueueBytes, 2*maxFrameBytes)
	return errors.Join(errs...)
}
