package trunk

import (
	"fmt"
	"net/netip"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	oceanControl = 64      // a time stamp
	oceanBuffer  = 8 << 20 // of a socket; the kernel gives what it allows
)

// side is a socket of the ocean, and the node before it. Not safe for concurrent use.
type side struct {
	addr    netip.AddrPort
	peer    netip.AddrPort
	refused uint64 // datagrams the kernel did not take
	fd      int
	free    []*parcel

	heads  [oceanBatch]unix.Mmsghdr
	iovs   [oceanBatch]unix.Iovec
	names  [oceanBatch]unix.RawSockaddrInet4
	oobs   [oceanBatch][oceanControl]byte
	into   [oceanBatch]*parcel
	heads2 [oceanBatch]unix.Mmsghdr // to send
	iovs2  [oceanBatch]unix.Iovec
	name   unix.RawSockaddrInet4
}

// openSide opens a socket on loopback. Without UDP_GRO the kernel gives every datagram for itself, also of those that were
// sent as one message of segments (UDP GSO).
func openSide() (*side, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("trunk: the ocean's socket: %w", os.NewSyscallError("socket", err))
	}
	s := &side{fd: fd}
	for _, option := range []int{unix.SO_RCVBUF, unix.SO_RCVBUFFORCE, unix.SO_SNDBUF, unix.SO_SNDBUFFORCE} {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, option, oceanBuffer) // drops are reported
	}
	err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	}
	var name unix.Sockaddr
	if err == nil {
		name, err = unix.Getsockname(fd)
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("trunk: the ocean's socket: %w", err)
	}
	in4 := name.(*unix.SockaddrInet4)
	s.addr = netip.AddrPortFrom(netip.AddrFrom4(in4.Addr), uint16(in4.Port)) // #nosec G115 -- a port
	for i := range s.heads {
		h := &s.heads[i].Hdr
		h.Name, h.Control, h.Iov = (*byte)(unsafe.Pointer(&s.names[i])), &s.oobs[i][0], &s.iovs[i]
		h.SetIovlen(1)
		h = &s.heads2[i].Hdr
		h.Name, h.Namelen, h.Iov = (*byte)(unsafe.Pointer(&s.name)), unix.SizeofSockaddrInet4, &s.iovs2[i]
		h.SetIovlen(1)
	}
	return s, nil
}

func (s *side) close() { _ = unix.Close(s.fd) }

// give takes a parcel back that came from here.
func (s *side) give(p *parcel) { s.free = append(s.free, p) }

func (s *side) parcel() *parcel {
	if n := len(s.free); n > 0 {
		p := s.free[n-1]
		s.free = s.free[:n-1]
		return p
	}
	return new(parcel)
}

// receive gives away everything that came, who sent it, and when it came by the monotonic clock. Longer than a parcel is what
// was cut off.
func (s *side) receive(take func(p *parcel, from netip.AddrPort, came int64)) {
	var mono, wall unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_REALTIME, &wall)
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &mono)
	offset := mono.Nano() - wall.Nano()
	for {
		for i := range s.heads {
			if s.into[i] == nil {
				s.into[i] = s.parcel()
				s.iovs[i].Base = &s.into[i].buf[0]
				s.iovs[i].SetLen(oceanDatagram)
			}
			h := &s.heads[i].Hdr
			h.Namelen, h.Flags = unix.SizeofSockaddrInet4, 0
			h.SetControllen(oceanControl)
		}
		n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(s.fd), uintptr(unsafe.Pointer(&s.heads[0])), oceanBatch, unix.MSG_DONTWAIT|unix.MSG_TRUNC, 0, 0)
		if errno != 0 {
			return // nothing there; what else there may be is seen as missing marks
		}
		for i := range int(n) {
			p := s.into[i]
			s.into[i] = nil
			p.n = int(s.heads[i].Len)
			came := mono.Nano()
			if stamp, ok := timeStamp(s.oobs[i][:s.heads[i].Hdr.Controllen]); ok {
				came = min(came, stamp+offset)
			}
			port := (*[2]byte)(unsafe.Pointer(&s.names[i].Port))
			take(p, netip.AddrPortFrom(netip.AddrFrom4(s.names[i].Addr), uint16(port[0])<<8|uint16(port[1])), came)
		}
		if n < oceanBatch {
			return
		}
	}
}

// timeStamp finds SCM_TIMESTAMPNS in a control message.
func timeStamp(oob []byte) (int64, bool) {
	if len(oob) < unix.CmsgLen(int(unsafe.Sizeof(unix.Timespec{}))) {
		return 0, false
	}
	h := (*unix.Cmsghdr)(unsafe.Pointer(&oob[0]))
	if h.Level != unix.SOL_SOCKET || h.Type != unix.SCM_TIMESTAMPNS {
		return 0, false
	}
	return (*unix.Timespec)(unsafe.Pointer(&oob[unix.CmsgLen(0)])).Nano(), true
}

// send sends datagrams to the node on this side.
func (s *side) send(ps []*parcel) {
	s.name.Family, s.name.Addr = unix.AF_INET, s.peer.Addr().As4()
	port := (*[2]byte)(unsafe.Pointer(&s.name.Port))
	port[0], port[1] = byte(s.peer.Port()>>8), byte(s.peer.Port())
	for len(ps) > 0 {
		n := min(len(ps), oceanBatch)
		for i, p := range ps[:n] {
			s.iovs2[i].Base = &p.buf[0]
			s.iovs2[i].SetLen(p.n)
		}
		took, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(s.fd), uintptr(unsafe.Pointer(&s.heads2[0])), uintptr(n), unix.MSG_DONTWAIT, 0, 0)
		if errno != 0 { // the first one was not taken
			s.refused++
			took = 1
		}
		ps = ps[took:]
	}
}
