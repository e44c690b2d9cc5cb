package directory

import (
	"context"
	"io"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/meshnet"
)

// OverMeshnet gives a directory the streams of a mesh network.
func OverMeshnet(n *meshnet.Network) Network { return overMeshnet{n} }

type overMeshnet struct{ n *meshnet.Network }

func (o overMeshnet) NodeID() mesh.NodeID { return o.n.NodeID() }

func (o overMeshnet) OpenService(ctx context.Context, peer mesh.NodeID, name string) (io.ReadWriteCloser, error) {
	s, err := o.n.OpenService(ctx, peer, name)
	if err != nil {
		return nil, err // not a typed nil in an interface
	}
	return s, nil
}

func (o overMeshnet) HandleService(name string, h func(peer mesh.NodeID, s io.ReadWriteCloser)) {
	o.n.HandleService(name, func(peer mesh.NodeID, s *meshnet.Stream) { h(peer, s) })
}
