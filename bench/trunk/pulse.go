package trunk

import (
	"context"
	"errors"
	"os"
	"syscall"
	"time"
)

// pulseDescriptor is the end of the pulse's pipe in the ocean and in the sender.
const pulseDescriptor = 3

// pulse is how the ocean wakes the sender. A node is woken by packets that come, not by a timer, and on some machines
// setting a timer costs more than ten packets.
type pulse struct {
	file *os.File
	buf  [512]byte
}

func openPulse(ctx context.Context) (*pulse, error) {
	if err := syscall.SetNonblock(pulseDescriptor, true); err != nil {
		return nil, errors.New("trunk: the sender has no pulse")
	}
	p := &pulse{file: os.NewFile(pulseDescriptor, "pulse")}
	context.AfterFunc(ctx, func() { _ = p.file.Close() })
	return p, nil
}

// until waits for a moment of the clock.
func (p *pulse) until(ctx context.Context, c clock, t int64) error {
	for c.now() < t-int64(pulseEarly) {
		if _, err := p.file.Read(p.buf[:]); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return errors.New("trunk: the sender's pulse stopped")
		}
	}
	return nil
}

// pulseEarly is by how much the clocks of two processes may differ.
const pulseEarly = 20 * time.Microsecond
