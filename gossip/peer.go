package gossip

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/meridian-sfu/meridian/internal/meshnet"
)

const (
	sendQueue    = 64               // packets waiting for one peer
	peerIdle     = 60 * time.Second // after so much silence a sender ends
	dialTimeout  = 5 * time.Second
	dialBackoff  = time.Second // packets in vain are dropped for so long after a failed dial
	connsPerPeer = 4           // both sides may dial at once, and a restarted peer dials anew
)

// peer sends packets to one node at one address and knows the connections with it.
type peer struct {
	t       *transport
	key     peerKey
	queue   chan []byte
	dialing chan struct{} // capacity 1: who holds the token dials
	done    chan struct{} // closed when run ends

	mu    sync.Mutex
	conns []*meshnet.Conn // guarded by mu; oldest first, at most connsPerPeer
}

func newPeer(t *transport, key peerKey) *peer {
	return &peer{
		t: t, key: key, queue: make(chan []byte, sendQueue), dialing: make(chan struct{}, 1), done: make(chan struct{}),
	}
}

// live returns the newest connection that has not ended.
func (p *peer) live() *meshnet.Conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range slices.Backward(p.conns) {
		if c.Err() == nil {
			return c
		}
	}
	return nil
}

// enqueue never blocks: the oldest packet gives way.
func (p *peer) enqueue(b []byte) {
	for {
		select {
		case p.queue <- b:
			return
		default:
		}
		select {
		case <-p.queue:
			p.t.metrics.drops.WithLabelValues(dropQueue).Inc()
		default:
		}
	}
}

// run sends what is queued. It alone may block: on a dial, and in SendDatagram.
func (p *peer) run() {
	defer close(p.done)
	defer p.t.drop(p)
	idle := time.NewTicker(peerIdle)
	defer idle.Stop()
	var retry time.Time // no dial before
	sent := true
	for {
		select {
		case b := <-p.queue:
			sent = true
			p.send(b, &retry)
		case <-idle.C:
			if !sent && p.live() == nil {
				return
			}
			sent = false
		case <-p.t.stopping:
			for p.live() != nil {
				select {
				case b := <-p.queue:
					p.send(b, &retry)
				default:
					return
				}
			}
			return
		}
	}
}

func (p *peer) send(b []byte, retry *time.Time) {
	c := p.live()
	if c == nil && time.Now().After(*retry) {
		ctx, cancel := context.WithTimeout(p.t.ctx, dialTimeout)
		var err error
		if c, err = p.connect(ctx); err != nil {
			p.t.log.Debug("gossip peer not reached", "node", p.key.name, "addr", p.key.addr, "err", err)
			*retry = time.Now().Add(dialBackoff)
		}
		cancel()
	}
	if c == nil {
		p.t.metrics.drops.WithLabelValues(dropDial).Inc()
		return
	}
	switch err := c.SendDatagram(b); {
	case err == nil:
		p.t.metrics.packets.WithLabelValues(dirOut).Inc()
	case errors.Is(err, meshnet.ErrDatagramTooLarge):
		p.t.metrics.drops.WithLabelValues(dropTooLarge).Inc()
	default:
		p.t.metrics.drops.WithLabelValues(dropDial).Inc()
	}
}

// connect returns a live connection, dialling if there is none; concurrent callers share one dial.
func (p *peer) connect(ctx context.Context) (*meshnet.Conn, error) {
	if c := p.live(); c != nil {
		return c, nil
	}
	select {
	case p.dialing <- struct{}{}:
		defer func() { <-p.dialing }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if c := p.live(); c != nil {
		return c, nil
	}
	c, err := p.t.dial(ctx, p.key.name, p.key.addr)
	if err == nil {
		p.adopt(c) // serve does so too, but perhaps later than the next caller looks
	}
	return c, err
}

// adopt makes c the connection of choice. Beyond connsPerPeer the oldest is closed.
func (p *peer) adopt(c *meshnet.Conn) {
	p.mu.Lock()
	if slices.Contains(p.conns, c) {
		p.mu.Unlock()
		return
	}
	p.conns = append(p.conns, c)
	var evicted *meshnet.Conn
	if len(p.conns) > connsPerPeer {
		evicted = p.conns[0]
		p.conns = slices.Delete(p.conns, 0, 1)
	}
	p.mu.Unlock()
	if evicted != nil {
		_ = evicted.Close(meshnet.CodeBusy, "too many gossip connections")
	}
}

func (p *peer) forget(c *meshnet.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns = slices.DeleteFunc(p.conns, func(o *meshnet.Conn) bool { return o == c })
}

// serve reads c until it ends.
func (p *peer) serve(c *meshnet.Conn) {
	p.adopt(c)
	defer p.forget(c)
	if p.t.ctx.Err() != nil {
		_ = c.Close(meshnet.CodeShutdown, "gossip stops")
	}
	var wg sync.WaitGroup
	wg.Go(func() { p.readStreams(c) })
	p.readPackets(c)
	wg.Wait()
	_ = c.Close(meshnet.CodeShutdown, "gossip stops")
}

func (p *peer) readPackets(c *meshnet.Conn) {
	for {
		b, err := c.ReceiveDatagram(p.t.ctx)
		if err != nil {
			return
		}
		p.t.metrics.packets.WithLabelValues(dirIn).Inc()
		select {
		case p.t.packets <- &memberlist.Packet{Buf: b, From: p.t.from(c), Timestamp: time.Now()}:
		default:
			p.t.metrics.drops.WithLabelValues(dropReceive).Inc()
		}
	}
}

func (p *peer) readStreams(c *meshnet.Conn) {
	for {
		s, err := c.AcceptStream(p.t.ctx)
		if err != nil {
			return
		}
		p.t.metrics.streams.WithLabelValues(dirIn).Inc()
		select {
		case p.t.streams <- s: // memberlist takes it at once and serves it in a goroutine of its own
		case <-p.t.ctx.Done():
			s.Reset(meshnet.CodeShutdown)
			return
		}
	}
}
