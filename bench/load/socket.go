package load

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

// controlPackets is how many packets may wait for Pion on one socket: handshakes and the sample.
const controlPackets = 1024

// socket is one subscriber's UDP socket. Its packets come from the reader, which takes media out; what is left goes on to
// Pion, to which the socket is a UDP mux with one client.
type socket struct {
	local *net.UDPAddr
	send  func(b []byte, to netip.AddrPort) error
	end   func()
	media func(b []byte, now time.Duration) (forPion bool)

	queue chan datagram
	once  sync.Once
	done  chan struct{}
}

type datagram struct {
	b    []byte
	from netip.AddrPort
}

var errSocketClosed = errors.New("load: socket is closed")

func newSocket(local *net.UDPAddr, media func([]byte, time.Duration) bool) *socket {
	return &socket{local: local, media: media, queue: make(chan datagram, controlPackets), done: make(chan struct{})}
}

// deliver takes a packet from the reader. b is only lent.
func (s *socket) deliver(b []byte, from netip.AddrPort, now time.Duration) {
	if isMedia(b) && !s.media(b, now) {
		return
	}
	select {
	case s.queue <- datagram{append([]byte(nil), b...), from}:
	default: // Pion is behind; handshakes repeat, the sample does not matter
	}
}

func (s *socket) close() {
	s.once.Do(func() {
		close(s.done)
		s.end()
	})
}

// GetConn implements ice.UDPMux.
func (s *socket) GetConn(string, net.Addr) (net.PacketConn, error) { return socketConn{s}, nil }

// RemoveConnByUfrag implements ice.UDPMux.
func (s *socket) RemoveConnByUfrag(string) {}

// GetListenAddresses implements ice.UDPMux.
func (s *socket) GetListenAddresses() []net.Addr { return []net.Addr{s.local} }

// Close implements ice.UDPMux.
func (s *socket) Close() error {
	s.close()
	return nil
}

// socketConn is what Pion reads and writes.
type socketConn struct{ s *socket }

func (c socketConn) ReadFromAddrPort(b []byte) (int, netip.AddrPort, error) {
	select {
	case d := <-c.s.queue:
		return copy(b, d.b), d.from, nil
	case <-c.s.done:
		return 0, netip.AddrPort{}, io.EOF
	}
}

func (c socketConn) WriteToAddrPort(b []byte, to netip.AddrPort) (int, error) {
	select {
	case <-c.s.done:
		return 0, errSocketClosed
	default:
	}
	if err := c.s.send(b, to); err != nil {
		return 0, err
	}
	return len(b), nil
}

func (c socketConn) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, err := c.ReadFromAddrPort(b)
	if err != nil {
		return 0, nil, err
	}
	return n, net.UDPAddrFromAddrPort(from), nil
}

func (c socketConn) WriteTo(b []byte, to net.Addr) (int, error) {
	a, ok := to.(*net.UDPAddr)
	if !ok {
		return 0, net.InvalidAddrError("not a UDP address")
	}
	return c.WriteToAddrPort(b, a.AddrPort())
}

func (c socketConn) Close() error {
	c.s.close()
	return nil
}

func (c socketConn) LocalAddr() net.Addr              { return c.s.local }
func (c socketConn) SetDeadline(time.Time) error      { return nil }
func (c socketConn) SetReadDeadline(time.Time) error  { return nil }
func (c socketConn) SetWriteDeadline(time.Time) error { return nil }
