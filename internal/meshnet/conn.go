package meshnet

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

// Conn is one QUIC connection with another node of the mesh, whose certificate was verified. All methods are safe for
// concurrent use.
type Conn struct {
	qc   *quic.Conn
	peer mesh.NodeID
	alpn ALPN
	dir  string // dirIn or dirOut

	direct *Direct // nil where one side does not offer it

	doubt atomic.Uint64 // packets received when the peer was doubted, and one; 0 for never
}

// ConnStats is what a connection measures. Counters start at zero with the connection.
type ConnStats struct {
	SmoothedRTT     time.Duration
	LatestRTT       time.Duration
	MinRTT          time.Duration
	RTTVariation    time.Duration
	CongestionBytes uint64 // congestion window
	PacketsSent     uint64
	PacketsReceived uint64
	PacketsLost     uint64 // may shrink when a packet believed lost is acknowledged late
	BytesSent       uint64 // UDP payload
	BytesReceived   uint64 // UDP payload
}

// Peer returns the node at the other end, as its certificate names it.
func (c *Conn) Peer() mesh.NodeID { return c.peer }

// ALPN returns the service the connection is for.
func (c *Conn) ALPN() ALPN { return c.alpn }

// Incoming reports whether the peer dialled.
func (c *Conn) Incoming() bool { return c.dir == dirIn }

// RemoteAddr returns the peer's UDP address, IPv4 as IPv4.
func (c *Conn) RemoteAddr() netip.AddrPort { return addrPort(c.qc.RemoteAddr()) }

// OpenStream opens a stream, waiting while the peer's limit of streams is reached.
func (c *Conn) OpenStream(ctx context.Context) (*Stream, error) {
	qs, err := c.qc.OpenStreamSync(ctx)
	if err != nil {
		return nil, fmt.Errorf("meshnet: open stream to %s: %w", c.peer, connError(err))
	}
	return &Stream{qs: qs, conn: c}, nil
}

// AcceptStream waits for a stream the peer opened and wrote to.
func (c *Conn) AcceptStream(ctx context.Context) (*Stream, error) {
	qs, err := c.qc.AcceptStream(ctx)
	if err != nil {
		return nil, fmt.Errorf("meshnet: accept stream of %s: %w", c.peer, connError(err))
	}
	return &Stream{qs: qs, conn: c}, nil
}

// SendDatagram queues b, which is copied. It blocks while 32 datagrams are queued, and until the connection ends at
// worst: call it only from a goroutine that may wait. It returns ErrDatagramTooLarge beyond MaxDatagramBytes.
func (c *Conn) SendDatagram(b []byte) error {
	err := c.qc.SendDatagram(b)
	if err == nil {
		return nil
	}
	if tl, ok := errors.AsType[*quic.DatagramTooLargeError](err); ok {
		return fmt.Errorf("meshnet: %w: %d bytes, at most %d", ErrDatagramTooLarge, len(b), tl.MaxDatagramPayloadSize)
	}
	return connError(err)
}

// ReceiveDatagram waits for a datagram; the caller owns it. More than 128 that nobody receives are dropped in silence,
// so a goroutine should do nothing else.
func (c *Conn) ReceiveDatagram(ctx context.Context) ([]byte, error) {
	b, err := c.qc.ReceiveDatagram(ctx)
	return b, connError(err)
}

// oversized is longer than any datagram QUIC carries.
var oversized [1 << 16]byte

// MaxDatagramBytes returns the largest datagram that fits now. It changes with the path MTU: ask again after
// ErrDatagramTooLarge. It is 0 when the connection is gone.
func (c *Conn) MaxDatagramBytes() int {
	if !c.alive() {
		return 0
	}
	// quic-go tells the limit only in the error, which it returns before it copies or queues anything.
	if tl, ok := errors.AsType[*quic.DatagramTooLargeError](c.qc.SendDatagram(oversized[:])); ok {
		return int(tl.MaxDatagramPayloadSize)
	}
	return 0
}

// Stats returns the connection's measurements.
func (c *Conn) Stats() ConnStats {
	s := c.qc.ConnectionStats()
	return ConnStats{
		SmoothedRTT: s.SmoothedRTT, LatestRTT: s.LatestRTT, MinRTT: s.MinRTT, RTTVariation: s.MeanDeviation,
		CongestionBytes: s.CongestionWindow,
		PacketsSent:     s.PacketsSent, PacketsReceived: s.PacketsReceived, PacketsLost: s.PacketsLost,
		BytesSent: s.BytesSent, BytesReceived: s.BytesReceived,
	}
}

// Close tells the peer code and reason and ends all streams. It is idempotent and does not wait.
func (c *Conn) Close(code uint64, reason string) error {
	return c.qc.CloseWithError(quic.ApplicationErrorCode(code), reason)
}

// Done is closed when the connection has ended.
func (c *Conn) Done() <-chan struct{} { return c.qc.Context().Done() }

// Err returns why the connection ended, nil while it lives.
func (c *Conn) Err() error {
	return connError(context.Cause(c.qc.Context()))
}

// trusted reports whether something came since the peer was doubted, if it was.
func (c *Conn) trusted() bool {
	doubt := c.doubt.Load()
	return doubt == 0 || c.qc.ConnectionStats().PacketsReceived >= doubt
}

func (c *Conn) alive() bool { return c.qc.Context().Err() == nil }
