//go:build !linux

package wan

import (
	"errors"
	"os/exec"
	"time"
)

var errPlatform = errors.New("wan: network namespaces are a feature of Linux")

// Available returns nil where Up can work, otherwise what is missing.
func Available() error { return errPlatform }

type waiter struct{}

func newWaiter([]int) (*waiter, error)       { return nil, errPlatform }
func (w *waiter) packets(time.Duration) bool { return false }
func (w *waiter) sleep(time.Duration) bool   { return false }
func (w *waiter) readable(int) bool          { return false }
func (w *waiter) stop()                      {}
func (w *waiter) close()                     {}
func inside(string, func() error) error      { return errPlatform }
func openDevice() (int, string, error)       { return -1, "", errPlatform }
func closeDevice(int) error                  { return errPlatform }
func readDevice(int, []byte) int             { return 0 }
func writeDevice(int, []byte) bool           { return false }
func threadCPU() time.Duration               { return 0 }
func prefer()                                {}
func ownGroup(*exec.Cmd)                     {}
