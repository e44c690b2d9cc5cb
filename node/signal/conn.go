package signal

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/livekit/protocol/livekit"
)

// CloseCode is why a WebSocket is closed (RFC 6455 §7.4.1).
type CloseCode uint16

// The codes this package uses.
const (
	CloseNormal         CloseCode = 1000
	CloseGoingAway      CloseCode = 1001
	CloseInvalidPayload CloseCode = 1007 // not a message
	ClosePolicy         CloseCode = 1008 // a message over limits
	CloseTooBig         CloseCode = 1009
	CloseInternal       CloseCode = 1011
)

// What ends a connection from our side, as Session.Closed is told.
var (
	ErrSlowClient  = errors.New("signal: client reads too slowly")
	ErrReadTimeout = errors.New("signal: nothing came from the client")
	ErrMalformed   = errors.New("signal: malformed message")
	ErrShutdown    = errors.New("signal: server shuts down")
)

// Conn is the way to one client. All methods are safe for concurrent use, never block, keep their order, and do nothing after
// Close. What is passed to them must not be changed afterwards.
type Conn struct {
	cfg *Config
	m   *metrics
	ws  *websocket.Conn
	raw net.Conn // under ws: closing it is the only way to stop a close handshake

	text   atomic.Bool // the client's last frame was text: answer in JSON
	wake   chan struct{}
	ctx    context.Context // over when the socket has to go at once
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu      sync.Mutex
	queue   []outgoing // guarded by mu; queue[head:] waits
	head    int        // guarded by mu
	queued  int        // guarded by mu; bytes waiting
	closing bool       // guarded by mu
	code    CloseCode  // guarded by mu
	reason  string     // guarded by mu
	cause   error      // guarded by mu; nil when the session closed it
	timer   *time.Timer
}

type outgoing struct {
	msg  *livekit.SignalResponse
	size int
}

// newConn starts the writer and the keepalive of an upgraded connection. The caller is the reader.
func newConn(cfg *Config, m *metrics, ws *websocket.Conn, raw net.Conn) *Conn {
	c := &Conn{cfg: cfg, m: m, ws: ws, raw: raw, wake: make(chan struct{}, 1)}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.wg.Go(c.writeLoop)
	c.wg.Go(c.keepalive)
	return c
}

// Close sends what is queued and then closes the connection with the code and the reason (cut to 123 bytes), all within
// Config.CloseTimeout. Only the first call counts.
func (c *Conn) Close(code CloseCode, reason string) { c.closeBecause(code, reason, nil) }

// Done is closed when the connection has to be given up; the queue is not sent any more then.
func (c *Conn) Done() <-chan struct{} { return c.ctx.Done() }

func (c *Conn) closeBecause(code CloseCode, reason string, cause error) {
	if len(reason) > 123 {
		reason = reason[:123]
	}
	c.mu.Lock()
	if c.closing {
		c.mu.Unlock()
		return
	}
	c.closing, c.code, c.reason, c.cause = true, code, reason, cause
	c.timer = time.AfterFunc(c.cfg.CloseTimeout, c.cancel)
	c.mu.Unlock()
	c.signal()
}

// abort gives the connection up without a word. It reports whether cause is what ended it.
func (c *Conn) abort(cause error) bool {
	c.mu.Lock()
	first := !c.closing
	if first {
		c.closing, c.cause = true, cause
	}
	c.queue, c.head, c.queued = nil, 0, 0
	c.mu.Unlock()
	c.cancel()
	return first
}

// slow gives the connection up because the client does not take what it is sent; how is a label of the counter.
func (c *Conn) slow(how string, err error) {
	if c.abort(errors.Join(ErrSlowClient, err)) {
		c.m.slowCloses.WithLabelValues(how).Inc()
	}
}

func (c *Conn) isClosing() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closing
}

// wait returns after the last goroutine and says why the connection ended.
func (c *Conn) wait() error {
	c.wg.Wait()
	_ = c.ws.CloseNow() // gives its buffers back; the socket is gone already
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timer != nil {
		c.timer.Stop()
	}
	return c.cause
}

// send queues a message. A client whose queue is full is given up.
func (c *Conn) send(msg *livekit.SignalResponse) {
	size := proto.Size(msg)
	c.mu.Lock()
	if c.closing {
		c.mu.Unlock()
		return
	}
	waiting := len(c.queue) - c.head
	if waiting >= c.cfg.QueueMessages || (waiting > 0 && c.queued+size > c.cfg.QueueBytes) {
		c.mu.Unlock()
		c.slow(closeQueue, nil)
		return
	}
	if c.head > 0 && len(c.queue) == cap(c.queue) { // move up before growing
		n := copy(c.queue, c.queue[c.head:])
		clear(c.queue[n:])
		c.queue, c.head = c.queue[:n], 0
	}
	c.queue = append(c.queue, outgoing{msg, size})
	c.queued += size
	c.mu.Unlock()
	c.signal()
}

func (c *Conn) signal() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// next returns the message to write now, or none and whether to close.
func (c *Conn) next() (msg *livekit.SignalResponse, closing bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.head == len(c.queue) {
		c.queue, c.head = c.queue[:0], 0
		return nil, c.closing
	}
	o := c.queue[c.head]
	c.queue[c.head] = outgoing{}
	c.head++
	c.queued -= o.size
	return o.msg, false
}

func (c *Conn) writeLoop() {
	defer c.cancel()
	for {
		select {
		case <-c.wake:
		case <-c.ctx.Done():
			return
		}
		for c.ctx.Err() == nil {
			msg, closing := c.next()
			if closing {
				c.mu.Lock()
				code, reason := c.code, c.reason
				c.mu.Unlock()
				_ = c.ws.Close(websocket.StatusCode(code), reason) // a client that does not answer the close is no news
				return
			}
			if msg == nil {
				break
			}
			if err := c.writeMessage(msg); err != nil {
				c.writeFailed(err)
				return
			}
		}
	}
}

// writeFailed tells a client that is gone from one that does not read.
func (c *Conn) writeFailed(err error) {
	if errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) {
		c.abort(fmt.Errorf("signal: write: %w", err))
		return
	}
	c.slow(closeWrite, err)
}

func (c *Conn) writeMessage(msg *livekit.SignalResponse) error {
	ctx, cancel := context.WithTimeout(c.ctx, c.cfg.WriteTimeout)
	defer cancel()
	kind, typ, marshal := kindOf(msg.ProtoReflect(), responseOneof), websocket.MessageBinary, proto.Marshal
	if c.text.Load() {
		typ, marshal = websocket.MessageText, protojson.Marshal
	}
	b, err := marshal(msg)
	if err != nil {
		return err
	}
	if err := c.ws.Write(ctx, typ, b); err != nil {
		return err
	}
	c.m.out[kind].Inc()
	return nil
}

// keepalive pings the client, and takes the socket away when the connection is given up.
func (c *Conn) keepalive() {
	ticker := time.NewTicker(c.cfg.PingInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			ctx, cancel := context.WithTimeout(c.ctx, c.cfg.PingInterval)
			_ = c.ws.Ping(ctx) // a missing pong is the read deadline's business
			cancel()
		case <-c.ctx.Done():
			_ = c.raw.Close()
			return
		}
	}
}
