//go:build linux && (amd64 || arm64)

package meshnet

import (
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// rawCall is unix.Syscall6, which tells the scheduler, or unix.RawSyscall6, which does not.
type rawCall func(trap, a1, a2, a3, a4, a5, a6 uintptr) (r1, r2 uintptr, err unix.Errno)

// BenchmarkWake is what a wake-up costs whoever waits: in a round somebody sleeps a millisecond and sends one datagram,
// or nothing (sleep, and nanosleep in the kernel), and who waits reads it. Hold the others against sleep, which is in
// them. It reports the process' time with the kernel's, and how often a thread gave up the processor.
func BenchmarkWake(b *testing.B) {
	b.Run("sleep", func(b *testing.B) { benchWakes(b, func() { time.Sleep(time.Millisecond) }) })
	b.Run("nanosleep", func(b *testing.B) { benchWakes(b, nanosleep) })
	b.Run("netpoll=raw", func(b *testing.B) { benchReader(b, unix.RawSyscall6, netpollReader) })
	b.Run("netpoll=told", func(b *testing.B) { benchReader(b, unix.Syscall6, netpollReader) })
	b.Run("thread=blocked", func(b *testing.B) { benchReader(b, unix.RawSyscall6, blockedReader) })
}

func benchReader(b *testing.B, call rawCall, reader func(*testing.B, *net.UDPConn, rawCall) func() bool) {
	y, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(b, err)
	defer func() { _ = y.Close() }()
	x, err := net.DialUDP("udp4", nil, y.LocalAddr().(*net.UDPAddr))
	require.NoError(b, err)
	defer func() { _ = x.Close() }()
	out, err := x.SyscallConn()
	require.NoError(b, err)
	buf := make([]byte, 1150)
	send := func(fd uintptr) bool {
		_, _, _ = call(unix.SYS_SENDTO, fd, uintptr(unsafe.Pointer(&buf[0])), uintptr(len(buf)), unix.MSG_DONTWAIT, 0, 0)
		return true
	}
	var stop atomic.Bool
	var wg sync.WaitGroup
	read := reader(b, y, call)
	wg.Go(func() {
		for !stop.Load() && read() {
		}
	})
	benchWakes(b, func() {
		_ = out.Write(send)
		time.Sleep(time.Millisecond)
	})
	stop.Store(true)
	_ = out.Write(send)
	wg.Wait()
}

func benchWakes(b *testing.B, round func()) {
	var before, after unix.Rusage
	require.NoError(b, unix.Getrusage(unix.RUSAGE_SELF, &before))
	for b.Loop() {
		round()
	}
	require.NoError(b, unix.Getrusage(unix.RUSAGE_SELF, &after))
	n := float64(b.N)
	used := after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano()
	b.ReportMetric(float64(used)/1000/n, "cpu-µs/round")
	b.ReportMetric(float64(after.Nvcsw-before.Nvcsw)/n, "switches/round")
}

// nanosleep sleeps a millisecond without the scheduler's knowledge.
func nanosleep() {
	d := unix.NsecToTimespec(int64(time.Millisecond))
	_, _, _ = unix.RawSyscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&d)), 0, 0)
}

// netpollReader waits as batchReader does.
func netpollReader(b *testing.B, pc *net.UDPConn, call rawCall) func() bool {
	raw, err := pc.SyscallConn()
	require.NoError(b, err)
	buf := make([]byte, 2048)
	recv := func(fd uintptr) bool {
		_, _, e := call(unix.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(&buf[0])), uintptr(len(buf)), unix.MSG_DONTWAIT, 0, 0)
		return e != unix.EAGAIN
	}
	return func() bool { return raw.Read(recv) == nil }
}

// blockedReader waits in the system call.
func blockedReader(b *testing.B, pc *net.UDPConn, _ rawCall) func() bool {
	file, err := pc.File()
	require.NoError(b, err)
	b.Cleanup(func() { _ = file.Close() })
	fd := int(file.Fd())
	require.NoError(b, unix.SetNonblock(fd, false))
	buf := make([]byte, 2048)
	return func() bool {
		_, _, err := unix.Recvfrom(fd, buf, 0)
		return err == nil || err == unix.EINTR
	}
}
