package ownership

import (
	"context"
	"errors"
	"net"
	"net/netip"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

// Deps is what the hall gives this room.
type Deps struct {
	// Net carries Raft and the control service. OverMeshnet makes one of a meshnet.Network.
	Net Net
	// Members returns the live members of the mesh as gossip sees them, this node among them or not. It is called
	// from several goroutines, must not block and is not written to.
	Members func() []mesh.NodeInfo
	// Alive reports whether a node is alive by everything this node knows of it (gossip and links). The leader asks
	// it before a room is taken from its owner. Called from one goroutine at a time; it must not block.
	Alive func(mesh.NodeID) bool
	// AnnounceCluster puts the group's ID into this node's gossip metadata (mesh.NodeInfo.RaftCluster). It must not
	// block.
	AnnounceCluster func(clusterID string)
}

func (d Deps) validate() error {
	if d.Net == nil || d.Members == nil || d.Alive == nil || d.AnnounceCluster == nil {
		return errors.New("ownership: Deps has an empty field")
	}
	return nil
}

// Net is the part of the mesh network this room uses.
type Net interface {
	NodeID() mesh.NodeID
	// HandleRaft registers who takes accepted Raft connections; h runs in a goroutine per connection.
	HandleRaft(h func(Conn))
	// DialRaft opens a Raft connection to the node want at addr.
	DialRaft(ctx context.Context, addr netip.AddrPort, want mesh.NodeID) (Conn, error)
	// HandleService registers who takes streams of a control service; h runs in a goroutine per stream and owns it.
	HandleService(name string, h func(peer mesh.NodeID, s net.Conn))
	// OpenService opens a stream of a control service on a peer.
	OpenService(ctx context.Context, peer mesh.NodeID, name string) (net.Conn, error)
}

// Conn is one connection to a peer whose identity is proven; it carries many streams.
type Conn interface {
	Peer() mesh.NodeID
	OpenStream(ctx context.Context) (net.Conn, error)
	AcceptStream(ctx context.Context) (net.Conn, error)
	Close(code uint64, reason string) error
	Done() <-chan struct{}
}
