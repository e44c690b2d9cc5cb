package gossip

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"net/url"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/meshpb/gossippb"
)

// MaxMetaBytes is the most a node may say of itself, encoded.
const MaxMetaBytes = 512

const (
	metaVersion     = 1
	maxURLBytes     = 160
	maxVersionBytes = 48
	maxClusterBytes = 64
)

// ErrMetadata is wrapped by every error about a node's metadata.
var ErrMetadata = errors.New("invalid node metadata")

// encodeMeta packs what a node says of itself. Errors name the field that is wrong or too long.
func encodeMeta(n mesh.NodeInfo) ([]byte, error) {
	if err := checkInfo(n); err != nil {
		return nil, err
	}
	b, err := proto.Marshal(&gossippb.NodeMeta{
		Version: metaVersion,
		NodeId:  string(n.ID), Region: string(n.Region), Zone: n.Zone, ClientUrl: n.ClientURL,
		Latitude: float32(n.Latitude), Longitude: float32(n.Longitude),
		Load: &gossippb.Load{
			Cpu: float32(n.Load.CPU), EgressBitrate: n.Load.EgressBitrate,
			Participants: n.Load.Participants, Capacity: n.Load.Capacity,
		},
		SoftwareVersion: n.Version, Draining: n.Draining, RaftCluster: n.RaftCluster,
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMetadata, err)
	}
	if len(b) > MaxMetaBytes {
		name, size := longest(n)
		return nil, fmt.Errorf("%w: %d bytes, at most %d: shorten %s (%d bytes)", ErrMetadata, len(b), MaxMetaBytes, name, size)
	}
	return b, nil
}

// decodeMeta unpacks what a node says of itself. The address is not in the metadata: it stays unset.
func decodeMeta(b []byte) (mesh.NodeInfo, error) {
	if len(b) > MaxMetaBytes {
		return mesh.NodeInfo{}, fmt.Errorf("%w: %d bytes, at most %d", ErrMetadata, len(b), MaxMetaBytes)
	}
	var m gossippb.NodeMeta
	if err := proto.Unmarshal(b, &m); err != nil {
		return mesh.NodeInfo{}, fmt.Errorf("%w: %w", ErrMetadata, err)
	}
	if m.Version == 0 {
		return mesh.NodeInfo{}, fmt.Errorf("%w: no version", ErrMetadata)
	}
	n := mesh.NodeInfo{
		ID: mesh.NodeID(m.NodeId), Region: mesh.Region(m.Region), Zone: m.Zone, ClientURL: m.ClientUrl,
		Latitude: float64(m.Latitude), Longitude: float64(m.Longitude),
		Load: mesh.Load{
			CPU: float64(m.GetLoad().GetCpu()), EgressBitrate: m.GetLoad().GetEgressBitrate(),
			Participants: m.GetLoad().GetParticipants(), Capacity: m.GetLoad().GetCapacity(),
		},
		Version: m.SoftwareVersion, Draining: m.Draining, RaftCluster: m.RaftCluster,
	}
	return n, checkInfo(n)
}

// checkInfo reports every field that others would refuse.
func checkInfo(n mesh.NodeInfo) error {
	var errs []error
	bad := func(format string, a ...any) {
		errs = append(errs, fmt.Errorf("%w: "+format, append([]any{ErrMetadata}, a...)...))
	}
	if _, err := mesh.ParseNodeID(string(n.ID)); err != nil {
		bad("node ID: %w", err)
	}
	if _, err := mesh.ParseRegion(string(n.Region)); err != nil {
		bad("region: %w", err)
	}
	if n.Zone != "" {
		if _, err := mesh.ParseRegion(n.Zone); err != nil {
			bad("zone: %w", err)
		}
	}
	if err := checkURL(n.ClientURL); err != nil {
		bad("client URL: %w", err)
	}
	for _, f := range []struct {
		name, value string
		limit       int
	}{{"software version", n.Version, maxVersionBytes}, {"Raft cluster", n.RaftCluster, maxClusterBytes}} {
		if len(f.value) > f.limit {
			bad("%s is too long: %d bytes, at most %d", f.name, len(f.value), f.limit)
		} else if !printable(f.value) {
			bad("%s %q may hold only printable ASCII", f.name, f.value)
		}
	}
	if !inRange(n.Latitude, -90, 90) || !inRange(n.Longitude, -180, 180) {
		bad("position %v, %v is not on Earth", n.Latitude, n.Longitude)
	}
	if !inRange(n.Load.CPU, 0, 1) {
		bad("CPU load %v is not between 0 and 1", n.Load.CPU)
	}
	return errors.Join(errs...)
}

func checkURL(s string) error {
	if s == "" {
		return nil // a node without clients
	}
	if len(s) > maxURLBytes {
		return fmt.Errorf("too long: %d bytes, at most %d", len(s), maxURLBytes)
	}
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return err
	case u.Scheme != "ws" && u.Scheme != "wss":
		return fmt.Errorf("%q must begin with ws:// or wss://", s)
	case u.Host == "" || u.User != nil || !printable(s):
		return fmt.Errorf("%q must be a host and port", s)
	}
	return nil
}

func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}

func inRange(v, low, high float64) bool { return !math.IsNaN(v) && v >= low && v <= high }

func longest(n mesh.NodeInfo) (name string, size int) {
	for _, f := range []struct{ name, value string }{
		{"node ID", string(n.ID)},
		{"region", string(n.Region)},
		{"zone", n.Zone},
		{"client URL", n.ClientURL},
		{"software version", n.Version},
		{"Raft cluster", n.RaftCluster},
	} {
		if len(f.value) > size {
			name, size = f.name, len(f.value)
		}
	}
	return name, size
}

// memberAddr is the address memberlist carries for a node, IPv4 as IPv4.
func memberAddr(ip []byte, port uint16) netip.AddrPort {
	a, ok := netip.AddrFromSlice(ip)
	if !ok {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(a.Unmap(), port)
}
