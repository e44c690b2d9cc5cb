package meshnet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/quic-go/quic-go"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

// ALPN names what a connection is for (RFC 7301).
type ALPN string

// The services between nodes.
const (
	ALPNControl ALPN = "meridian-ctl/1"
	ALPNMedia   ALPN = "meridian-media/1"
	ALPNRaft    ALPN = "meridian-raft/1"
	ALPNGossip  ALPN = "meridian-gossip/1"
)

// alpnMediaDirect is ALPNMedia between two nodes that both offer direct media: TLS makes them agree, and nobody on the
// way can talk them out of it. Conn.ALPN says ALPNMedia.
// The names tell the version of direct packets.
const (
	alpnMediaDirect      = "meridian-media/1+direct"
	alpnMediaDirectShort = "meridian-media/1+direct2"
	alpnMediaDirectLight = "meridian-media/1+direct3"
)

// directALPNs are the names by version, the newest first.
var directALPNs = []struct {
	name    string
	version byte
}{
	{alpnMediaDirectLight, directVersionLight}, {alpnMediaDirectShort, directVersionShort}, {alpnMediaDirect, directVersion},
}

// Network is a node's presence on the mesh: one UDP socket, one identity. Dial and OpenService work as soon as it is
// made; peers are answered while Run runs. All methods are safe for concurrent use.
type Network struct {
	cfg       Config
	id        *Identity
	log       *slog.Logger
	pc        net.PacketConn
	direct    directSocket // pc; nil without Config.Direct
	sessions  *sessions
	transport *quic.Transport
	metrics   *metrics
	conns     *registry
	pool      *pool

	handlers map[ALPN]func(*Conn) // written before Run only
	services map[string]ServiceHandler
	resolve  func(mesh.NodeID) (netip.AddrPort, bool)

	wg     sync.WaitGroup
	ctx    context.Context // ends with Run or Close
	cancel context.CancelFunc
	mu     sync.Mutex
	state  runState // guarded by mu
}

type runState int

const (
	stateNew runState = iota
	stateRunning
	stateClosed
)

// New binds the socket, so that a port in use is an error here. pc may be nil (a socket is opened on cfg.Listen) or any
// packet connection; either is closed by Run or Close. Who does not call Run must call Close.
func New(cfg Config, id *Identity, pc net.PacketConn, log *slog.Logger, reg prometheus.Registerer) (*Network, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if id == nil {
		return nil, errors.New("meshnet: no identity")
	}
	conns := newRegistry()
	m, err := newMetrics(reg, []ALPN{ALPNControl, ALPNMedia, ALPNRaft, ALPNGossip}, conns)
	if err != nil {
		return nil, fmt.Errorf("meshnet: metrics: %w", err)
	}
	if pc == nil {
		if pc, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(cfg.Listen)); err != nil {
			return nil, fmt.Errorf("meshnet: listen on UDP %s: %w", cfg.Listen, err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	ss := newSessions(m)
	var direct directSocket
	if cfg.Direct {
		direct = newSocket(pc, ss)
		pc = direct
	}
	n := &Network{
		cfg: cfg, id: id, log: log, pc: pc, direct: direct, sessions: ss, metrics: m, conns: conns,
		transport: &quic.Transport{Conn: pc, StatelessResetKey: &id.reset, Tracer: strayRecorder{m}},
		handlers:  make(map[ALPN]func(*Conn)),
		services:  make(map[string]ServiceHandler),
		resolve:   func(mesh.NodeID) (netip.AddrPort, bool) { return netip.AddrPort{}, false },
		ctx:       ctx, cancel: cancel,
	}
	n.pool = newPool(n)
	n.handlers[ALPNControl] = func(c *Conn) { n.pool.add(c); n.serveControl(c) }
	return n, nil
}

// NodeID returns this node's ID.
func (n *Network) NodeID() mesh.NodeID { return n.id.id }

// LocalAddr returns the socket's address; its IP may be unspecified.
func (n *Network) LocalAddr() netip.AddrPort { return addrPort(n.pc.LocalAddr()) }

// Handle makes h answer connections for alpn. h runs in a goroutine of its own per connection, owns it, and must
// return soon after the connection ended. Call it before Run; it panics for ALPNControl and for a second handler.
func (n *Network) Handle(alpn ALPN, h func(*Conn)) {
	n.configure("Handle", func() {
		if _, dup := n.handlers[alpn]; dup {
			panic("meshnet: second handler for " + string(alpn))
		}
		n.handlers[alpn] = h
	})
}

// SetResolver says where nodes are, for OpenService. f must not block. Call it before Run.
func (n *Network) SetResolver(f func(mesh.NodeID) (netip.AddrPort, bool)) {
	n.configure("SetResolver", func() { n.resolve = f })
}

func (n *Network) configure(what string, f func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.state != stateNew {
		panic("meshnet: " + what + " after Run")
	}
	f()
}

// Dial connects to the node at addr for alpn. An empty want accepts any node of the mesh, else the certificate must
// name it (ErrWrongNode). Further errors: ErrForeignCertificate, ErrExpiredCertificate, ErrALPN, ErrTimeout, ErrClosed.
// A peer that refuses our certificate is told of by the connection's Err (ErrCertificateRefused) shortly after.
func (n *Network) Dial(ctx context.Context, addr netip.AddrPort, want mesh.NodeID, alpn ALPN) (*Conn, error) {
	if n.ctx.Err() != nil {
		return nil, ErrClosed
	}
	ctx, cancel := context.WithTimeout(ctx, 2*n.cfg.HandshakeTimeout)
	defer cancel()
	defer context.AfterFunc(n.ctx, cancel)()
	qc, err := n.transport.Dial(ctx, net.UDPAddrFromAddrPort(addr), n.id.clientTLS(want, n.offer(alpn)), n.cfg.quic())
	if err != nil {
		err = connError(err)
		if n.ctx.Err() != nil {
			return nil, ErrClosed
		}
		if !errors.Is(err, context.Canceled) { // the caller's own change of mind is no failure
			n.metrics.failures.WithLabelValues(dirOut, failureReason(err)).Inc()
		}
		return nil, fmt.Errorf("meshnet: dial %s at %s for %s: %w", want, addr, alpn, err)
	}
	return n.wrap(qc, dirOut)
}

// offer returns what TLS is told of alpn, the preferred first.
func (n *Network) offer(alpn ALPN) []string {
	var out []string
	for _, d := range directALPNs {
		if alpn == ALPNMedia && n.cfg.Direct && (n.cfg.directBefore == 0 || d.version < n.cfg.directBefore) {
			out = append(out, d.name)
		}
	}
	return append(out, string(alpn))
}

// wrap makes a Conn of a verified connection and counts it.
func (n *Network) wrap(qc *quic.Conn, dir string) (*Conn, error) {
	cs := qc.ConnectionState().TLS
	peer, err := certNodeID(cs.PeerCertificates[0]) // verified in the handshake
	if err != nil {
		_ = qc.CloseWithError(CodeBadHeader, "certificate names no node")
		return nil, fmt.Errorf("meshnet: %w", err)
	}
	c := &Conn{qc: qc, peer: peer, alpn: ALPN(cs.NegotiatedProtocol), dir: dir}
	for _, d := range directALPNs {
		if c.alpn != ALPN(d.name) {
			continue
		}
		c.alpn = ALPNMedia
		if err := n.openDirect(c, d.version); err != nil {
			_ = qc.CloseWithError(CodeBusy, "no direct session")
			return nil, err
		}
		break
	}
	n.metrics.conns.WithLabelValues(string(c.alpn), dir).Inc()
	n.metrics.open.WithLabelValues(string(c.alpn)).Inc()
	n.conns.add(c)
	context.AfterFunc(qc.Context(), func() {
		n.conns.remove(c)
		n.metrics.open.WithLabelValues(string(c.alpn)).Dec()
		n.log.Debug("mesh connection ended", "node", c.peer, "alpn", c.alpn, "direction", dir, "err", c.Err())
	})
	n.log.Debug("mesh connection up", "node", c.peer, "alpn", c.alpn, "direction", dir, "addr", c.RemoteAddr())
	return c, nil
}

// openDirect makes c's direct session; it ends with the connection.
func (n *Network) openDirect(c *Conn, version byte) error {
	d, err := newDirect(c, n, version)
	if err != nil {
		return err
	}
	if err := n.sessions.add(d); err != nil {
		return err
	}
	if !n.spawn(d.flushPauses) {
		n.sessions.remove(d)
		return ErrClosed
	}
	c.direct = d
	context.AfterFunc(c.qc.Context(), func() {
		n.sessions.remove(d)
		d.end()
	})
	return nil
}

func addrPort(a net.Addr) netip.AddrPort {
	ua, ok := a.(*net.UDPAddr)
	if !ok {
		ap, err := netip.ParseAddrPort(a.String()) // a test's own packet connection
		if err != nil {
			return netip.AddrPort{}
		}
		return ap
	}
	ap := ua.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
