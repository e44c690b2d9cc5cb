package meshnet

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Errors of direct media.
var (
	// ErrNoDirect: one of the two nodes does not carry media directly; datagrams of the connection work.
	ErrNoDirect = errors.New("no direct media on this connection")
	// ErrExhausted: all packet numbers of a session were used. A new connection has new ones.
	ErrExhausted = errors.New("packet numbers of the session are used up")
)

// safeDirectBytes is the payload that fits an IPv6 packet of 1280 bytes.
const safeDirectBytes = 1200

// Direct carries datagrams beside a QUIC connection, on the same UDP socket, encrypted with keys of its handshake: a
// fraction of the cost of a QUIC datagram and no congestion control, which is the caller's task. Datagrams may be lost
// and reordered, never repeated, changed or forged. It ends with its connection. All methods are safe for concurrent use.
type Direct struct {
	conn    *Conn
	socket  directSocket
	metrics *metrics
	pause   chan struct{} // capacity 1: Send left something in the batch
	sendID  uint64        // session ID in what we send,
	recvID  uint64        // and in what we receive
	local   netip.Addr

	maxBytes atomic.Int64 // of a payload
	stats    directCounters

	mu    sync.Mutex     // guards the sending side:
	ended bool           //
	next  uint64         // packet number
	keys  epochCiphers   //
	batch batch          //
	to    netip.AddrPort // where the peer proved to be

	in      opener // the reading goroutine's
	handler atomic.Pointer[Handler]
	queue   directQueue
}

// DirectStats counts what a Direct carried, in packets and bytes of UDP payload.
type DirectStats struct {
	PacketsSent, BytesSent         uint64
	PacketsReceived, BytesReceived uint64
	SendLost                       uint64 // packets the socket did not take
	ReceiveLost                    uint64 // packets evicted because nobody received them
	Refused                        uint64 // packets of the session that were replayed, too old or not authentic
	Moved                          uint64 // changes of the peer's address
}

type directCounters struct {
	packetsSent, bytesSent, packetsReceived, bytesReceived, sendLost, receiveLost, refused, moved atomic.Uint64
}

// Direct returns the connection's direct path. It returns ErrNoDirect for another ALPN than ALPNMedia and when one side
// does not offer it (Config.Direct, an older release).
func (c *Conn) Direct() (*Direct, error) {
	if c.direct == nil {
		return nil, fmt.Errorf("meshnet: %w (to %s for %s)", ErrNoDirect, c.peer, c.alpn)
	}
	return c.direct, nil
}

// MaxDatagramBytes returns the largest payload. It is what QUIC's path MTU discovery has proven for the connection, at
// least 1200, and may grow: ask again from time to time.
func (d *Direct) MaxDatagramBytes() int {
	// A direct packet adds less to its payload than QUIC does, so what QUIC carries passes here too.
	n := min(max(d.conn.MaxDatagramBytes(), safeDirectBytes), maxDirect-directOverhead)
	d.maxBytes.Store(int64(n))
	return n
}

// Stats returns the counters.
func (d *Direct) Stats() DirectStats {
	s := &d.stats
	return DirectStats{
		PacketsSent: s.packetsSent.Load(), BytesSent: s.bytesSent.Load(),
		PacketsReceived: s.packetsReceived.Load(), BytesReceived: s.bytesReceived.Load(),
		SendLost: s.sendLost.Load(), ReceiveLost: s.receiveLost.Load(), Refused: s.refused.Load(), Moved: s.moved.Load(),
	}
}

// newDirect derives the session of a connection whose handshake is complete.
func newDirect(c *Conn, n *Network, version byte) (*Direct, error) {
	cs := c.qc.ConnectionState().TLS
	k, err := exportKeys(&cs)
	if err != nil {
		return nil, err
	}
	d := &Direct{conn: c, socket: n.direct, metrics: n.metrics, pause: make(chan struct{}, 1), to: c.RemoteAddr(), queue: newDirectQueue()}
	if c.Incoming() {
		d.sendID, d.keys.secret = k.serverID, k.server
		d.recvID, d.in.keys.secret = k.clientID, k.client
	} else {
		d.sendID, d.keys.secret = k.clientID, k.client
		d.recvID, d.in.keys.secret = k.serverID, k.server
	}
	d.sendID, d.recvID = sessionOf(version, d.sendID), sessionOf(version, d.recvID)
	d.keys.tag, d.in.keys.tag = tagOf(d.sendID), tagOf(d.recvID)
	d.in.from = d.to
	if n.LocalAddr().Addr().IsUnspecified() { // answer from the address the peer knows
		if l := addrPort(c.qc.LocalAddr()).Addr(); l.IsValid() && !l.IsUnspecified() {
			d.local = l
		}
	}
	d.MaxDatagramBytes()
	return d, nil
}

// end frees the session; its connection has ended.
func (d *Direct) end() {
	d.mu.Lock()
	d.ended = true
	d.batch, d.keys = batch{}, epochCiphers{}
	d.mu.Unlock()
	d.queue.close()
}

// closedErr says why the session is over.
func (d *Direct) closedErr() error {
	if err := d.conn.Err(); err != nil {
		return err
	}
	return ErrClosed
}

// Receive waits for a datagram; the caller owns it. Of more than 1024 that nobody receives the oldest are dropped and
// counted. It returns nothing once Handle was called.
func (d *Direct) Receive(ctx context.Context) ([]byte, error) {
	for {
		b, open := d.queue.pop()
		if b != nil {
			return b, nil
		}
		if !open {
			return nil, d.closedErr()
		}
		select {
		case <-d.queue.wake:
		case <-d.queue.done:
		case <-ctx.Done():
			return nil, connError(ctx.Err())
		}
	}
}

// Handler gets a session's datagrams in place of Receive. Both functions run on the goroutine that reads the node's
// socket, one call at a time, and must never block: all links wait for them, which is measured
// (direct_read_seconds). A call may be under way when the connection ends.
type Handler struct {
	// Each gets every datagram, without a copy: b is valid only during the call and may be changed. at is when the
	// system call returned that read it, one time for all that came with it.
	Each func(b []byte, at time.Time)
	// End, if not nil, is called after the last of what was read at once.
	End func()
}

// Handle makes h get each datagram from now on. It returns those that arrived before and nobody received.
func (d *Direct) Handle(h Handler) (before [][]byte) {
	d.handler.Store(&h)
	for {
		b, _ := d.queue.pop()
		if b == nil {
			return before
		}
		before = append(before, b)
	}
}
