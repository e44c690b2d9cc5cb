package gossip

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/hashicorp/serf/coordinate"
	"google.golang.org/protobuf/proto"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/meshpb/gossippb"
)

const (
	coordinateVersion  = 1
	maxCoordinateBytes = 256
	rttSamples         = 8 // the lowest of the last so many pings counts: queues and dials only ever add
)

// coordinates estimates round-trip times: measured ones to members this node pinged, Vivaldi's for any two.
type coordinates struct {
	self   mesh.NodeID
	member func(mesh.NodeID) bool
	client *coordinate.Client

	mu    sync.Mutex
	peers map[mesh.NodeID]*peerPosition // guarded by mu; members only
}

type peerPosition struct {
	coord *coordinate.Coordinate
	rtts  []time.Duration // newest last, at most rttSamples
}

var _ memberlist.PingDelegate = (*coordinates)(nil)

func newCoordinates(self mesh.NodeID, member func(mesh.NodeID) bool) (*coordinates, error) {
	c, err := coordinate.NewClient(coordinate.DefaultConfig())
	if err != nil {
		return nil, fmt.Errorf("gossip: coordinates: %w", err)
	}
	return &coordinates{self: self, member: member, client: c, peers: make(map[mesh.NodeID]*peerPosition)}, nil
}

// AckPayload implements memberlist.PingDelegate.
func (c *coordinates) AckPayload() []byte {
	return encodeCoordinate(c.client.GetCoordinate())
}

// NotifyPingComplete implements memberlist.PingDelegate.
func (c *coordinates) NotifyPingComplete(other *memberlist.Node, rtt time.Duration, payload []byte) {
	c.observe(mesh.NodeID(other.Name), rtt, payload)
}

func (c *coordinates) observe(id mesh.NodeID, rtt time.Duration, payload []byte) {
	if rtt < 0 || !c.member(id) {
		return
	}
	c.mu.Lock()
	p := c.peers[id]
	if p == nil {
		p = &peerPosition{}
		c.peers[id] = p
	}
	p.rtts = append(p.rtts, rtt)
	if len(p.rtts) > rttSamples {
		p.rtts = slices.Delete(p.rtts, 0, 1)
	}
	best := slices.Min(p.rtts)
	c.mu.Unlock()

	coord, err := decodeCoordinate(payload)
	if err != nil {
		return // the measured time stands by itself
	}
	if _, err := c.client.Update(string(id), coord, best); err != nil {
		return
	}
	c.mu.Lock()
	p.coord = coord
	c.mu.Unlock()
}

func (c *coordinates) forget(id mesh.NodeID) {
	c.mu.Lock()
	delete(c.peers, id)
	c.mu.Unlock()
	c.client.ForgetNode(string(id))
}

// rtt returns the measured round-trip time to a member.
func (c *coordinates) rtt(id mesh.NodeID) (time.Duration, bool) {
	if id == c.self {
		return 0, true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.peers[id]
	if p == nil {
		return 0, false
	}
	return slices.Min(p.rtts), true
}

// distance returns the expected round-trip time between two nodes.
func (c *coordinates) distance(a, b mesh.NodeID) (time.Duration, bool) {
	switch {
	case a == b:
		return 0, true
	case a == c.self:
		return c.rtt(b)
	case b == c.self:
		return c.rtt(a)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	pa, pb := c.peers[a], c.peers[b]
	if pa == nil || pb == nil || pa.coord == nil || pb.coord == nil {
		return 0, false
	}
	return pa.coord.DistanceTo(pb.coord), true
}

func encodeCoordinate(c *coordinate.Coordinate) []byte {
	b, err := proto.Marshal(&gossippb.Coordinate{
		Version: coordinateVersion, Vector: c.Vec, Error: c.Error, Adjustment: c.Adjustment, Height: c.Height,
	})
	if err != nil {
		return nil // numbers always encode; without a coordinate the ping still measures
	}
	return b
}

// decodeCoordinate accepts only what the Vivaldi client can use: right dimension, finite numbers.
func decodeCoordinate(b []byte) (*coordinate.Coordinate, error) {
	if len(b) > maxCoordinateBytes {
		return nil, fmt.Errorf("gossip: coordinate of %d bytes, at most %d", len(b), maxCoordinateBytes)
	}
	var m gossippb.Coordinate
	if err := proto.Unmarshal(b, &m); err != nil {
		return nil, fmt.Errorf("gossip: coordinate: %w", err)
	}
	c := &coordinate.Coordinate{Vec: m.Vector, Error: m.Error, Adjustment: m.Adjustment, Height: m.Height}
	const far = 10 // seconds; beyond that it is no place on this planet
	valid := m.Version > 0 && len(c.Vec) == int(coordinate.DefaultConfig().Dimensionality) &&
		inRange(c.Error, 0, far) && inRange(c.Adjustment, -far, far) && inRange(c.Height, 0, far)
	for _, v := range c.Vec {
		valid = valid && inRange(v, -far, far)
	}
	if !valid {
		return nil, fmt.Errorf("gossip: coordinate version %d of %d dimensions is unusable", m.Version, len(c.Vec))
	}
	return c, nil
}
