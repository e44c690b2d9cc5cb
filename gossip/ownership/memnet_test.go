package ownership

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

var errUnreachable = errors.New("unreachable")

// memMesh is a mesh in memory: streams are pipes, gossip is a map everyone sees at once.
type memMesh struct {
	mu      sync.Mutex
	nets    map[mesh.NodeID]*memNet
	members map[mesh.NodeID]mesh.NodeInfo
	side    map[mesh.NodeID]int // nodes on different sides cannot reach each other
	open    map[*memPipe]struct{}
}

// memPipe is what is cut by a partition: a stream or a connection between two nodes.
type memPipe struct {
	a, b  mesh.NodeID
	close func()
}

func newMemMesh() *memMesh {
	return &memMesh{
		nets: make(map[mesh.NodeID]*memNet), members: make(map[mesh.NodeID]mesh.NodeInfo),
		side: make(map[mesh.NodeID]int), open: make(map[*memPipe]struct{}),
	}
}

// join makes a network for a node and lets gossip know it.
func (m *memMesh) join(id mesh.NodeID, region mesh.Region) *memNet {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := &memNet{mesh: m, id: id, services: make(map[string]func(mesh.NodeID, net.Conn))}
	m.nets[id] = n
	m.members[id] = mesh.NodeInfo{ID: id, Region: region, MeshAddr: netip.MustParseAddrPort("127.0.0.1:7000")}
	m.side[id] = 0
	return n
}

// leave takes a node away as a crash does.
func (m *memMesh) leave(id mesh.NodeID) {
	m.mu.Lock()
	delete(m.nets, id)
	delete(m.members, id)
	m.mu.Unlock()
	m.split(-1, id)
}

// split puts the nodes on a side and cuts what crosses. Gossip notices at once.
func (m *memMesh) split(side int, ids ...mesh.NodeID) {
	m.mu.Lock()
	for _, id := range ids {
		m.side[id] = side
	}
	var cut []*memPipe
	for p := range m.open {
		if m.side[p.a] != m.side[p.b] {
			cut = append(cut, p)
			delete(m.open, p)
		}
	}
	m.mu.Unlock()
	for _, p := range cut {
		p.close()
	}
}

func (m *memMesh) update(id mesh.NodeID, f func(*mesh.NodeInfo)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if info, ok := m.members[id]; ok {
		f(&info)
		m.members[id] = info
	}
}

func (m *memMesh) seenBy(id mesh.NodeID) []mesh.NodeInfo {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []mesh.NodeInfo
	for _, info := range m.members {
		if m.side[info.ID] == m.side[id] {
			out = append(out, info)
		}
	}
	return out
}

func (m *memMesh) alive(from, id mesh.NodeID) bool {
	return slices.ContainsFunc(m.seenBy(from), func(i mesh.NodeInfo) bool { return i.ID == id })
}

// reach returns the network of to when from can reach it, and tracks what is opened to it.
func (m *memMesh) reach(from, to mesh.NodeID, closeFn func()) (*memNet, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, ok := m.nets[to]
	if !ok || m.side[from] != m.side[to] {
		return nil, errUnreachable
	}
	m.open[&memPipe{from, to, closeFn}] = struct{}{}
	return n, nil
}

// memNet is one node's network.
type memNet struct {
	mesh     *memMesh
	id       mesh.NodeID
	raft     func(Conn)
	services map[string]func(mesh.NodeID, net.Conn)
}

var _ Net = (*memNet)(nil)

func (n *memNet) NodeID() mesh.NodeID     { return n.id }
func (n *memNet) HandleRaft(h func(Conn)) { n.raft = h }

func (n *memNet) HandleService(name string, h func(mesh.NodeID, net.Conn)) { n.services[name] = h }

func (n *memNet) DialRaft(_ context.Context, _ netip.AddrPort, want mesh.NodeID) (Conn, error) {
	link := &memLink{done: make(chan struct{})}
	here := &memConn{link: link, peer: want, accept: make(chan net.Conn)}
	there := &memConn{link: link, peer: n.id, accept: make(chan net.Conn)}
	here.other, there.other = there, here
	to, err := n.mesh.reach(n.id, want, link.close)
	if err != nil {
		return nil, err
	}
	go to.raft(there)
	return here, nil
}

func (n *memNet) OpenService(_ context.Context, peer mesh.NodeID, name string) (net.Conn, error) {
	a, b := net.Pipe()
	to, err := n.mesh.reach(n.id, peer, func() { _ = a.Close(); _ = b.Close() })
	if err != nil {
		return nil, err
	}
	go to.services[name](n.id, b)
	return a, nil
}

// memLink is the connection both ends share.
type memLink struct {
	mu      sync.Mutex
	streams []net.Conn
	done    chan struct{}
	once    sync.Once
}

func (l *memLink) close() {
	l.once.Do(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		close(l.done)
		for _, s := range l.streams {
			_ = s.Close()
		}
	})
}

type memConn struct {
	link   *memLink
	peer   mesh.NodeID
	other  *memConn
	accept chan net.Conn
}

func (c *memConn) Peer() mesh.NodeID     { return c.peer }
func (c *memConn) Done() <-chan struct{} { return c.link.done }

func (c *memConn) Close(uint64, string) error {
	c.link.close()
	return nil
}

func (c *memConn) OpenStream(ctx context.Context) (net.Conn, error) {
	a, b := net.Pipe()
	c.link.mu.Lock()
	c.link.streams = append(c.link.streams, a, b)
	c.link.mu.Unlock()
	select {
	case c.other.accept <- b:
		return a, nil
	case <-c.link.done:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (c *memConn) AcceptStream(ctx context.Context) (net.Conn, error) {
	select {
	case s := <-c.accept:
		return s, nil
	case <-c.link.done:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
