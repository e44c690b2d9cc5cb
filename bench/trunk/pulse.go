package trunk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// pulseDescriptor is the end of the pulse's pipe in the ocean and in the sender.
const pulseDescriptor = 3

// pulse is how the ocean wakes the sender. A node is woken by packets that come, not by a timer, and on some machines
// setting a timer costs more than ten packets.
type pulse struct {
	file *os.File
	raw  syscall.RawConn
	read func(fd uintptr) bool // kept, so that a read allocates nothing
	buf  [512]byte
	end  bool // nobody writes any more
}

func openPulse(ctx context.Context) (*pulse, error) {
	if err := syscall.SetNonblock(pulseDescriptor, true); err != nil {
		return nil, errors.New("trunk: the sender has no pulse")
	}
	p := &pulse{file: os.NewFile(pulseDescriptor, "pulse")}
	var err error
	if p.raw, err = p.file.SyscallConn(); err != nil {
		return nil, fmt.Errorf("trunk: pulse: %w", err)
	}
	// Raw, because the scheduler, told of a system call on an idle machine, wakes the runtime's monitor thread: that would cost more than all a
	// contestant does for a packet, and none asked for it.
	p.read = func(fd uintptr) bool {
		for {
			n, _, e := unix.RawSyscall(unix.SYS_READ, fd, uintptr(unsafe.Pointer(&p.buf[0])), uintptr(len(p.buf)))
			switch e {
			case unix.EINTR:
				continue
			case unix.EAGAIN:
				return false
			}
			p.end = e != 0 || n == 0
			return true
		}
	}
	context.AfterFunc(ctx, func() { _ = p.file.Close() })
	return p, nil
}

// until waits for a moment of the clock.
func (p *pulse) until(ctx context.Context, c clock, t int64) error {
	for c.now() < t-int64(pulseEarly) {
		err := p.raw.Read(p.read)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil || p.end {
			return errors.New("trunk: the sender's pulse stopped")
		}
	}
	return nil
}

// pulseEarly is by how much the clocks of two processes may differ.
const pulseEarly = 20 * time.Microsecond
