//go:build !linux

package trunk

import (
	"os/exec"
	"time"
)

func prefer(uint32) {}

func sleepUntil(t int64) {
	if c, err := newClock(); err == nil {
		time.Sleep(c.until(t))
	}
}

func processors() []int { return nil }

func stayOn(int) {}

func startOn(cmd *exec.Cmd, _ int) error { return cmd.Start() }
