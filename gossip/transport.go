package gossip

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/meshnet"
)

const (
	maxPeers     = 4096
	receiveQueue = 512                    // packets memberlist has not read yet
	flushTime    = 200 * time.Millisecond // for queued packets at shutdown
	lingerTime   = 50 * time.Millisecond  // for packets QUIC has taken but not sent
	twinPatience = time.Second            // for a connection with oneself to arrive
)

var (
	errSelf   = errors.New("gossip: the address is this node's own")
	errClosed = fmt.Errorf("gossip: transport: %w", net.ErrClosed)
)

// transport carries memberlist over meshnet: packets as DATAGRAMs, streams as QUIC streams, over one connection per
// peer that either side may have dialled. Sending never blocks memberlist.
type transport struct {
	net       *meshnet.Network
	self      mesh.NodeID
	advertise netip.AddrPort
	resolve   func(mesh.NodeID) (netip.AddrPort, bool)
	log       *slog.Logger
	metrics   *metrics

	packets chan *memberlist.Packet
	streams chan net.Conn

	onSelf       func(netip.AddrPort) // an address answered with this node's own ID; must not block
	selfAccepted chan struct{}        // capacity 1; this node reached itself

	ctx      context.Context // ends with Shutdown
	cancel   context.CancelFunc
	stopping chan struct{} // closed when senders shall flush and end
	wg       sync.WaitGroup

	mu    sync.Mutex
	state transportState    // guarded by mu
	peers map[peerKey]*peer // guarded by mu
}

// peerKey tells a node's old life from its new one at another address: a packet for the one must not reach the other,
// or the old one seems to answer for ever.
type peerKey struct {
	name mesh.NodeID
	addr netip.AddrPort
}

type transportState int

const (
	transportNew transportState = iota
	transportOpen
	transportClosed
)

var _ memberlist.NodeAwareTransport = (*transport)(nil)

func newTransport(n *meshnet.Network, advertise netip.AddrPort, resolve func(mesh.NodeID) (netip.AddrPort, bool),
	log *slog.Logger, m *metrics,
) *transport {
	ctx, cancel := context.WithCancel(context.Background())
	return &transport{
		net: n, self: n.NodeID(), advertise: advertise, resolve: resolve, log: log, metrics: m,
		packets: make(chan *memberlist.Packet, receiveQueue), streams: make(chan net.Conn),
		onSelf: func(netip.AddrPort) {}, selfAccepted: make(chan struct{}, 1),
		ctx: ctx, cancel: cancel, stopping: make(chan struct{}),
		peers: make(map[peerKey]*peer),
	}
}

// open lets peers in.
func (t *transport) open() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.state = transportOpen
}

// FinalAdvertiseAddr implements memberlist.Transport.
func (t *transport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return t.advertise.Addr().AsSlice(), int(t.advertise.Port()), nil
}

// WriteTo implements memberlist.Transport.
func (t *transport) WriteTo(b []byte, addr string) (time.Time, error) {
	return t.WriteToAddress(b, memberlist.Address{Addr: addr})
}

// WriteToAddress implements memberlist.NodeAwareTransport. It queues and returns: a packet may be dropped.
func (t *transport) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	now := time.Now()
	addr, err := netip.ParseAddrPort(a.Addr)
	if err != nil {
		return now, fmt.Errorf("gossip: address of %s: %w", a.Name, err)
	}
	name := mesh.NodeID(a.Name)
	if name == "" { // an answer to somebody who did not say its name: only possible over a live connection
		if c := t.liveAt(addr); c != nil {
			name = c.Peer()
		}
	}
	if len(b) > packetBytes+64 { // memberlist adds a checksum and headers beyond its own limit
		t.metrics.drops.WithLabelValues(dropTooLarge).Inc()
		return now, nil
	}
	p := t.peer(name, addr)
	if p == nil {
		t.metrics.drops.WithLabelValues(dropClosed).Inc()
		return now, nil
	}
	p.enqueue(bytes.Clone(b))
	return now, nil
}

// DialTimeout implements memberlist.Transport.
func (t *transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return t.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

// DialAddressTimeout implements memberlist.NodeAwareTransport.
func (t *transport) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	addr, err := netip.ParseAddrPort(a.Addr)
	if err != nil {
		return nil, fmt.Errorf("gossip: address of %s: %w", a.Name, err)
	}
	ctx, cancel := context.WithTimeout(t.ctx, timeout)
	defer cancel()
	var last error
	for range 2 { // the pooled connection may have died without our knowing
		c, err := t.connect(ctx, mesh.NodeID(a.Name), addr)
		if err != nil {
			return nil, err
		}
		s, err := c.OpenStream(ctx)
		if err == nil {
			t.metrics.streams.WithLabelValues(dirOut).Inc()
			return s, nil
		}
		if last = err; ctx.Err() != nil {
			break
		}
	}
	return nil, last
}

// PacketCh implements memberlist.Transport.
func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.packets }

// StreamCh implements memberlist.Transport.
func (t *transport) StreamCh() <-chan net.Conn { return t.streams }

// Shutdown implements memberlist.Transport: what is queued is sent if that goes quickly, then every connection of
// gossip is closed. The mesh network itself goes on.
func (t *transport) Shutdown() error {
	t.mu.Lock()
	if t.state == transportClosed {
		t.mu.Unlock()
		return nil
	}
	t.state = transportClosed
	peers := make([]*peer, 0, len(t.peers))
	for _, p := range t.peers {
		peers = append(peers, p)
	}
	t.mu.Unlock()

	close(t.stopping)
	flush := time.NewTimer(flushTime)
	defer flush.Stop()
	for _, p := range peers {
		select {
		case <-p.done:
		case <-flush.C:
			flush.Reset(0) // time is up for the others too
		}
	}
	time.Sleep(lingerTime) // quic-go has no way to ask whether a datagram is on its way
	t.cancel()
	t.wg.Wait() // readers close their connections, which frees senders
	return nil
}

// peer returns the sender for name at addr, starting it if needed; nil if it cannot be had.
func (t *transport) peer(name mesh.NodeID, addr netip.AddrPort) *peer {
	if name == "" || name == t.self {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.state != transportOpen {
		return nil
	}
	key := peerKey{name, netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())}
	p := t.peers[key]
	if p == nil {
		if len(t.peers) >= maxPeers {
			return nil
		}
		p = newPeer(t, key)
		t.peers[key] = p
		t.wg.Go(p.run)
	}
	return p
}

// drop forgets a peer whose sender ended.
func (t *transport) drop(p *peer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.peers[p.key] == p {
		delete(t.peers, p.key)
	}
}

func (t *transport) liveAt(addr netip.AddrPort) *meshnet.Conn {
	t.mu.Lock()
	defer t.mu.Unlock()
	for key, p := range t.peers {
		if key.addr != addr {
			continue
		}
		if c := p.live(); c != nil {
			return c
		}
	}
	return nil
}

// connect returns the live connection with a peer, dialling if there is none. An empty name takes who answers at addr.
func (t *transport) connect(ctx context.Context, name mesh.NodeID, addr netip.AddrPort) (*meshnet.Conn, error) {
	if name == t.self {
		return nil, errSelf
	}
	if name == "" {
		if c := t.liveAt(addr); c != nil {
			return c, nil
		}
		return t.dial(ctx, "", addr)
	}
	p := t.peer(name, addr)
	if p == nil {
		return nil, errClosed
	}
	return p.connect(ctx)
}

func (t *transport) dial(ctx context.Context, want mesh.NodeID, addr netip.AddrPort) (*meshnet.Conn, error) {
	c, err := t.net.Dial(ctx, addr, want, meshnet.ALPNGossip)
	if err != nil {
		return nil, err
	}
	if c.Peer() == t.self {
		_ = c.Close(meshnet.CodeOK, "reached myself")
		t.onSelf(addr)
		return nil, errSelf
	}
	p := t.peer(c.Peer(), addr)
	if p == nil {
		_ = c.Close(meshnet.CodeShutdown, "gossip stops")
		return nil, errClosed
	}
	if !t.spawn(func() { p.serve(c) }) {
		_ = c.Close(meshnet.CodeShutdown, "gossip stops")
		return nil, errClosed
	}
	return c, nil
}

// accept serves a connection a peer dialled, until it ends.
func (t *transport) accept(c *meshnet.Conn) {
	if c.Peer() == t.self {
		select {
		case t.selfAccepted <- struct{}{}:
		default:
		}
	}
	p := t.peer(c.Peer(), c.RemoteAddr())
	if p == nil {
		_ = c.Close(meshnet.CodeShutdown, "gossip does not run")
		return
	}
	done := make(chan struct{})
	if !t.spawn(func() { defer close(done); p.serve(c) }) {
		_ = c.Close(meshnet.CodeShutdown, "gossip does not run")
		return
	}
	<-done
}

// spawn starts f as a goroutine that Shutdown waits for.
func (t *transport) spawn(f func()) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.state != transportOpen {
		return false
	}
	t.wg.Go(f)
	return true
}

// from is the address a peer's packets are said to come from: its advertised one.
func (t *transport) from(c *meshnet.Conn) net.Addr {
	addr, ok := t.resolve(c.Peer())
	if !ok {
		addr = c.RemoteAddr()
	}
	return net.UDPAddrFromAddrPort(addr)
}

// twinAt reports whether another process with this node's ID answers at addr. Reaching oneself (by another of one's
// addresses) is no twin: then the connection arrives here.
func (t *transport) twinAt(ctx context.Context, addr netip.AddrPort) bool {
	select {
	case <-t.selfAccepted:
	default:
	}
	c, err := t.net.Dial(ctx, addr, t.self, meshnet.ALPNGossip)
	if err != nil {
		return false
	}
	defer func() { _ = c.Close(meshnet.CodeOK, "looking for twins") }()
	wait := time.NewTimer(twinPatience)
	defer wait.Stop()
	select {
	case <-t.selfAccepted:
		return false
	case <-ctx.Done():
		return false
	case <-wait.C:
		return true
	}
}
