package sfm

import (
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// Config is how a Selective Forwarding Middlebox is reached and how it treats its clients.
type Config struct {
	// UDPPort is the one port all clients' UDP media uses. 0 picks a free one. Default 0.
	UDPPort int
	// TCPPort is the port for ICE over TCP (RFC 6544, passive). 0 picks a free one, −1 switches it off. Default 0.
	TCPPort int
	// Listen holds the local addresses to bind. Empty binds every global unicast address of the machine. Default empty.
	Listen []netip.Addr
	// Advertised holds the public addresses to tell clients in place of the local ones, at most one for each address
	// family. Default empty: local addresses are told.
	Advertised []netip.Addr
	// IncludeLoopback offers loopback addresses too: for development on one machine. Default false.
	IncludeLoopback bool
	// ICEDisconnectedTimeout is the silence after which a client counts as disconnected. Default 5 s.
	ICEDisconnectedTimeout time.Duration
	// ICEFailedTimeout is the further silence after which it counts as failed. Default 15 s.
	ICEFailedTimeout time.Duration
	// ICEKeepalive is how often a connection is checked. Default 2 s.
	ICEKeepalive time.Duration
	// KeyframeInterval is the least time between two keyframe requests for one encoding, made because somebody lost its
	// picture. Default 1 s.
	KeyframeInterval time.Duration
	// KeyframeJoinInterval is the same for requests made because somebody begins to watch, of all encodings together; most
	// begin with what is kept since the latest keyframe, six seconds at most. Default 5.2 s: however they are delayed on
	// their way, no two come within five seconds.
	KeyframeJoinInterval time.Duration
	// DowngradeDelay is how long demand for a source must stay low before its publisher is told. Default 5 s.
	DowngradeDelay time.Duration
	// SectionRest is how long an m-line stays unused after its source ended. A client stops its receiver some time after it
	// answered; one that is told of a new source on the same m-line before loses it (seen with Pion clients). Default 2 s.
	SectionRest time.Duration
	// EgressPackets is how many packets may wait for one client, a bound on a slow client's memory. Default 1024.
	EgressPackets int
	// MaxEndpoints is how many clients are taken. Default 5000.
	MaxEndpoints int
}

// DefaultConfig returns what serves most.
func DefaultConfig() Config {
	return Config{
		ICEDisconnectedTimeout: 5 * time.Second,
		ICEFailedTimeout:       15 * time.Second,
		ICEKeepalive:           2 * time.Second,
		KeyframeInterval:       time.Second,
		KeyframeJoinInterval:   5200 * time.Millisecond,
		DowngradeDelay:         5 * time.Second,
		SectionRest:            2 * time.Second,
		EgressPackets:          1024,
		MaxEndpoints:           5000,
	}
}

// Validate returns every problem of the configuration, joined.
func (c Config) Validate() error {
	var errs []error
	bad := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("sfm: "+format, args...))
		}
	}
	bad(c.UDPPort >= 0 && c.UDPPort <= 65535, "UDPPort %d is not a port", c.UDPPort)
	bad(c.TCPPort >= -1 && c.TCPPort <= 65535, "TCPPort %d is not a port", c.TCPPort)
	var families [2]int
	for _, a := range c.Advertised {
		bad(a.IsValid() && !a.IsUnspecified(), "Advertised address %s cannot be reached", a)
		if a.Is4() {
			families[0]++
		} else {
			families[1]++
		}
	}
	bad(families[0] <= 1 && families[1] <= 1, "Advertised has more than one address of a family")
	for _, a := range c.Listen {
		bad(a.IsValid() && !a.IsUnspecified(), "Listen address %q is not one address", a)
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{
		{"ICEDisconnectedTimeout", c.ICEDisconnectedTimeout},
		{"ICEFailedTimeout", c.ICEFailedTimeout},
		{"ICEKeepalive", c.ICEKeepalive},
		{"KeyframeInterval", c.KeyframeInterval},
		{"KeyframeJoinInterval", c.KeyframeJoinInterval},
		{"DowngradeDelay", c.DowngradeDelay},
	} {
		bad(d.value > 0, "%s must be positive, not %s", d.name, d.value)
	}
	bad(c.SectionRest >= 0, "SectionRest must not be negative, is %s", c.SectionRest)
	bad(c.EgressPackets >= 64, "EgressPackets must be at least 64, not %d", c.EgressPackets)
	bad(c.MaxEndpoints >= 1, "MaxEndpoints must be at least 1, not %d", c.MaxEndpoints)
	return errors.Join(errs...)
}
