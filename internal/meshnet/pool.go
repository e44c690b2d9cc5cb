package meshnet

import (
	"context"
	"net/netip"
	"slices"
	"sync"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

// pool keeps the control connections, by peer. Either side's connection serves both, so a peer is dialled only when
// none lives. The newest is preferred: after a restart of the peer the older ones are dead but do not know it yet.
type pool struct {
	n *Network

	mu    sync.Mutex
	conns map[mesh.NodeID][]*Conn  // guarded by mu; oldest first, at most controlsPerPeer
	dials map[mesh.NodeID]*dialing // guarded by mu
}

// dialing is one dial that any number of callers wait for.
type dialing struct {
	done chan struct{} // closed after conn or err is set
	conn *Conn
	err  error
}

func newPool(n *Network) *pool {
	return &pool{n: n, conns: make(map[mesh.NodeID][]*Conn), dials: make(map[mesh.NodeID]*dialing)}
}

// get returns a live control connection with peer, dialling if there is none. ctx bounds only this caller's wait.
func (p *pool) get(ctx context.Context, peer mesh.NodeID) (*Conn, error) {
	at, _ := p.n.resolve(peer)
	p.mu.Lock()
	if c := p.liveLocked(peer, at); c != nil {
		p.mu.Unlock()
		return c, nil
	}
	d, ok := p.dials[peer]
	if !ok {
		d = &dialing{done: make(chan struct{})}
		if !p.n.spawn(func() { p.dial(peer, d) }) {
			p.mu.Unlock()
			return nil, ErrClosed
		}
		p.dials[peer] = d
	}
	p.mu.Unlock()
	select {
	case <-d.done:
		return d.conn, d.err
	case <-ctx.Done():
		return nil, connError(ctx.Err())
	}
}

// liveLocked returns the newest live connection. One we dialled to another address than the peer's present one leads to
// an earlier life of the peer, even if QUIC has not noticed yet; one the peer dialled may come through a NAT.
func (p *pool) liveLocked(peer mesh.NodeID, at netip.AddrPort) *Conn {
	for _, c := range slices.Backward(p.conns[peer]) {
		if c.alive() && c.trusted() && (c.Incoming() || !at.IsValid() || peer == p.n.id.id || c.RemoteAddr() == at) {
			return c
		}
	}
	return nil
}

// dial runs in its own goroutine and ends within the handshake timeout, or with the network.
func (p *pool) dial(peer mesh.NodeID, d *dialing) {
	d.conn, d.err = p.connect(peer)
	if d.err == nil {
		p.add(d.conn)
		if !p.n.spawn(func() { p.n.serveControl(d.conn) }) {
			_ = d.conn.Close(CodeShutdown, "node stops")
			d.conn, d.err = nil, ErrClosed
		}
	}
	p.mu.Lock()
	delete(p.dials, peer)
	p.mu.Unlock()
	close(d.done)
}

func (p *pool) connect(peer mesh.NodeID) (*Conn, error) {
	addr := p.n.selfAddr()
	if peer != p.n.id.id {
		var ok bool
		if addr, ok = p.n.resolve(peer); !ok {
			return nil, ErrUnknownNode
		}
	}
	patience := p.n.cfg.HandshakeTimeout
	if p.doubts(peer) { // rather begin anew than wait for what backs off
		patience = min(patience, doubtfulDial)
	}
	ctx, cancel := context.WithTimeout(p.n.ctx, patience)
	defer cancel()
	return p.n.Dial(ctx, addr, peer, ALPNControl)
}

// doubt passes over the connections with a peer that are there now, until something comes on them.
func (p *pool) doubt(peer mesh.NodeID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns[peer] {
		c.doubt.Store(c.qc.ConnectionStats().PacketsReceived + 1)
	}
}

// doubts reports whether there are connections with a peer of which none is to be trusted.
func (p *pool) doubts(peer mesh.NodeID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := p.conns[peer]
	return len(list) > 0 && !slices.ContainsFunc(list, (*Conn).trusted)
}

// add makes c available to OpenService. Beyond controlsPerPeer the oldest is closed, so that a peer cannot pile them up.
func (p *pool) add(c *Conn) {
	p.mu.Lock()
	p.conns[c.peer] = append(p.conns[c.peer], c)
	var evicted *Conn
	if list := p.conns[c.peer]; len(list) > controlsPerPeer {
		evicted = list[0]
		p.conns[c.peer] = slices.Delete(list, 0, 1)
	}
	p.mu.Unlock()
	if evicted != nil {
		_ = evicted.Close(CodeBusy, "too many control connections")
	}
}

func (p *pool) remove(c *Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := slices.DeleteFunc(p.conns[c.peer], func(o *Conn) bool { return o == c })
	if len(list) == 0 {
		delete(p.conns, c.peer)
		return
	}
	p.conns[c.peer] = list
}
