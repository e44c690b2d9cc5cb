package node

import (
	"fmt"
	"net"

	"github.com/meridian-sfu/meridian/internal/testnet"
)

// meshConn opens the mesh socket with emulated delays under it, or nil when there are none and the network opens its own.
func (n *Node) meshConn() (net.PacketConn, error) {
	if len(n.cfg.Mesh.Delays) == 0 {
		return nil, nil
	}
	pc, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(n.cfg.Mesh.Listen))
	if err != nil {
		return nil, fmt.Errorf("node: mesh.listen: %w (is another program using the port?)", err)
	}
	conn := testnet.NewDelayConn(pc, uint64(n.started.UnixNano()))
	for to, delay := range n.cfg.Mesh.Delays {
		if err := conn.Set(to, testnet.Link{Delay: delay}); err != nil {
			_ = conn.Close()
			return nil, fmt.Errorf("node: mesh.emulated_delays: %w", err)
		}
	}
	return conn, nil
}
