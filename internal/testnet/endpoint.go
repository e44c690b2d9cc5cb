package testnet

import (
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

// InboxPackets is how many arrived packets an Endpoint keeps for its reader; more are dropped, as by a full socket buffer.
const InboxPackets = 4096

// Endpoint is one UDP socket of a Switch. All methods may be called concurrently.
type Endpoint struct {
	net    *Switch
	addr   netip.AddrPort
	local  net.Addr // addr
	read   deadline
	closed chan struct{}
	once   sync.Once
	wake   chan struct{} // capacity 1: the inbox is not empty

	mu    sync.Mutex
	inbox []*datagram // guarded by mu
	head  int         // guarded by mu; inbox[:head] was read
}

var _ net.PacketConn = (*Endpoint)(nil)

func newEndpoint(s *Switch, addr netip.AddrPort) *Endpoint {
	return &Endpoint{net: s, addr: addr, local: net.UDPAddrFromAddrPort(addr), read: newDeadline(), closed: make(chan struct{}), wake: make(chan struct{}, 1)}
}

// ReadFrom waits for a packet. What does not fit b is lost. It returns os.ErrDeadlineExceeded or net.ErrClosed.
func (e *Endpoint) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		expired := e.read.expired()
		select {
		case <-e.closed:
			return 0, nil, net.ErrClosed
		case <-expired:
			return 0, nil, os.ErrDeadlineExceeded
		default:
		}
		if d, ok := e.pop(); ok {
			n, from := copy(b, d.buf), d.sender
			d.release()
			return n, from, nil
		}
		select {
		case <-e.wake:
		case <-expired:
		case <-e.closed:
		}
	}
}

// WriteTo sends b to addr, which must be a *net.UDPAddr. What becomes of it on the way the sender is not told.
func (e *Endpoint) WriteTo(b []byte, addr net.Addr) (int, error) {
	to, ok := addrPort(addr)
	if !ok {
		return 0, &net.OpError{Op: "write", Net: "udp", Addr: addr, Err: net.InvalidAddrError("not a UDP address")}
	}
	select {
	case <-e.closed:
		return 0, net.ErrClosed
	default:
	}
	e.net.send(e, to, b)
	return len(b), nil
}

// Close leaves the network. It is idempotent.
func (e *Endpoint) Close() error {
	e.once.Do(func() {
		e.net.leave(e)
		close(e.closed)
		e.read.set(time.Time{})
	})
	return nil
}

// LocalAddr returns the address given to Listen.
func (e *Endpoint) LocalAddr() net.Addr { return e.local }

// SetDeadline sets the read deadline: writes never wait.
func (e *Endpoint) SetDeadline(t time.Time) error { return e.SetReadDeadline(t) }

// SetReadDeadline makes ReadFrom fail from t on; the zero time takes it away.
func (e *Endpoint) SetReadDeadline(t time.Time) error {
	e.read.set(t)
	return nil
}

// SetWriteDeadline does nothing: writes never wait.
func (e *Endpoint) SetWriteDeadline(time.Time) error { return nil }

// SetReadBuffer does nothing: the inbox holds InboxPackets.
func (e *Endpoint) SetReadBuffer(int) error { return nil }

// SetWriteBuffer does nothing.
func (e *Endpoint) SetWriteBuffer(int) error { return nil }

func (e *Endpoint) push(d *datagram) bool {
	e.mu.Lock()
	if len(e.inbox)-e.head >= InboxPackets {
		e.mu.Unlock()
		return false
	}
	if e.head > 0 && e.head == len(e.inbox) {
		e.inbox, e.head = e.inbox[:0], 0
	} else if e.head >= InboxPackets {
		e.inbox, e.head = append(e.inbox[:0], e.inbox[e.head:]...), 0
	}
	e.inbox = append(e.inbox, d)
	e.mu.Unlock()
	e.signal()
	return true
}

func (e *Endpoint) pop() (*datagram, bool) {
	e.mu.Lock()
	if e.head == len(e.inbox) {
		e.mu.Unlock()
		return nil, false
	}
	d := e.inbox[e.head]
	e.inbox[e.head] = nil
	e.head++
	more := e.head < len(e.inbox)
	e.mu.Unlock()
	if more { // for a second reader: wake holds one token only
		e.signal()
	}
	return d, true
}

func (e *Endpoint) signal() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}
