package ownership

import (
	"os"
	"testing"
)

// TestMain puts temporary folders into memory where the system has such: Raft waits for its disk at every entry.
func TestMain(m *testing.M) {
	if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() {
		_ = os.Setenv("TMPDIR", "/dev/shm") // without it the tests are only slower
	}
	os.Exit(m.Run())
}
