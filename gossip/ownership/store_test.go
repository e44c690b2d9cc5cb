package ownership

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

func testDeps(m *memMesh) Deps {
	return Deps{
		Net: m.join("a", "us"), Members: func() []mesh.NodeInfo { return nil },
		Alive: func(mesh.NodeID) bool { return false }, AnnounceCluster: func(string) {},
	}
}

func TestDataFolder(t *testing.T) {
	cfg := DefaultConfig()
	cfg.DataDir = filepath.Join(t.TempDir(), "raft")
	o, err := New(cfg, testDeps(newMemMesh()), testLog(), prometheus.NewRegistry())
	require.NoError(t, err)
	info, err := os.Stat(cfg.DataDir)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o700), info.Mode().Perm())

	_, err = New(cfg, testDeps(newMemMesh()), testLog(), prometheus.NewRegistry())
	require.ErrorContains(t, err, "in use by another process")
	require.ErrorContains(t, err, cfg.DataDir)
	require.NoError(t, o.Close())
	require.NoError(t, o.Close())
}

func TestDamagedDataFolder(t *testing.T) {
	cfg := DefaultConfig()
	cfg.DataDir = t.TempDir()
	path := filepath.Join(cfg.DataDir, "raft.db")
	require.NoError(t, os.WriteFile(path, []byte(strings.Repeat("garbage", 10_000)), 0o600))
	_, err := New(cfg, testDeps(newMemMesh()), testLog(), prometheus.NewRegistry())
	require.ErrorContains(t, err, path)

	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	cfg.DataDir = file
	_, err = New(cfg, testDeps(newMemMesh()), testLog(), prometheus.NewRegistry())
	require.ErrorContains(t, err, file)
}

func TestConfigNamesAllProblems(t *testing.T) {
	require.Error(t, DefaultConfig().Validate(), "DataDir is required")
	c := DefaultConfig()
	c.DataDir = "x"
	require.NoError(t, c.Validate())
	c.HeartbeatTimeout, c.ElectionTimeout, c.SnapshotThreshold = 100e6, 50e6, 0
	err := c.Validate()
	for _, s := range []string{"ElectionTimeout", "LeaderLeaseTimeout", "SnapshotThreshold"} {
		require.ErrorContains(t, err, s)
	}
	_, err = New(Config{}, Deps{}, testLog(), prometheus.NewRegistry())
	require.ErrorContains(t, err, "DataDir")
	require.ErrorContains(t, err, "Deps")
}

func TestCallsBeforeRun(t *testing.T) {
	cfg := DefaultConfig()
	cfg.DataDir = t.TempDir()
	o, err := New(cfg, testDeps(newMemMesh()), testLog(), prometheus.NewRegistry())
	require.NoError(t, err)
	defer func() { require.NoError(t, o.Close()) }()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, _, err = o.Claim(ctx, "r", "RM_1", "a", t0, "")
	require.ErrorIs(t, err, ErrNoLeader)
	require.ErrorIs(t, err, context.Canceled)
	_, _, err = o.Claim(context.Background(), mesh.RoomName(strings.Repeat("x", 10_000)), "RM_1", "a", t0, "")
	require.ErrorIs(t, err, ErrInvalid)
	require.Equal(t, RoleWatcher, o.Status().Role)
	require.Empty(t, o.Entries())
}

func TestRaftLogsUnderOneMessage(t *testing.T) {
	var b strings.Builder
	l := newHCLog(slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{Level: slog.LevelInfo})))
	l.With("x", 1).Named("raft").Error("broken", "error", "e")
	l.Warn("odd")
	l.Info("quiet")
	require.Equal(t, 2, strings.Count(b.String(), "msg=raft "))
	require.Contains(t, b.String(), "level=WARN msg=raft x=1 event=broken error=e")
}
