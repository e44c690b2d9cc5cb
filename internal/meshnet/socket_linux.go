//go:build linux && (amd64 || arm64)

package meshnet

import (
	"net"
	"net/netip"
	"os"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

const (
	readBatch     = 16       // datagrams, or runs of them, of one recvmmsg
	readBytes     = 64 << 10 // the most the kernel puts together of one run (UDP GRO)
	readControl   = 128
	writeControl  = 96 // segment size and source address
	sockaddrBytes = unix.SizeofSockaddrInet6
)

// batchSocket is a UDP socket with recvmmsg, sendmmsg, UDP GSO and GRO. QUIC reads through ReadBatch and otherwise sees
// the *net.UDPConn with all its options.
type batchSocket struct {
	*net.UDPConn
	in  batchReader
	out batchWriter
}

func newBatchSocket(pc net.PacketConn, ss *sessions) directSocket {
	uc, ok := pc.(*net.UDPConn)
	if !ok {
		return nil
	}
	raw, err := uc.SyscallConn()
	if err != nil {
		return nil
	}
	s := &batchSocket{UDPConn: uc}
	var gso bool
	domain, usable := 0, false
	err = raw.Control(func(fd uintptr) {
		var err error
		domain, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_DOMAIN)
		usable = err == nil
		_, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_SEGMENT)
		gso = err == nil
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_GRO, 1) // without it runs have one packet each
	})
	if err != nil || !usable {
		return nil
	}
	s.in.init(raw, ss)
	s.out.init(raw, domain == unix.AF_INET6, gso)
	return s
}

// ReadBatch gives QUIC the packets that are not direct media; quic-go calls it instead of reading the socket.
func (s *batchSocket) ReadBatch(ms []ipv4.Message, _ int) (int, error) {
	for {
		if n := s.in.drain(ms); n > 0 {
			return n, nil
		}
		if err := s.in.read(); err != nil {
			return 0, &net.OpError{Op: "read", Net: "udp", Source: s.LocalAddr(), Err: err}
		}
	}
}

// batchReader reads the socket. Only the goroutine that calls ReadBatch uses it.
type batchReader struct {
	raw      syscall.RawConn
	sessions *sessions
	recv     func(fd uintptr) bool // kept, so that a read allocates nothing

	heads [readBatch]unix.Mmsghdr
	iovs  [readBatch]unix.Iovec
	names [readBatch]unix.RawSockaddrInet6
	oobs  [readBatch][readControl]byte
	bufs  [readBatch][]byte

	n     int // messages read
	errno syscall.Errno

	at   int // message that drain is at
	off  int // bytes of it that are done
	size int // of its packets; 0 before it was looked at
	from netip.AddrPort

	quicFrom netip.AddrPort // of the last QUIC packet,
	quicAddr *net.UDPAddr   // as QUIC wants it
}

func (r *batchReader) init(raw syscall.RawConn, ss *sessions) {
	r.raw, r.sessions = raw, ss
	space := make([]byte, readBatch*readBytes)
	for i := range r.heads {
		r.bufs[i] = space[i*readBytes : (i+1)*readBytes : (i+1)*readBytes]
		r.iovs[i].Base = &r.bufs[i][0]
		r.iovs[i].SetLen(readBytes)
		h := &r.heads[i].Hdr
		h.Name = (*byte)(unsafe.Pointer(&r.names[i]))
		h.Iov = &r.iovs[i]
		h.SetIovlen(1)
		h.Control = &r.oobs[i][0]
	}
	// This never waits, nor does batchWriter's send. They are raw because the scheduler, told of a system call on an idle machine, wakes the runtime's
	// monitor thread, which costs more than the call.
	r.recv = func(fd uintptr) bool {
		for {
			n, _, e := unix.RawSyscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&r.heads[0])), readBatch, unix.MSG_DONTWAIT, 0, 0)
			switch e {
			case unix.EINTR:
				continue
			case unix.EAGAIN:
				return false
			case 0:
				r.n, r.errno = int(n), 0
			default:
				r.n, r.errno = 0, e
			}
			return true
		}
	}
}

// read waits for packets.
func (r *batchReader) read() error {
	for i := range r.heads {
		h := &r.heads[i].Hdr
		h.Namelen = sockaddrBytes
		h.SetControllen(readControl)
		h.Flags = 0
	}
	r.n, r.at, r.off, r.size = 0, 0, 0, 0
	if err := r.raw.Read(r.recv); err != nil {
		return err
	}
	if r.errno != 0 {
		return os.NewSyscallError("recvmmsg", r.errno)
	}
	return nil
}

// drain handles what was read: direct media at once, the rest goes into ms until it is full.
func (r *batchReader) drain(ms []ipv4.Message) int {
	defer r.sessions.done()
	k := 0
	for ; r.at < r.n; r.at++ {
		h := &r.heads[r.at]
		all := r.bufs[r.at][:h.Len]
		oob := r.oobs[r.at][:h.Hdr.Controllen]
		if r.size == 0 {
			r.from = fromSockaddr(&r.names[r.at])
			if r.size = groSize(oob); r.size <= 0 {
				r.size = max(len(all), 1)
			}
		}
		for r.off < len(all) {
			p := all[r.off:min(r.off+r.size, len(all))]
			if isDirect(p) {
				r.off += len(p)
				r.sessions.take(p, r.from)
				continue
			}
			if k == len(ms) {
				return k
			}
			r.off += len(p)
			m := &ms[k]
			m.N = copy(m.Buffers[0], p)
			m.NN = copy(m.OOB, oob)
			m.Flags = int(h.Hdr.Flags)
			m.Addr = r.addr()
			k++
		}
		r.off, r.size = 0, 0
	}
	return k
}

// addr gives the sender of the current message as QUIC wants it, which keeps it and never changes it.
func (r *batchReader) addr() *net.UDPAddr {
	if r.quicAddr == nil || r.quicFrom != r.from {
		r.quicFrom, r.quicAddr = r.from, net.UDPAddrFromAddrPort(r.from)
	}
	return r.quicAddr
}

// groSize returns how long the packets are that the kernel put together, 0 for a single one.
func groSize(oob []byte) int {
	for len(oob) >= unix.SizeofCmsghdr {
		h, body, rest, err := unix.ParseOneSocketControlMessage(oob)
		if err != nil {
			return 0
		}
		if h.Level == unix.IPPROTO_UDP && h.Type == unix.UDP_GRO && len(body) >= 4 {
			return int(*(*int32)(unsafe.Pointer(&body[0])))
		}
		oob = rest
	}
	return 0
}

// fromSockaddr reads what the kernel wrote, IPv4 as IPv4.
func fromSockaddr(sa *unix.RawSockaddrInet6) netip.AddrPort {
	switch sa.Family {
	case unix.AF_INET:
		sa4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(sa))
		return netip.AddrPortFrom(netip.AddrFrom4(sa4.Addr), networkOrder(sa4.Port))
	case unix.AF_INET6:
		ip := netip.AddrFrom16(sa.Addr)
		if ip.Is4In6() {
			ip = ip.Unmap()
		} else if sa.Scope_id != 0 {
			ip = ip.WithZone(strconv.FormatUint(uint64(sa.Scope_id), 10))
		}
		return netip.AddrPortFrom(ip, networkOrder(sa.Port))
	}
	return netip.AddrPort{}
}

// networkOrder swaps a port between network byte order, as in a sockaddr, and ours: both machines are little-endian.
func networkOrder(port uint16) uint16 { return port<<8 | port>>8 }
