package ownership

import (
	"errors"
	"fmt"
	"time"
)

// Config tunes one node's part in the group.
type Config struct {
	// DataDir holds the Raft log (raft.db) and snapshots. It is made with mode 0700 when missing. Required.
	DataDir string
	// Bootstrap lets a node without stored state start a new group when the mesh has none. Set it on one node of a
	// new mesh; it has no effect once a group exists. Default false.
	Bootstrap bool
	// BootstrapWait is how long gossip is listened to before a new group is started, and how long a foreign group
	// must be seen before it is acted on. Default 3 s.
	BootstrapWait time.Duration
	// VoterReplaceAfter is how long a voter must be gone before another node takes its seat. Default 60 s.
	VoterReplaceAfter time.Duration
	// HeartbeatTimeout is how long a follower waits for its leader before it asks for an election; the real wait is
	// one to two times this. It must exceed the longest RTT between voters by some margin. Default 500 ms.
	HeartbeatTimeout time.Duration
	// ElectionTimeout is how long a candidate waits for votes. At least HeartbeatTimeout. Default 500 ms.
	ElectionTimeout time.Duration
	// LeaderLeaseTimeout is how long a leader stays one without hearing from a majority. At most HeartbeatTimeout.
	// Default 500 ms.
	LeaderLeaseTimeout time.Duration
	// CommitTimeout is the pause after which an idle leader tells followers what is committed. Default 50 ms.
	CommitTimeout time.Duration
	// RequestTimeout bounds one attempt to ask another node; calls go on with other attempts until their context
	// ends. Default 3 s.
	RequestTimeout time.Duration
	// VoterInterval is how often the leader looks at who should vote. Default 1 s.
	VoterInterval time.Duration
	// StatusInterval is how often a node looks at its own role and tells its watchers that it is there. A watcher
	// that hears nothing for six intervals asks another voter. Default 250 ms.
	StatusInterval time.Duration
	// SnapshotThreshold is the number of log entries after which the table is written to a snapshot. Default 4096.
	SnapshotThreshold uint64
}

// DefaultConfig returns the defaults named at each field. DataDir is left empty.
func DefaultConfig() Config {
	return Config{
		BootstrapWait:      3 * time.Second,
		VoterReplaceAfter:  time.Minute,
		HeartbeatTimeout:   500 * time.Millisecond,
		ElectionTimeout:    500 * time.Millisecond,
		LeaderLeaseTimeout: 500 * time.Millisecond,
		CommitTimeout:      50 * time.Millisecond,
		RequestTimeout:     3 * time.Second,
		VoterInterval:      time.Second,
		StatusInterval:     250 * time.Millisecond,
		SnapshotThreshold:  4096,
	}
}

// Validate returns all problems of c, joined.
func (c Config) Validate() error {
	var errs []error
	if c.DataDir == "" {
		errs = append(errs, errors.New("DataDir is empty"))
	}
	for _, f := range []struct {
		name     string
		value    time.Duration
		min, max time.Duration
	}{
		{"BootstrapWait", c.BootstrapWait, 0, time.Minute},
		{"VoterReplaceAfter", c.VoterReplaceAfter, time.Second, 24 * time.Hour},
		{"HeartbeatTimeout", c.HeartbeatTimeout, 10 * time.Millisecond, time.Minute},
		{"ElectionTimeout", c.ElectionTimeout, 10 * time.Millisecond, time.Minute},
		{"LeaderLeaseTimeout", c.LeaderLeaseTimeout, 10 * time.Millisecond, time.Minute},
		{"CommitTimeout", c.CommitTimeout, time.Millisecond, time.Second},
		{"RequestTimeout", c.RequestTimeout, 10 * time.Millisecond, time.Minute},
		{"VoterInterval", c.VoterInterval, 10 * time.Millisecond, time.Minute},
		{"StatusInterval", c.StatusInterval, 10 * time.Millisecond, time.Minute},
	} {
		if f.value < f.min || f.value > f.max {
			errs = append(errs, fmt.Errorf("%s is %v, it must be %v to %v", f.name, f.value, f.min, f.max))
		}
	}
	if c.ElectionTimeout < c.HeartbeatTimeout {
		errs = append(errs, fmt.Errorf("ElectionTimeout (%v) is below HeartbeatTimeout (%v)", c.ElectionTimeout, c.HeartbeatTimeout))
	}
	if c.LeaderLeaseTimeout > c.HeartbeatTimeout {
		errs = append(errs, fmt.Errorf("LeaderLeaseTimeout (%v) exceeds HeartbeatTimeout (%v)", c.LeaderLeaseTimeout, c.HeartbeatTimeout))
	}
	if c.SnapshotThreshold == 0 {
		errs = append(errs, errors.New("SnapshotThreshold is 0"))
	}
	return errors.Join(errs...)
}
