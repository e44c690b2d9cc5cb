package testnet

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// sendTick is the grid on which a DelayConn sends: a timer per packet would cost more than the packet.
const sendTick = 500 * time.Microsecond

// DelayConn delays, drops and rate-limits what is sent through a net.PacketConn, per destination. Packets to a
// destination without a setting pass at once. Incoming packets are untouched: wrap the other side's socket too.
//
// All methods may be called concurrently.
type DelayConn struct {
	net.PacketConn // ReadFrom, LocalAddr and deadlines are the wrapped connection's
	seed           uint64
	sched          *scheduler
	counters       counters

	mu      sync.Mutex
	links   map[netip.AddrPort]*delayed // guarded by mu
	blocked map[netip.AddrPort]struct{} // guarded by mu
	closed  bool                        // guarded by mu
}

type delayed struct {
	shaper  *shaper
	pending atomic.Int64
}

var _ net.PacketConn = (*DelayConn)(nil)

// NewDelayConn wraps pc and owns it from now on: Close closes pc.
func NewDelayConn(pc net.PacketConn, seed uint64) *DelayConn {
	c := &DelayConn{
		PacketConn: pc, seed: seed,
		links: make(map[netip.AddrPort]*delayed), blocked: make(map[netip.AddrPort]struct{}),
	}
	c.sched = newScheduler(c.send)
	return c
}

// Set makes packets to dst travel over l from now on. Packets already in flight keep their time, and later ones do
// not overtake them. It returns the error of l.Validate and changes nothing then.
func (c *DelayConn) Set(dst netip.AddrPort, l Link) error {
	if err := l.Validate(); err != nil {
		return err
	}
	dst = canonical(dst)
	c.mu.Lock()
	defer c.mu.Unlock()
	if d, ok := c.links[dst]; ok {
		d.shaper.link = l
		return nil
	}
	c.links[dst] = &delayed{shaper: newShaper(l, sendTick, c.seed, hashPair(netip.Addr{}, dst.Addr())^uint64(dst.Port()))}
	return nil
}

// Block drops all packets to dst until Unblock.
func (c *DelayConn) Block(dst netip.AddrPort) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.blocked[canonical(dst)] = struct{}{}
}

// Unblock ends Block.
func (c *DelayConn) Unblock(dst netip.AddrPort) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.blocked, canonical(dst))
}

// Stats counts packets written so far.
func (c *DelayConn) Stats() Stats { return c.counters.stats() }

// WriteTo sends b to addr, now or later. A packet that is dropped on the way, or whose sending fails later, counts as
// written, as on a real network. It returns net.ErrClosed after Close.
func (c *DelayConn) WriteTo(b []byte, addr net.Addr) (int, error) {
	dst, ok := addrPort(addr)
	if !ok {
		return c.PacketConn.WriteTo(b, addr)
	}
	now := time.Now()
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return 0, net.ErrClosed
	}
	if _, ok := c.blocked[dst]; ok {
		c.mu.Unlock()
		c.counters.blocked.Add(1)
		return len(b), nil
	}
	d := c.links[dst]
	if d == nil {
		c.mu.Unlock()
		return c.pass(b, addr)
	}
	due, v := d.shaper.packet(now, len(b))
	if v != pass {
		c.mu.Unlock()
		c.counters.refuse(v)
		return len(b), nil
	}
	if !due.After(now) && d.pending.Load() == 0 {
		c.mu.Unlock()
		return c.pass(b, addr)
	}
	// Added under the lock: two writers to one destination must enter in the order of their due times.
	added := c.sched.add(datagram{due: due, to: dst, buf: newBuffer(b), pending: &d.pending})
	c.mu.Unlock()
	if !added {
		c.counters.overflow.Add(1)
	}
	return len(b), nil
}

func (c *DelayConn) pass(b []byte, addr net.Addr) (int, error) {
	n, err := c.PacketConn.WriteTo(b, addr)
	if err == nil {
		c.counters.passed.Add(1)
	}
	return n, err
}

func (c *DelayConn) send(d datagram) {
	if _, err := c.PacketConn.WriteTo(*d.buf, net.UDPAddrFromAddrPort(d.to)); err != nil {
		c.counters.unreachable.Add(1)
	} else {
		c.counters.passed.Add(1)
	}
	d.release()
}

// Close drops what is in flight and closes the wrapped connection. It is idempotent.
func (c *DelayConn) Close() error {
	c.mu.Lock()
	first := !c.closed
	c.closed = true
	c.mu.Unlock()
	if !first {
		return nil
	}
	err := c.PacketConn.Close() // first, so that a blocked WriteTo of the scheduler returns
	c.sched.close()
	return err
}

var errNoBuffer = errors.New("testnet: the wrapped connection has no socket buffer to set")

// SetReadBuffer sets the wrapped socket's receive buffer. It fails when that has none.
func (c *DelayConn) SetReadBuffer(bytes int) error {
	if s, ok := c.PacketConn.(interface{ SetReadBuffer(int) error }); ok {
		return s.SetReadBuffer(bytes)
	}
	return errNoBuffer
}

// SetWriteBuffer sets the wrapped socket's send buffer. It fails when that has none.
func (c *DelayConn) SetWriteBuffer(bytes int) error {
	if s, ok := c.PacketConn.(interface{ SetWriteBuffer(int) error }); ok {
		return s.SetWriteBuffer(bytes)
	}
	return errNoBuffer
}
