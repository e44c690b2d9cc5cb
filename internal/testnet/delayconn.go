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
// destination without a setting pass at once. Incoming packets are untouched: wrap the other side's socket too, so
// that each direction has its own Link.
//
// All methods may be called concurrently.
type DelayConn struct {
	net.PacketConn // ReadFrom, LocalAddr and deadlines are the wrapped connection's
	seed           uint64
	sched          *scheduler
	rest           counters // destinations without a setting

	mu     sync.Mutex
	links  map[netip.AddrPort]*delayed // guarded by mu
	closed bool                        // guarded by mu
}

// delayed is the way to one destination.
type delayed struct {
	path
	addr  net.Addr
	black atomic.Bool // blocked
}

var _ net.PacketConn = (*DelayConn)(nil)

// NewDelayConn wraps pc and owns it from now on: Close closes pc.
func NewDelayConn(pc net.PacketConn, seed uint64) *DelayConn {
	c := &DelayConn{PacketConn: pc, seed: seed, links: make(map[netip.AddrPort]*delayed)}
	c.sched = newScheduler(c.send)
	return c
}

// Set makes packets to dst travel over l from now on. Packets already in flight keep their time, and later ones do
// not overtake them unless l.Reorder. It returns the error of l.Validate and changes nothing then.
func (c *DelayConn) Set(dst netip.AddrPort, l Link) error {
	if err := l.Validate(); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.linkLocked(dst).shaper.Set(l)
	return nil
}

// Block drops all packets to dst until Unblock or Heal, also those in flight: a black hole.
func (c *DelayConn) Block(dst netip.AddrPort) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.linkLocked(dst).black.Store(true)
}

// Unblock ends Block.
func (c *DelayConn) Unblock(dst netip.AddrPort) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if d, ok := c.links[canonical(dst)]; ok {
		d.black.Store(false)
	}
}

// Heal ends every Block.
func (c *DelayConn) Heal() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, d := range c.links {
		d.black.Store(false)
	}
}

// Stats counts packets written so far.
func (c *DelayConn) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	sum := c.rest.stats()
	for _, d := range c.links {
		sum = sum.Add(d.stats())
	}
	return sum
}

// LinkStats counts packets written so far to dst, which had a setting.
func (c *DelayConn) LinkStats(dst netip.AddrPort) Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	if d, ok := c.links[canonical(dst)]; ok {
		return d.stats()
	}
	return Stats{}
}

// WriteTo sends b to addr, now or later. A packet that is dropped on the way, or whose sending fails later, counts as
// written, as on a real network. It returns net.ErrClosed after Close.
func (c *DelayConn) WriteTo(b []byte, addr net.Addr) (int, error) {
	dst, ok := addrPort(addr)
	if !ok {
		return c.PacketConn.WriteTo(b, addr)
	}
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return 0, net.ErrClosed
	}
	d := c.links[dst]
	if d == nil {
		c.mu.Unlock()
		return c.pass(&c.rest, b, addr)
	}
	if d.black.Load() {
		c.mu.Unlock()
		d.blocked.Add(1)
		return len(b), nil
	}
	now := time.Now()
	due, v := d.shaper.Packet(now, len(b))
	if v != Pass {
		c.mu.Unlock()
		d.refuse(v)
		return len(b), nil
	}
	if !due.After(now) && d.pending.Load() == 0 {
		c.mu.Unlock()
		return c.pass(&d.counters, b, addr)
	}
	// Added under the lock: two writers to one destination must enter in the order of their due times.
	packet := newDatagram(&d.path, b)
	packet.dst = d
	added := c.sched.add(due, packet)
	c.mu.Unlock()
	if !added {
		d.overflow.Add(1)
	}
	return len(b), nil
}

func (c *DelayConn) pass(count *counters, b []byte, addr net.Addr) (int, error) {
	n, err := c.PacketConn.WriteTo(b, addr)
	if err == nil {
		count.passed.Add(1)
	}
	return n, err
}

func (c *DelayConn) send(packet *datagram) {
	d := packet.dst
	if d.black.Load() {
		d.blocked.Add(1)
	} else if _, err := c.PacketConn.WriteTo(packet.buf, d.addr); err != nil {
		d.unreachable.Add(1)
	} else {
		d.passed.Add(1)
	}
	packet.release()
}

func (c *DelayConn) linkLocked(dst netip.AddrPort) *delayed {
	dst = canonical(dst)
	d, ok := c.links[dst]
	if !ok {
		d = &delayed{addr: net.UDPAddrFromAddrPort(dst)}
		d.shaper = NewShaper(Link{}, c.seed, hashPair(netip.Addr{}, dst.Addr())^uint64(dst.Port()))
		d.shaper.tick = sendTick
		c.links[dst] = d
	}
	return d
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
