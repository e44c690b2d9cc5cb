package ownership

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/meshnet"
	"github.com/meridian-sfu/meridian/internal/meshpb/ownershippb"
)

const (
	helloTimeout    = 5 * time.Second
	maxHelloBytes   = 1 << 10
	acceptQueue     = 16
	maxInboundRaft  = 256 // Raft streams other nodes may hold open here
	closeNormal     = 0   // application error code of connections and streams that are done
	raftPoolPerPeer = 3
)

// streamLayer carries Raft over the mesh network: one connection per peer this node dials, one stream per connection
// Raft asks for. A server's address is its node ID; where that node is, is asked of gossip at each dial. The first
// message on a stream is a RaftHello, so that nodes of two groups never speak Raft to each other.
type streamLayer struct {
	net     Net
	members func() []mesh.NodeInfo
	cluster func() string         // the group this node is in or wants to be in
	join    func(id string) error // binds the data folder to the group, before the first message of Raft
	refused func(reason string)   // counts
	accept  chan net.Conn         // streams whose hello was right
	ctx     context.Context       // ends with close
	cancel  context.CancelFunc    //
	wg      sync.WaitGroup        // goroutines of accepted connections

	mu      sync.Mutex
	peers   map[mesh.NodeID]*raftPeer // guarded by mu
	inbound map[io.Closer]struct{}    // guarded by mu; accepted connections and streams
	closed  bool                      // guarded by mu
}

// raftPeer is the pooled connection to one node.
type raftPeer struct {
	lock chan struct{}  // capacity 1; held while dialling
	conn Conn           // guarded by lock
	addr netip.AddrPort // guarded by lock; where the node was last, for when gossip has lost it before Raft has
}

var _ raft.StreamLayer = (*streamLayer)(nil)

func newStreamLayer(n Net, members func() []mesh.NodeInfo) *streamLayer {
	l := &streamLayer{
		net: n, members: members,
		accept:  make(chan net.Conn, acceptQueue),
		peers:   make(map[mesh.NodeID]*raftPeer),
		inbound: make(map[io.Closer]struct{}),
	}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l
}

// Dial implements raft.StreamLayer.
func (l *streamLayer) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(l.ctx, timeout)
	defer cancel()
	id := mesh.NodeID(address)
	conn, err := l.connect(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("ownership: raft dial %s: %w", id, err)
	}
	s, err := conn.OpenStream(ctx)
	if err != nil {
		_ = conn.Close(closeNormal, "no stream") // the next dial starts afresh
		return nil, fmt.Errorf("ownership: raft stream to %s: %w", id, err)
	}
	deadline, _ := ctx.Deadline()
	err = errors.Join(
		s.SetDeadline(deadline),
		meshnet.WriteMessage(s, &ownershippb.RaftHello{Version: wireVersion, ClusterId: l.cluster()}),
		s.SetDeadline(time.Time{}))
	if err != nil {
		_ = s.Close() // the first error is the one that tells
		return nil, fmt.Errorf("ownership: raft hello to %s: %w", id, err)
	}
	return s, nil
}

// connect returns the pooled connection to a node, dialling when there is none.
func (l *streamLayer) connect(ctx context.Context, id mesh.NodeID) (Conn, error) {
	l.mu.Lock()
	p := l.peers[id]
	if p == nil {
		p = &raftPeer{lock: make(chan struct{}, 1)}
		l.peers[id] = p
	}
	l.mu.Unlock()

	select {
	case p.lock <- struct{}{}:
		defer func() { <-p.lock }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if p.conn != nil {
		select {
		case <-p.conn.Done():
			l.untrack(closer{p.conn})
			p.conn = nil
		default:
			return p.conn, nil
		}
	}
	for _, m := range l.members() {
		if m.ID == id {
			p.addr = m.MeshAddr
		}
	}
	if !p.addr.IsValid() {
		return nil, errors.New("no member of the mesh has this ID")
	}
	conn, err := l.net.DialRaft(ctx, p.addr, id)
	if err != nil {
		return nil, err
	}
	if !l.track(closer{conn}) {
		_ = conn.Close(closeNormal, "closed")
		return nil, net.ErrClosed
	}
	p.conn = conn
	return conn, nil
}

// warm opens the connection to a node when there is none, so that an election need not wait for a handshake.
func (l *streamLayer) warm(ctx context.Context, id mesh.NodeID) {
	_, _ = l.connect(ctx, id) // a node that cannot be reached is tried again by the next round, and by Raft
}

// Accept implements raft.StreamLayer.
func (l *streamLayer) Accept() (net.Conn, error) {
	select {
	case s := <-l.accept:
		return s, nil
	case <-l.ctx.Done():
		return nil, net.ErrClosed
	}
}

// Addr implements raft.StreamLayer.
func (l *streamLayer) Addr() net.Addr { return nodeAddr(l.net.NodeID()) }

// Close implements raft.StreamLayer: it closes every connection and returns after the last goroutine.
func (l *streamLayer) Close() error {
	l.cancel()
	l.mu.Lock()
	l.closed = true
	all := l.inbound
	l.inbound = nil
	l.mu.Unlock()
	for c := range all {
		_ = c.Close() // nothing is left to be told
	}
	l.wg.Wait()
	return nil
}

// track notes what is to be closed with the layer; it reports false when that is closed already.
func (l *streamLayer) track(c io.Closer) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || len(l.inbound) >= maxInboundRaft {
		return false
	}
	l.inbound[c] = struct{}{}
	return true
}

func (l *streamLayer) untrack(c io.Closer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.inbound, c)
}

// handle takes an accepted connection and returns when it is done.
func (l *streamLayer) handle(conn Conn) {
	defer func() { _ = conn.Close(closeNormal, "done") }()
	c := closer{conn}
	if !l.enter() {
		l.refused(refusedClosed)
		return
	}
	defer l.wg.Done()
	if !l.track(c) {
		l.refused(refusedBusy)
		return
	}
	defer l.untrack(c)
	for {
		s, err := conn.AcceptStream(l.ctx)
		if err != nil {
			return
		}
		l.wg.Go(func() { l.greet(conn.Peer(), s) })
	}
}

// enter counts a goroutine of the layer in, unless the layer is closed.
func (l *streamLayer) enter() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	l.wg.Add(1)
	return true
}

// greet reads a stream's hello and hands the stream to Raft.
func (l *streamLayer) greet(peer mesh.NodeID, s net.Conn) {
	hello := &ownershippb.RaftHello{}
	err := errors.Join(
		s.SetReadDeadline(time.Now().Add(helloTimeout)),
		meshnet.ReadMessage(s, maxHelloBytes, hello),
		s.SetReadDeadline(time.Time{}))
	id := l.cluster()
	switch {
	case err != nil || hello.GetVersion() == 0:
		l.refused(refusedBad)
	case id == "" || hello.GetClusterId() != id:
		l.refused(refusedForeign)
	case l.join(id) != nil:
		l.refused(refusedClosed)
	default:
		t := &trackedConn{Conn: s, layer: l, peer: peer}
		if l.track(t) {
			select {
			case l.accept <- t:
				return
			case <-l.ctx.Done():
			}
			l.untrack(t)
		} else {
			l.refused(refusedBusy)
		}
	}
	_ = s.Close() // refused: the peer sees the end of the stream
}

// trackedConn is an accepted stream; closing the layer closes it.
type trackedConn struct {
	net.Conn
	layer *streamLayer
	peer  mesh.NodeID
}

// Close closes the stream.
func (c *trackedConn) Close() error {
	c.layer.untrack(c)
	return c.Conn.Close()
}

// RemoteAddr names the peer.
func (c *trackedConn) RemoteAddr() net.Addr { return nodeAddr(c.peer) }

// closer makes an io.Closer of a Conn.
type closer struct{ conn Conn }

// Close closes the connection.
func (c closer) Close() error { return c.conn.Close(closeNormal, "closed") }

// nodeAddr is a node ID where Raft wants a net.Addr.
type nodeAddr mesh.NodeID

// Network implements net.Addr.
func (nodeAddr) Network() string { return "meridian" }

// String implements net.Addr.
func (a nodeAddr) String() string { return string(a) }
