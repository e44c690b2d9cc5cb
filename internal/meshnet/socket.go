package meshnet

import (
	"errors"
	"net"
	"net/netip"
)

// errSocketFull: the socket's send buffer has no room now.
var errSocketFull = errors.New("socket buffer full")

// directSocket is the node's packet connection as QUIC sees it: direct media is taken out of what it reads, in the
// goroutine that reads.
type directSocket interface {
	net.PacketConn
	// writeRuns sends the packets of runs without waiting and returns how many the socket took. The error, errSocketFull
	// or the system's, is of the first that was lost. from may be invalid: the system then chooses.
	writeRuns(to netip.AddrPort, from netip.Addr, buf []byte, runs []run) (int, error)
}

// newSocket wraps pc: with batched calls and segmentation offload if pc is a UDP socket and the system has them, else
// packet by packet. What is direct media goes to sessions, in the goroutine that reads.
func newSocket(pc net.PacketConn, ss *sessions) directSocket {
	if s := newBatchSocket(pc, ss); s != nil {
		return s
	}
	return &plainSocket{PacketConn: pc, sessions: ss}
}

// plainSocket works on any packet connection. One that waits for room in WriteTo makes writeRuns wait.
type plainSocket struct {
	net.PacketConn
	sessions *sessions
}

// ReadFrom implements net.PacketConn: it returns only what is not direct media.
func (s *plainSocket) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		n, addr, err := s.PacketConn.ReadFrom(b)
		if err != nil || !isDirect(b[:n]) {
			return n, addr, err
		}
		s.sessions.take(b[:n], addrPort(addr))
		s.sessions.done()
	}
}

var errNoBuffer = errors.New("meshnet: the packet connection has no socket buffer to set")

// SetReadBuffer sets the receive buffer of what it wraps, if that has one.
func (s *plainSocket) SetReadBuffer(bytes int) error {
	if pc, ok := s.PacketConn.(interface{ SetReadBuffer(int) error }); ok {
		return pc.SetReadBuffer(bytes)
	}
	return errNoBuffer
}

// SetWriteBuffer sets the send buffer of what it wraps, if that has one.
func (s *plainSocket) SetWriteBuffer(bytes int) error {
	if pc, ok := s.PacketConn.(interface{ SetWriteBuffer(int) error }); ok {
		return pc.SetWriteBuffer(bytes)
	}
	return errNoBuffer
}

func (s *plainSocket) writeRuns(to netip.AddrPort, _ netip.Addr, buf []byte, runs []run) (int, error) {
	var sent int
	var first error
	addr := net.UDPAddrFromAddrPort(to)
	for _, r := range runs {
		for at := r.start; at < r.end; at += r.size {
			if _, err := s.WriteTo(buf[at:min(at+r.size, r.end)], addr); err != nil {
				if first == nil {
					first = err
				}
				continue
			}
			sent++
		}
	}
	return sent, first
}
