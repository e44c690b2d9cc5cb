package cascade

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/meshnet"
)

// hub is a mesh in memory: datagrams take delay, may be dropped by a hook (called with the mutex held), and control
// streams are pipes.
type hub struct {
	delay     time.Duration
	max       int
	unlimited bool // what lanes say of themselves
	direct    bool // lanes carry direct media
	rate      int  // bytes per second of one lane; 0 is no limit
	// jitter is what a datagram takes beyond delay, in order on its lane; called with the mutex held.
	jitter func(lane *fakeConn) time.Duration

	mu    sync.Mutex
	nodes map[mesh.NodeID]*fakeNet
	drop  func(from, to mesh.NodeID, lane *fakeConn, b []byte) bool
}

// hubsDirect makes new hubs carry direct media; see TestOverDirectMedia.
var hubsDirect bool

func newHub(delay time.Duration) *hub {
	return &hub{delay: delay, max: 1243, nodes: make(map[mesh.NodeID]*fakeNet), direct: hubsDirect}
}

func (h *hub) setDrop(f func(from, to mesh.NodeID, lane *fakeConn, b []byte) bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.drop = f
}

type fakeNet struct {
	hub     *hub
	id      mesh.NodeID
	media   func(MediaConn)
	control func(mesh.NodeID, net.Conn)

	mu    sync.Mutex
	conns []*fakeConn
	pipes []net.Conn

	reading sync.Mutex // the turn of the goroutine that would read the node's socket
}

// join makes a node reachable, once its handlers are set.
func (h *hub) join(n *fakeNet) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.nodes[n.id] = n
}

func (h *hub) node(id mesh.NodeID) (*fakeNet, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if n, ok := h.nodes[id]; ok {
		return n, nil
	}
	return nil, meshnet.ErrUnknownNode
}

func (n *fakeNet) NodeID() mesh.NodeID                         { return n.id }
func (n *fakeNet) HandleMedia(f func(MediaConn))               { n.media = f }
func (n *fakeNet) HandleControl(f func(mesh.NodeID, net.Conn)) { n.control = f }
func (n *fakeNet) remember(c *fakeConn)                        { n.mu.Lock(); n.conns = append(n.conns, c); n.mu.Unlock() }

func (n *fakeNet) rememberPipe(c net.Conn)          { n.mu.Lock(); n.pipes = append(n.pipes, c); n.mu.Unlock() }
func resolveAny(mesh.NodeID) (netip.AddrPort, bool) { return netip.AddrPort{}, true }

// forget lets go of media connections that have ended.
func (n *fakeNet) forget() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.conns = slices.DeleteFunc(n.conns, func(c *fakeConn) bool {
		select {
		case <-c.done:
			return true
		default:
			return false
		}
	})
}

// breakLanes ends every media connection of the node, breakControl every control stream.
func (n *fakeNet) breakLanes() {
	n.mu.Lock()
	conns := n.conns
	n.conns = nil
	n.mu.Unlock()
	for _, c := range conns {
		_ = c.Close(0, "broken")
	}
}

func (n *fakeNet) breakControl() {
	n.mu.Lock()
	pipes := n.pipes
	n.pipes = nil
	n.mu.Unlock()
	for _, c := range pipes {
		_ = c.Close()
	}
}

func (n *fakeNet) OpenControl(_ context.Context, peer mesh.NodeID) (net.Conn, error) {
	p, err := n.hub.node(peer)
	if err != nil {
		return nil, err
	}
	a, b := net.Pipe()
	n.rememberPipe(a)
	p.rememberPipe(b)
	go p.control(n.id, b)
	return a, nil
}

func (n *fakeNet) DialMedia(_ context.Context, _ netip.AddrPort, peer mesh.NodeID) (MediaConn, error) {
	p, err := n.hub.node(peer)
	if err != nil {
		return nil, err
	}
	done := make(chan struct{})
	once := new(sync.Once)
	a := &fakeConn{hub: n.hub, self: n.id, peer: peer, in: make(chan []byte, 4096), streams: make(chan net.Conn, 4), done: done, once: once}
	b := &fakeConn{hub: n.hub, self: peer, peer: n.id, in: make(chan []byte, 4096), streams: make(chan net.Conn, 4), done: done, once: once}
	a.other, b.other = b, a
	n.remember(a)
	p.remember(b)
	if n.hub.direct {
		x, y := &fakeDirect{fakeConn: a, node: n}, &fakeDirect{fakeConn: b, node: p}
		x.to, y.to = y, x
		a.handled, b.handled = x, y
		go p.media(y)
		return x, nil
	}
	go p.media(b)
	return a, nil
}

type fakeConn struct {
	hub        *hub
	self, peer mesh.NodeID
	other      *fakeConn
	in         chan []byte
	streams    chan net.Conn
	done       chan struct{}
	once       *sync.Once
	handled    *fakeDirect // what stands on top of it, if anything
	stuck      atomic.Bool
	last       time.Time // latest arrival over there; guarded by hub.mu
}

func (c *fakeConn) Unlimited() bool       { return c.hub.unlimited }
func (c *fakeConn) Peer() mesh.NodeID     { return c.peer }
func (c *fakeConn) Done() <-chan struct{} { return c.done }
func (c *fakeConn) MaxDatagramBytes() int { return c.hub.max }

func (c *fakeConn) Close(uint64, string) error {
	c.once.Do(func() { close(c.done) })
	return nil
}

func (c *fakeConn) SendDatagram(b []byte) error {
	select {
	case <-c.done:
		return net.ErrClosed
	default:
	}
	if len(b) > c.hub.max {
		return meshnet.ErrDatagramTooLarge
	}
	if c.stuck.Load() {
		<-c.done
		return net.ErrClosed
	}
	if c.hub.rate > 0 {
		time.Sleep(time.Duration(len(b)) * time.Second / time.Duration(c.hub.rate))
	}
	delay, dropped := c.travel(b)
	if dropped {
		return nil
	}
	data := append([]byte(nil), b...)
	deliver := func() {
		if c.other.handled != nil {
			c.other.handled.arrive([][]byte{data})
			return
		}
		select {
		case c.other.in <- data:
		default:
		}
	}
	if delay == 0 {
		deliver()
		return nil
	}
	time.AfterFunc(delay, deliver)
	return nil
}

// travel says what becomes of a datagram on its way.
func (c *fakeConn) travel(b []byte) (delay time.Duration, dropped bool) {
	c.hub.mu.Lock()
	defer c.hub.mu.Unlock()
	dropped = c.hub.drop != nil && c.hub.drop(c.self, c.peer, c, b)
	delay = c.hub.delay
	if c.hub.jitter != nil {
		delay += c.hub.jitter(c)
		at := time.Now().Add(delay)
		if !at.After(c.last) {
			at = c.last.Add(time.Microsecond)
		}
		c.last, delay = at, time.Until(at)
	}
	return delay, dropped
}

func (c *fakeConn) ReceiveDatagram(ctx context.Context) ([]byte, error) {
	select {
	case b := <-c.in:
		return b, nil
	case <-c.done:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (c *fakeConn) OpenStream(context.Context) (net.Conn, error) {
	a, b := net.Pipe()
	select {
	case c.other.streams <- b:
		return a, nil
	default:
		return nil, errors.New("too many streams")
	}
}

func (c *fakeConn) AcceptStream(ctx context.Context) (net.Conn, error) {
	select {
	case s := <-c.streams:
		return s, nil
	case <-c.done:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// fakeDirect carries media as meshnet.Direct does: what is gathered leaves with Flush, and what comes in at once is
// handled by one goroutine of the node at a time.
type fakeDirect struct {
	*fakeConn
	node *fakeNet
	to   *fakeDirect

	mu      sync.Mutex
	batch   [][]byte         // guarded by mu
	handler *meshnet.Handler // guarded by mu
}

var _ directMedia = (*fakeDirect)(nil)

func (c *fakeDirect) Unlimited() bool { return true }

func (c *fakeDirect) Gather(b []byte) error {
	select {
	case <-c.done:
		return net.ErrClosed
	default:
	}
	if len(b) > c.hub.max {
		return meshnet.ErrDatagramTooLarge
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.batch = append(c.batch, append([]byte(nil), b...))
	return nil
}

func (c *fakeDirect) Flush() error {
	c.mu.Lock()
	batch := c.batch
	c.batch = nil
	c.mu.Unlock()
	var together [][]byte
	after := time.Duration(0)
	leave := func() {
		if run := together; len(run) > 0 {
			time.AfterFunc(after, func() { c.to.arrive(run) })
		}
		together = nil
	}
	for _, b := range batch {
		delay, dropped := c.travel(b)
		if dropped {
			continue
		}
		if delay != after {
			leave()
		}
		after, together = delay, append(together, b)
	}
	leave()
	return nil
}

func (c *fakeDirect) arrive(run [][]byte) {
	c.node.reading.Lock()
	defer c.node.reading.Unlock()
	c.mu.Lock()
	h := c.handler
	c.mu.Unlock()
	if h == nil {
		for _, b := range run {
			c.in <- b
		}
		return
	}
	at := time.Now()
	for _, b := range run {
		h.Each(b, at)
	}
	if h.End != nil {
		h.End()
	}
}

func (c *fakeDirect) Handle(h meshnet.Handler) (before [][]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.handler = &h
	for len(c.in) > 0 {
		before = append(before, <-c.in)
	}
	return before
}
