//go:build linux && (amd64 || arm64)

package meshnet

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// batchWriter sends runs with sendmmsg. The socket sends one message at a time anyway, so one lock is no loss.
type batchWriter struct {
	raw  syscall.RawConn
	v6   bool
	send func(fd uintptr) bool

	mu    sync.Mutex // guards all below
	gso   bool       // cleared when the interface cannot
	name  unix.RawSockaddrInet6
	heads [maxBatch]unix.Mmsghdr
	iovs  [maxBatch]unix.Iovec
	oobs  [maxBatch][writeControl]byte
	spans [maxBatch]run // what each message carries

	n     int // messages of this call
	at    int // first of them that was not sent
	took  int // messages the last system call took
	errno syscall.Errno
}

func (w *batchWriter) init(raw syscall.RawConn, v6, gso bool) {
	w.raw, w.v6, w.gso = raw, v6, gso
	for i := range w.heads {
		h := &w.heads[i].Hdr
		h.Name = (*byte)(unsafe.Pointer(&w.name))
		h.Iov = &w.iovs[i]
		h.SetIovlen(1)
	}
	w.send = func(fd uintptr) bool { // raw for the reason of batchReader's
		for {
			n, _, e := unix.RawSyscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&w.heads[w.at])), uintptr(w.n-w.at), unix.MSG_DONTWAIT, 0, 0)
			if e == unix.EINTR {
				continue
			}
			w.took, w.errno = 0, e
			if e == 0 {
				w.took = int(n)
			}
			return true // media never waits for room
		}
	}
}

func (s *batchSocket) writeRuns(to netip.AddrPort, from netip.Addr, buf []byte, runs []run) (int, error) {
	w := &s.out
	w.mu.Lock()
	defer w.mu.Unlock()
	sent, err := w.write(to, from, buf, runs)
	for i := range w.n {
		w.iovs[i].Base = nil // a session that ends takes its buffer along
	}
	return sent, err
}

// write sends runs, at most maxBatch packets.
func (w *batchWriter) write(to netip.AddrPort, from netip.Addr, buf []byte, runs []run) (int, error) {
	namelen, err := w.address(to)
	if err != nil {
		return 0, err
	}
	w.n, w.at = 0, 0
	for _, r := range runs {
		if w.gso || r.packets() == 1 {
			w.message(namelen, from, buf, r)
			continue
		}
		for at := r.start; at < r.end; at += r.size {
			w.message(namelen, from, buf, run{start: at, end: min(at+r.size, r.end), size: r.size})
		}
	}
	sent := 0
	var first error
	for w.at < w.n {
		if err := w.raw.Write(w.send); err != nil {
			return sent, errors.Join(first, err)
		}
		for _, r := range w.spans[w.at : w.at+w.took] {
			sent += r.packets()
		}
		w.at += w.took
		if w.errno == 0 {
			continue
		}
		failed := w.spans[w.at]
		switch {
		case w.errno == unix.EAGAIN || w.errno == unix.ENOBUFS:
			return sent, errSocketFull
		case w.gso && failed.packets() > 1 && (w.errno == unix.EIO || w.errno == unix.EINVAL || w.errno == unix.EMSGSIZE):
			// EIO: the interface has no checksum offload, which segments need. Otherwise this path does not take the size.
			able := w.errno != unix.EIO
			w.gso = false
			n, err := w.write(to, from, buf, rest(runs, failed.start))
			w.gso = able
			return sent + n, errors.Join(first, err)
		}
		if first == nil {
			first = os.NewSyscallError("sendmmsg", w.errno)
		}
		w.at++ // this one is lost
	}
	return sent, first
}

// rest returns the runs from the one that starts at start.
func rest(runs []run, start int) []run {
	for i := range runs {
		if runs[i].start == start {
			return runs[i:]
		}
	}
	return nil
}

// address puts to into name, in the socket's family.
func (w *batchWriter) address(to netip.AddrPort) (uint32, error) {
	ip := to.Addr()
	if !w.v6 {
		if !ip.Is4() {
			return 0, &net.AddrError{Err: "not an IPv4 address", Addr: to.String()}
		}
		*(*unix.RawSockaddrInet4)(unsafe.Pointer(&w.name)) = unix.RawSockaddrInet4{
			Family: unix.AF_INET, Port: networkOrder(to.Port()), Addr: ip.As4(),
		}
		return unix.SizeofSockaddrInet4, nil
	}
	w.name = unix.RawSockaddrInet6{Family: unix.AF_INET6, Port: networkOrder(to.Port()), Addr: ip.As16(), Scope_id: scope(ip.Zone())}
	return unix.SizeofSockaddrInet6, nil
}

// scope returns the interface a zone names, by name or number.
func scope(zone string) uint32 {
	if zone == "" {
		return 0
	}
	if n, err := strconv.ParseUint(zone, 10, 32); err == nil {
		return uint32(n)
	}
	if ifi, err := net.InterfaceByName(zone); err == nil {
		return uint32(ifi.Index)
	}
	return 0
}

// message adds a message that carries r.
func (w *batchWriter) message(namelen uint32, from netip.Addr, buf []byte, r run) {
	i := w.n
	w.n++
	w.spans[i] = r
	w.iovs[i].Base = &buf[r.start]
	w.iovs[i].SetLen(r.end - r.start)
	oob := w.oobs[i][:0]
	if r.packets() > 1 {
		var data []byte
		oob, data = appendControl(oob, unix.IPPROTO_UDP, unix.UDP_SEGMENT, 2)
		*(*uint16)(unsafe.Pointer(&data[0])) = uint16(r.size)
	}
	if from.Is4() { // in_pktinfo: interface, source, destination
		var data []byte
		oob, data = appendControl(oob, unix.IPPROTO_IP, unix.IP_PKTINFO, unix.SizeofInet4Pktinfo)
		ip := from.As4()
		copy(data[4:], ip[:])
	} else if from.Is6() { // in6_pktinfo: source, interface
		var data []byte
		oob, data = appendControl(oob, unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, unix.SizeofInet6Pktinfo)
		ip := from.As16()
		copy(data, ip[:])
	}
	h := &w.heads[i].Hdr
	h.Namelen = namelen
	h.Control = nil
	if len(oob) > 0 {
		h.Control = &w.oobs[i][0]
	}
	h.SetControllen(len(oob))
}

// appendControl appends a zeroed control message of size bytes and returns where its data go.
func appendControl(b []byte, level, typ int32, size int) (oob, data []byte) {
	start := len(b)
	oob = b[:start+unix.CmsgSpace(size)]
	clear(oob[start:])
	h := (*unix.Cmsghdr)(unsafe.Pointer(&oob[start]))
	h.Level, h.Type = level, typ
	h.SetLen(unix.CmsgLen(size))
	return oob, oob[start+unix.CmsgLen(0):]
}
