package cascade

import (
	"context"
	"net"
	"net/netip"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/meshnet"
)

// Network is what the cascade needs of the network between nodes. Over makes one of a meshnet.Network.
type Network interface {
	NodeID() mesh.NodeID
	// HandleMedia and HandleControl are called by New, before the network runs. Each connection or stream gets a
	// goroutine of its own.
	HandleMedia(func(MediaConn))
	HandleControl(func(peer mesh.NodeID, s net.Conn))
	DialMedia(ctx context.Context, addr netip.AddrPort, peer mesh.NodeID) (MediaConn, error)
	OpenControl(ctx context.Context, peer mesh.NodeID) (net.Conn, error)
}

// MediaConn is one media connection: a lane. SendDatagram copies its argument and may block until the connection
// ends; ReceiveDatagram's result belongs to the caller.
type MediaConn interface {
	Peer() mesh.NodeID
	SendDatagram(b []byte) error
	ReceiveDatagram(ctx context.Context) ([]byte, error)
	MaxDatagramBytes() int // 0 when not known
	OpenStream(ctx context.Context) (net.Conn, error)
	AcceptStream(ctx context.Context) (net.Conn, error)
	Close(code uint64, reason string) error
	Done() <-chan struct{}
}

// serviceName names the cascade's control streams on meshnet's control connections.
const serviceName = "cascade"

// Over returns the Network of a node's meshnet. Call it, and New, before the meshnet runs. Media travels beside QUIC where
// both nodes offer it (meshnet.Config.Direct, which the two agree on in the handshake), else in QUIC datagrams.
func Over(n *meshnet.Network) Network { return meshNetwork{n} }

type meshNetwork struct{ n *meshnet.Network }

func (m meshNetwork) NodeID() mesh.NodeID { return m.n.NodeID() }

func (m meshNetwork) HandleMedia(h func(MediaConn)) {
	m.n.Handle(meshnet.ALPNMedia, func(c *meshnet.Conn) { h(carry(c)) })
}

func (m meshNetwork) HandleControl(h func(mesh.NodeID, net.Conn)) {
	m.n.HandleService(serviceName, func(peer mesh.NodeID, s *meshnet.Stream) { h(peer, s) })
}

func (m meshNetwork) DialMedia(ctx context.Context, addr netip.AddrPort, peer mesh.NodeID) (MediaConn, error) {
	c, err := m.n.Dial(ctx, addr, peer, meshnet.ALPNMedia)
	if err != nil {
		return nil, err
	}
	return carry(c), nil
}

func (m meshNetwork) OpenControl(ctx context.Context, peer mesh.NodeID) (net.Conn, error) {
	s, err := m.n.OpenService(ctx, peer, serviceName)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Doubt makes the next OpenControl dial anew, unless the peer is heard again.
func (m meshNetwork) Doubt(peer mesh.NodeID) { m.n.Doubt(peer) }

// meshConn gives streams as net.Conn, so that a test's network needs no QUIC.
type meshConn struct{ *meshnet.Conn }

func (c meshConn) OpenStream(ctx context.Context) (net.Conn, error) {
	s, err := c.Conn.OpenStream(ctx)
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (c meshConn) AcceptStream(ctx context.Context) (net.Conn, error) {
	s, err := c.Conn.AcceptStream(ctx)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// carry chooses how a media connection carries datagrams: both ends come to the same.
func carry(c *meshnet.Conn) MediaConn {
	d, err := c.Direct()
	if err != nil {
		return meshConn{c}
	}
	return directConn{meshConn{c}, d}
}

// directConn carries datagrams beside the QUIC connection, which keeps the keys, the streams and the end of it.
type directConn struct {
	meshConn
	direct *meshnet.Direct
}

var _ directMedia = directConn{}

// Unlimited reports that no congestion control is underneath: the link's own rate is the only limit.
func (directConn) Unlimited() bool { return true }

func (c directConn) SendDatagram(b []byte) error { return c.direct.Send(b) }

// Gather and Flush implement directMedia.
func (c directConn) Gather(b []byte) error { return c.direct.Gather(b) }

func (c directConn) Flush() error { return c.direct.Flush() }

// Handle implements directMedia.
func (c directConn) Handle(h meshnet.Handler) (before [][]byte) { return c.direct.Handle(h) }

func (c directConn) ReceiveDatagram(ctx context.Context) ([]byte, error) {
	return c.direct.Receive(ctx)
}

func (c directConn) MaxDatagramBytes() int { return c.direct.MaxDatagramBytes() }
