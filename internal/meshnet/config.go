package meshnet

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/quic-go/quic-go"
)

// Config says where a node listens for other nodes and how patient its connections are.
type Config struct {
	// Listen is the UDP address and port of the mesh. Port 0 takes any free port. Default 0.0.0.0:7700.
	Listen netip.AddrPort
	// KeepAlive is the period of keep-alive packets on an idle connection, below half of IdleTimeout. Default 2 s.
	KeepAlive time.Duration
	// IdleTimeout is how long a connection lives without hearing from the peer. Default 10 s.
	IdleTimeout time.Duration
	// HandshakeTimeout bounds a handshake whose caller is more patient. Default 5 s.
	HandshakeTimeout time.Duration
	// MaxStreams is how many streams a peer may have open at once on one connection. Default 1024.
	MaxStreams int
	// StreamWindowBytes is the most a peer may send on one stream before it is read. Default 4 MiB.
	StreamWindowBytes int
	// ConnWindowBytes is the most a peer may send on all streams of one connection before it is read. Default 16 MiB.
	ConnWindowBytes int
	// Direct offers media beside QUIC, see [Direct]. A peer that does not offer it gets QUIC datagrams. Default true.
	Direct bool

	directBefore byte // direct packets of earlier versions than this only, as an older release; 0: of all. For tests
}

// DefaultConfig returns the defaults named at each field.
func DefaultConfig() Config {
	return Config{
		Listen:            netip.MustParseAddrPort("0.0.0.0:7700"),
		KeepAlive:         2 * time.Second,
		IdleTimeout:       10 * time.Second,
		HandshakeTimeout:  5 * time.Second,
		MaxStreams:        1024,
		StreamWindowBytes: 4 << 20,
		ConnWindowBytes:   16 << 20,
		Direct:            true,
	}
}

// Validate returns all problems of the configuration.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, a ...any) { errs = append(errs, fmt.Errorf("meshnet: "+format, a...)) }
	if !c.Listen.IsValid() {
		bad("listen: must be an IP address and port")
	}
	if c.KeepAlive <= 0 || c.KeepAlive > c.IdleTimeout/2 {
		bad("keep_alive: must be positive and at most half of idle_timeout (%s), not %s", c.IdleTimeout, c.KeepAlive)
	}
	if c.IdleTimeout < 100*time.Millisecond {
		bad("idle_timeout: must be at least 100ms, not %s", c.IdleTimeout)
	}
	if c.HandshakeTimeout <= 0 {
		bad("handshake_timeout: must be positive, not %s", c.HandshakeTimeout)
	}
	if c.MaxStreams < 1 || c.MaxStreams > 1<<16 {
		bad("max_streams: must be 1 to 65536, not %d", c.MaxStreams)
	}
	if c.StreamWindowBytes < 1<<10 {
		bad("stream_window_bytes: must be at least 1024, not %d", c.StreamWindowBytes)
	}
	if c.ConnWindowBytes < c.StreamWindowBytes {
		bad("conn_window_bytes: must be at least stream_window_bytes (%d), not %d", c.StreamWindowBytes, c.ConnWindowBytes)
	}
	return errors.Join(errs...)
}

func (c Config) quic() *quic.Config {
	return &quic.Config{
		HandshakeIdleTimeout:           c.HandshakeTimeout,
		MaxIdleTimeout:                 c.IdleTimeout,
		KeepAlivePeriod:                c.KeepAlive,
		InitialStreamReceiveWindow:     uint64(min(512<<10, c.StreamWindowBytes)),
		MaxStreamReceiveWindow:         uint64(c.StreamWindowBytes),
		InitialConnectionReceiveWindow: uint64(min(2<<20, c.ConnWindowBytes)), // a keyframe burst fits before the first update
		MaxConnectionReceiveWindow:     uint64(c.ConnWindowBytes),
		MaxIncomingStreams:             int64(c.MaxStreams),
		MaxIncomingUniStreams:          int64(c.MaxStreams),
		InitialPacketSize:              initialPacketSize,
		EnableDatagrams:                true,
	}
}

// initialPacketSize is what a connection sends before path MTU discovery has found more, in bytes of UDP payload.
const initialPacketSize = 1280
