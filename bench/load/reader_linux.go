package load

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// reader reads all subscribers' sockets on one thread: a system call for each socket that has something, which returns
// up to 64 kB of what came in a row (UDP_GRO).
type reader struct {
	now    func() time.Duration
	epoll  int
	wakeup int // eventfd: ends the thread

	mu      sync.Mutex
	sockets map[int32]*socket // guarded by mu; by file descriptor
	busy    time.Duration     // guarded by mu; processor time of the thread
}

func newReader(now func() time.Duration) (*reader, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("load: epoll: %w", err)
	}
	wakeup, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("load: eventfd: %w", err), unix.Close(epoll))
	}
	err = unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, wakeup, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(wakeup)})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("load: epoll: %w", err), unix.Close(epoll), unix.Close(wakeup))
	}
	return &reader{now: now, epoll: epoll, wakeup: wakeup, sockets: map[int32]*socket{}}, nil
}

// open makes a subscriber's socket on a local address. media is called on the reader's thread.
func (r *reader) open(local netip.Addr, media func([]byte, time.Duration) bool) (*socket, error) {
	domain, addr := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Addr: local.As16()})
	if local.Is4() {
		domain, addr = unix.AF_INET, &unix.SockaddrInet4{Addr: local.As4()}
	}
	fd, err := unix.Socket(domain, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("load: socket: %w", err)
	}
	fail := func(err error) (*socket, error) {
		return nil, errors.Join(fmt.Errorf("load: socket: %w", err), unix.Close(fd))
	}
	if err := unix.Bind(fd, addr); err != nil {
		return fail(err)
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_UDP, unix.UDP_GRO, 1)          // older kernels hand over one by one
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 1<<20) // the kernel clamps
	bound, err := unix.Getsockname(fd)
	if err != nil {
		return fail(err)
	}
	udp := &net.UDPAddr{IP: local.AsSlice()}
	switch a := bound.(type) {
	case *unix.SockaddrInet4:
		udp.Port = a.Port
	case *unix.SockaddrInet6:
		udp.Port = a.Port
	}
	s := newSocket(udp, media)
	s.send = func(b []byte, to netip.AddrPort) error { return unix.Sendto(fd, b, 0, sockaddr(to, local.Is4())) }
	s.end = func() { r.remove(fd) }
	r.mu.Lock()
	r.sockets[int32(fd)] = s
	r.mu.Unlock()
	if err := unix.EpollCtl(r.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}); err != nil {
		r.mu.Lock()
		delete(r.sockets, int32(fd))
		r.mu.Unlock()
		return fail(err)
	}
	return s, nil
}

func (r *reader) remove(fd int) {
	r.mu.Lock()
	defer r.mu.Unlock() // the thread reads under the lock: never a descriptor that is somebody else's by now
	delete(r.sockets, int32(fd))
	_ = unix.Close(fd) // takes it out of epoll
}

func sockaddr(a netip.AddrPort, v4 bool) unix.Sockaddr {
	if v4 {
		return &unix.SockaddrInet4{Addr: a.Addr().Unmap().As4(), Port: int(a.Port())}
	}
	return &unix.SockaddrInet6{Addr: a.Addr().As16(), Port: int(a.Port())}
}

// run is the thread. It ends with ctx.
func (r *reader) run(ctx context.Context) {
	runtime.LockOSThread() // its processor time is its own
	defer runtime.UnlockOSThread()
	stop := context.AfterFunc(ctx, func() { _, _ = unix.Write(r.wakeup, []byte{1, 0, 0, 0, 0, 0, 0, 0}) })
	defer stop()
	events := make([]unix.EpollEvent, 512)
	in := newInbox()
	lookedAt := r.now()
	for ctx.Err() == nil {
		n, err := unix.EpollWait(r.epoll, events, -1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return
		}
		now := r.now()
		for i := range max(n, 0) {
			r.mu.Lock()
			if s := r.sockets[events[i].Fd]; s != nil {
				in.receive(events[i].Fd, s, now)
			}
			r.mu.Unlock()
		}
		if now-lookedAt >= usageEvery {
			lookedAt = now
			r.noteUsage()
		}
	}
}

// usageEvery is how often the thread looks at its own processor time, which takes a system call.
const usageEvery = 50 * time.Millisecond

func (r *reader) noteUsage() {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_THREAD, &u) == nil {
		r.mu.Lock()
		r.busy = time.Duration(u.Utime.Nano() + u.Stime.Nano())
		r.mu.Unlock()
	}
}

// used is the processor time the thread has taken so far.
func (r *reader) used() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.busy
}

func (r *reader) close() {
	_ = unix.Close(r.epoll)
	_ = unix.Close(r.wakeup)
}

// inbox is the memory of one receive.
type inbox struct {
	data    [65536]byte
	control [64]byte
	name    unix.RawSockaddrInet6
	iov     unix.Iovec
	msg     unix.Msghdr
}

func newInbox() *inbox {
	in := new(inbox)
	in.iov.Base = &in.data[0]
	in.iov.SetLen(len(in.data))
	in.msg.Iov = &in.iov
	in.msg.SetIovlen(1)
	in.msg.Name = (*byte)(unsafe.Pointer(&in.name))
	in.msg.Control = &in.control[0]
	return in
}

// receive reads once. What is left wakes epoll again.
func (in *inbox) receive(fd int32, s *socket, now time.Duration) {
	in.msg.Namelen = uint32(unsafe.Sizeof(in.name))
	in.msg.SetControllen(len(in.control))
	r, _, errno := unix.RawSyscall(unix.SYS_RECVMSG, uintptr(fd), uintptr(unsafe.Pointer(&in.msg)), unix.MSG_DONTWAIT)
	if errno != 0 {
		return
	}
	n := int(r)
	from := in.from()
	size := in.segment()
	if size == 0 {
		size = n
	}
	for at := 0; at < n; at += size {
		s.deliver(in.data[at:min(at+size, n)], from, now)
	}
}

func (in *inbox) from() netip.AddrPort {
	port := func(p *uint16) uint16 { b := (*[2]byte)(unsafe.Pointer(p)); return uint16(b[0])<<8 | uint16(b[1]) }
	if in.name.Family == unix.AF_INET {
		v4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(&in.name))
		return netip.AddrPortFrom(netip.AddrFrom4(v4.Addr), port(&v4.Port))
	}
	return netip.AddrPortFrom(netip.AddrFrom16(in.name.Addr), port(&in.name.Port))
}

// segment returns the size of the datagrams in a coalesced receive, 0 when there is just one.
func (in *inbox) segment() int {
	if in.msg.Controllen < unix.SizeofCmsghdr+4 {
		return 0
	}
	h := (*unix.Cmsghdr)(unsafe.Pointer(&in.control[0]))
	if h.Level != unix.SOL_UDP || h.Type != unix.UDP_GRO {
		return 0
	}
	return int(*(*int32)(unsafe.Pointer(&in.control[unix.CmsgLen(0)])))
}
