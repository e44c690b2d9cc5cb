package ownership

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
)

const (
	snapshotsKept = 2
	logCacheSize  = 512         // log entries kept in memory for followers that are a little behind
	lockTimeout   = time.Second // how long another process may still hold the folder, as in a quick restart
)

var clusterKey = []byte("meridian-cluster-id")

// store is the data folder: the Raft log, snapshots, and the ID of the group they belong to.
type store struct {
	dir       string
	bolt      *raftboltdb.BoltStore
	logs      raft.LogStore
	snapshots raft.SnapshotStore
	hasState  bool   // Raft has run here before
	cluster   string // ID of the group the state belongs to; empty without state
}

// openStore opens or makes the data folder. Its errors name the folder and the cause.
func openStore(dir string, log *slog.Logger) (*store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("ownership: data folder %s: %w", dir, err)
	}
	path := filepath.Join(dir, "raft.db")
	bolt, err := raftboltdb.New(raftboltdb.Options{
		Path:        path,
		BoltOptions: &bbolt.Options{Timeout: lockTimeout, FreelistType: bbolt.FreelistMapType, NoFreelistSync: true},
	})
	switch {
	case errors.Is(err, bbolt.ErrTimeout):
		return nil, fmt.Errorf("ownership: data folder %s is in use by another process: stop it or give this node a folder of its own", dir)
	case err != nil:
		return nil, fmt.Errorf("ownership: open %s: %w (a damaged file can be moved away; the node then rejoins as a new one)", path, err)
	}
	s := &store{dir: dir, bolt: bolt}
	if err := s.load(log); err != nil {
		_ = bolt.Close() // the first error is the one that tells
		return nil, fmt.Errorf("ownership: data folder %s: %w", dir, err)
	}
	return s, nil
}

func (s *store) load(log *slog.Logger) error {
	var err error
	if s.logs, err = raft.NewLogCache(logCacheSize, s.bolt); err != nil {
		return err
	}
	if s.snapshots, err = raft.NewFileSnapshotStoreWithLogger(s.dir, snapshotsKept, newHCLog(log)); err != nil {
		return err
	}
	if s.hasState, err = raft.HasExistingState(s.logs, s.bolt, s.snapshots); err != nil {
		return err
	}
	id, err := s.bolt.Get(clusterKey)
	if err != nil && !errors.Is(err, raftboltdb.ErrKeyNotFound) {
		return err
	}
	switch {
	case s.hasState && len(id) == 0:
		return errors.New("it holds Raft state without the ID of its group: move it away; the node then rejoins as a new one")
	case s.hasState:
		s.cluster = string(id)
	}
	return nil
}

// setCluster binds the folder to a group, before any of the group's state is written.
func (s *store) setCluster(id string) error {
	if err := s.bolt.Set(clusterKey, []byte(id)); err != nil {
		return fmt.Errorf("ownership: data folder %s: %w", s.dir, err)
	}
	return nil
}

func (s *store) close() error {
	if err := s.bolt.Close(); err != nil {
		return fmt.Errorf("ownership: data folder %s: %w", s.dir, err)
	}
	return nil
}
