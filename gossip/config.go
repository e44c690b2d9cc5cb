package gossip

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/hashicorp/memberlist"
)

// The profiles: how patient the failure detector is.
const (
	ProfileLAN = "lan" // default; patient enough for one ocean
	ProfileWAN = "wan" // lossy or very long paths
	ProfileDev = "dev" // all nodes on one machine, delays emulated
)

// Config says how a node finds the mesh.
type Config struct {
	// Seeds are addresses of nodes to join by, "host:port", IP or DNS name; any one that answers is enough. This node's
	// own address among them does no harm. Empty starts a new mesh. Default empty.
	Seeds []string
	// Advertise is the UDP address other nodes reach this one at. Default: the mesh address of the node, if it is not
	// 0.0.0.0 or [::].
	Advertise netip.AddrPort
	// Profile is lan, wan or dev. Default lan.
	Profile string
	// LeaveTimeout bounds saying goodbye, at most 1 s. Default 1 s.
	LeaveTimeout time.Duration

	tune func(*memberlist.Config) // tests only
}

// DefaultConfig returns the defaults named at each field.
func DefaultConfig() Config {
	return Config{Profile: ProfileLAN, LeaveTimeout: time.Second}
}

// Validate returns all problems of the configuration.
func (c Config) Validate() error {
	var errs []error
	for _, s := range c.Seeds {
		host, port, err := net.SplitHostPort(s)
		if err != nil {
			errs = append(errs, fmt.Errorf("gossip: seeds: %q must be host:port: %w", s, err))
			continue
		}
		if p, err := strconv.ParseUint(port, 10, 16); host == "" || err != nil || p == 0 {
			errs = append(errs, fmt.Errorf("gossip: seeds: %q must be host:port with a port of 1 to 65535", s))
		}
	}
	if c.Advertise.IsValid() && (c.Advertise.Addr().IsUnspecified() || c.Advertise.Port() == 0) {
		errs = append(errs, fmt.Errorf("gossip: advertise: %s is no address others can reach", c.Advertise))
	}
	if _, ok := profiles[c.Profile]; !ok {
		errs = append(errs, fmt.Errorf("gossip: profile: must be lan, wan or dev, not %q", c.Profile))
	}
	if c.LeaveTimeout <= 0 || c.LeaveTimeout > time.Second {
		errs = append(errs, fmt.Errorf("gossip: leave_timeout: must be over 0 and at most 1s, not %s", c.LeaveTimeout))
	}
	return errors.Join(errs...)
}

// profile is the timing of one profile.
type profile struct {
	probeInterval, probeTimeout time.Duration // the timeout leaves time for indirect probes within the interval
	suspicion                   int
	gossip, pushPull, stream    time.Duration
	retryMin, retryMax          time.Duration // of joining while alone
	reconnect                   time.Duration // of trying lost members and seeds while not alone
}

var profiles = map[string]profile{
	ProfileLAN: {
		probeInterval: 2 * time.Second, probeTimeout: time.Second, suspicion: 4, gossip: 200 * time.Millisecond,
		pushPull: 30 * time.Second, stream: 5 * time.Second,
		retryMin: 500 * time.Millisecond, retryMax: 15 * time.Second, reconnect: 30 * time.Second,
	},
	ProfileWAN: {
		probeInterval: 4 * time.Second, probeTimeout: 2 * time.Second, suspicion: 5, gossip: 400 * time.Millisecond,
		pushPull: 60 * time.Second, stream: 10 * time.Second,
		retryMin: time.Second, retryMax: 30 * time.Second, reconnect: 60 * time.Second,
	},
	ProfileDev: {
		probeInterval: time.Second, probeTimeout: 500 * time.Millisecond, suspicion: 2, gossip: 100 * time.Millisecond,
		pushPull: 5 * time.Second, stream: 3 * time.Second,
		retryMin: 100 * time.Millisecond, retryMax: 2 * time.Second, reconnect: 5 * time.Second,
	},
}

// packetBytes is the most memberlist puts in a packet: with QUIC's overhead it fits any path QUIC works on.
const packetBytes = 1100

func (c Config) memberlist() *memberlist.Config {
	p := profiles[c.Profile]
	mc := memberlist.DefaultLANConfig()
	mc.ProbeInterval, mc.ProbeTimeout = p.probeInterval, p.probeTimeout
	mc.SuspicionMult = p.suspicion
	mc.GossipInterval, mc.PushPullInterval, mc.TCPTimeout = p.gossip, p.pushPull, p.stream
	mc.UDPBufferSize = packetBytes
	mc.EnableCompression = false             // packets are small and media shares the machine
	mc.DeadNodeReclaimTime = time.Nanosecond // a dead node may come back at another address at once
	mc.LogOutput = io.Discard
	return mc
}
