package fairness

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// dialTCP connects with a congestion control.
func dialTCP(ctx context.Context, to netip.AddrPort, control string) (*net.TCPConn, error) {
	d := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) (err error) {
		return errors.Join(raw.Control(func(fd uintptr) { err = setControl(int(fd), control) }), err)
	}}
	c, err := d.DialContext(ctx, "tcp4", to.String())
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

func setControl(fd int, control string) error {
	if err := unix.SetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION, control); err != nil {
		return fmt.Errorf("this kernel has no TCP with %s: %w", control, err)
	}
	return nil
}

// canControl says why there is no TCP with that congestion control here.
func canControl(control string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("fairness: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	if err := setControl(fd, control); err != nil {
		return fmt.Errorf("fairness: %w", err)
	}
	return nil
}

// inspect asks the kernel how a connection does.
func inspect(c *net.TCPConn) (s tcpSample, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return s, fmt.Errorf("fairness: %w", err)
	}
	var info *unix.TCPInfo
	var failed error
	if err := errors.Join(raw.Control(func(fd uintptr) {
		info, failed = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
	}), failed); err != nil {
		return s, fmt.Errorf("fairness: TCP_INFO: %w", err)
	}
	return tcpSample{RTT: time.Duration(info.Rtt) * time.Microsecond, Window: info.Snd_cwnd, Retransmits: info.Total_retrans}, nil
}
