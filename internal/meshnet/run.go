package meshnet

import (
	"context"
	"errors"
	"fmt"
)

// Run answers peers until ctx ends, then closes every connection and the socket and returns after the last handler.
// It returns nil when ctx ended and runs once.
func (n *Network) Run(ctx context.Context) error {
	n.mu.Lock()
	if n.state != stateNew {
		n.mu.Unlock()
		return fmt.Errorf("%w: Run may be called once", ErrClosed)
	}
	n.state = stateRunning
	alpns := make([]string, 0, len(n.handlers))
	for a := range n.handlers {
		alpns = append(n.offer(a), alpns...) // the first that both know is taken
	}
	n.mu.Unlock()
	defer n.shutdown()

	ln, err := n.transport.Listen(n.id.serverTLS(alpns, n.refused), n.cfg.quic())
	if err != nil {
		return fmt.Errorf("meshnet: listen: %w", err)
	}
	defer context.AfterFunc(ctx, n.cancel)()
	n.wg.Go(n.countStray)
	for {
		qc, err := ln.Accept(n.ctx)
		if err != nil {
			_ = ln.Close()
			if n.ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("meshnet: accept: %w", err)
		}
		c, err := n.wrap(qc, dirIn)
		if err != nil {
			n.log.Warn("mesh connection refused", "err", err)
			continue
		}
		h := n.handlers[c.alpn] // the handshake chose among them
		n.wg.Go(func() { h(c) })
	}
}

// Close ends a network whose Run was never called; while Run runs it makes Run return. It is idempotent.
func (n *Network) Close() error {
	n.mu.Lock()
	running := n.state == stateRunning
	if !running {
		n.state = stateClosed
	}
	n.mu.Unlock()
	n.cancel()
	if !running {
		n.shutdown()
	}
	return nil
}

func (n *Network) shutdown() {
	n.mu.Lock() // orders spawn before or after: nothing joins the group once Wait has begun
	n.cancel()
	n.mu.Unlock()
	for _, c := range n.conns.snapshot() {
		_ = c.Close(CodeShutdown, "node stops")
	}
	_ = n.transport.Close()
	_ = n.pc.Close()
	n.wg.Wait()
	n.mu.Lock()
	n.state = stateClosed
	n.mu.Unlock()
}

// refused counts a peer whose handshake this node ended.
func (n *Network) refused(err error) {
	n.metrics.failures.WithLabelValues(dirIn, failureReason(err)).Inc()
	n.log.Debug("mesh handshake refused", "err", err)
}

// countStray reads packets that are not QUIC: they are counted and dropped.
func (n *Network) countStray() {
	var b [1]byte
	for {
		_, _, err := n.transport.ReadNonQUICPacket(n.ctx, b[:])
		if err != nil {
			if n.ctx.Err() == nil && !errors.Is(err, context.Canceled) {
				n.log.Debug("stray packet reader ended", "err", err)
			}
			return
		}
		n.metrics.stray.WithLabelValues(strayNotQUIC).Inc()
	}
}

// spawn starts f as a goroutine that Run waits for; false if the network is closed already.
func (n *Network) spawn(f func()) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ctx.Err() != nil {
		return false
	}
	n.wg.Go(f)
	return true
}
