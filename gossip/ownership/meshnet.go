package ownership

import (
	"context"
	"net"
	"net/netip"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/meshnet"
)

// OverMeshnet makes a Net of the node's network. n must not run yet when New is called with it.
func OverMeshnet(n *meshnet.Network) Net { return meshNet{n} }

type meshNet struct{ n *meshnet.Network }

var _ Net = meshNet{}

func (m meshNet) NodeID() mesh.NodeID { return m.n.NodeID() }

func (m meshNet) HandleRaft(h func(Conn)) {
	m.n.Handle(meshnet.ALPNRaft, func(c *meshnet.Conn) { h(meshConn{c}) })
}

func (m meshNet) DialRaft(ctx context.Context, addr netip.AddrPort, want mesh.NodeID) (Conn, error) {
	c, err := m.n.Dial(ctx, addr, want, meshnet.ALPNRaft)
	if err != nil {
		return nil, err
	}
	return meshConn{c}, nil
}

func (m meshNet) HandleService(name string, h func(peer mesh.NodeID, s net.Conn)) {
	m.n.HandleService(name, func(peer mesh.NodeID, s *meshnet.Stream) { h(peer, s) })
}

func (m meshNet) OpenService(ctx context.Context, peer mesh.NodeID, name string) (net.Conn, error) {
	s, err := m.n.OpenService(ctx, peer, name)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// meshConn narrows a connection's streams to net.Conn.
type meshConn struct{ *meshnet.Conn }

var _ Conn = meshConn{}

// OpenStream implements Conn.
func (c meshConn) OpenStream(ctx context.Context) (net.Conn, error) {
	s, err := c.Conn.OpenStream(ctx)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// AcceptStream implements Conn.
func (c meshConn) AcceptStream(ctx context.Context) (net.Conn, error) {
	s, err := c.Conn.AcceptStream(ctx)
	if err != nil {
		return nil, err
	}
	return s, nil
}
