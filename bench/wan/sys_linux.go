package wan

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const tunPath = "/dev/net/tun"

// Available returns nil where Up can work, otherwise what is missing.
func Available() error {
	if os.Geteuid() != 0 {
		return errors.New("wan: network namespaces need root")
	}
	if _, err := exec.LookPath(ipCommand); err != nil {
		return fmt.Errorf("wan: the ip command (iproute2): %w", err)
	}
	if err := run(context.Background(), "netns", "list"); err != nil {
		return err
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	own, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return fmt.Errorf("wan: network namespaces: %w", err)
	}
	defer func() { _ = own.Close() }()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("wan: make a network namespace: %w", err)
	}
	fd, _, err := openDevice()
	if err == nil {
		_ = unix.Close(fd)
	}
	return errors.Join(err, back(own))
}

// back returns this thread to the namespace it came from. When that fails the thread stays locked to its goroutine
// and ends with it.
func back(own *os.File) error {
	if err := unix.Setns(int(own.Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.LockOSThread() // one more than will be unlocked
		return fmt.Errorf("return from a namespace: %w", err)
	}
	return nil
}

// inside calls f with this thread in the namespace at path.
func inside(path string, f func() error) (err error) {
	ns, err := os.Open(path) // #nosec G304 -- a name of ours
	if err != nil {
		return err
	}
	defer func() { _ = ns.Close() }()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	own, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	defer func() { _ = own.Close() }()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter %s: %w", path, err)
	}
	defer func() { err = errors.Join(err, back(own)) }()
	return f()
}

// openDevice makes a TUN device in this thread's namespace. It goes with its descriptor, even when we crash.
func openDevice() (fd int, name string, err error) {
	fd, err = unix.Open(tunPath, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, "", fmt.Errorf("wan: open %s: %w", tunPath, err)
	}
	ifr, err := unix.NewIfreq("mwan%d") // the kernel puts a number
	if err == nil {
		ifr.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr)
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, "", fmt.Errorf("wan: make a TUN device: %w", err)
	}
	return fd, ifr.Name(), nil
}

func closeDevice(fd int) error { return unix.Close(fd) }

// readDevice returns the length of the next packet, 0 or less when there is none.
func readDevice(fd int, b []byte) int {
	for {
		n, err := unix.Read(fd, b)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		return n
	}
}

// writeDevice hands a packet to the host's kernel, which may refuse it.
func writeDevice(fd int, b []byte) bool {
	for {
		_, err := unix.Write(fd, b)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		return err == nil
	}
}

// waiter blocks the router's thread until packets come, time passes or stop is called.
type waiter struct {
	fds []unix.PollFd // of the devices, then the event that stops
}

func newWaiter(devices []int) (*waiter, error) {
	event, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("wan: eventfd: %w", err)
	}
	w := new(waiter)
	for _, fd := range append(devices[:len(devices):len(devices)], event) {
		w.fds = append(w.fds, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}) // #nosec G115 -- a descriptor
	}
	return w, nil
}

// packets waits that long for a packet, for ever if wait is negative. It reports false after stop.
func (w *waiter) packets(wait time.Duration) bool { return w.poll(w.fds, wait) }

// sleep lets that time pass. It reports false after stop.
func (w *waiter) sleep(d time.Duration) bool { return w.poll(w.fds[len(w.fds)-1:], d) }

func (w *waiter) poll(fds []unix.PollFd, wait time.Duration) bool {
	var timeout *unix.Timespec
	if wait >= 0 {
		ts := unix.NsecToTimespec(int64(wait))
		timeout = &ts
	}
	if _, err := unix.Ppoll(fds, timeout, nil); err != nil { // EINTR: a pass for nothing
		for i := range fds {
			fds[i].Revents = 0
		}
	}
	return fds[len(fds)-1].Revents == 0
}

func (w *waiter) readable(device int) bool { return w.fds[device].Revents&unix.POLLIN != 0 }

func (w *waiter) stop() {
	_, _ = unix.Write(int(w.fds[len(w.fds)-1].Fd), []byte{1, 0, 0, 0, 0, 0, 0, 0}) // cannot fail: the counter is far from full
}

func (w *waiter) close() { _ = unix.Close(int(w.fds[len(w.fds)-1].Fd)) }

// prefer puts this thread before all others of the machine: what runs in the hosts must not make their network late.
// Where that is refused, the network is as late as the machine is busy.
func prefer() {
	attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 1, Flags: unix.SCHED_FLAG_RESET_ON_FORK}
	if err := unix.SchedSetAttr(0, &attr, 0); err != nil {
		_ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), -20)
	}
}

// threadCPU is what this thread used so far.
func threadCPU() time.Duration {
	var r unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_THREAD, &r); err != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// ownGroup makes cmd lead a process group that dies with its context, and itself with this process.
func ownGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}
