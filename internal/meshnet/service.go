package meshnet

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"time"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

const (
	serviceVersion    = 1
	maxServiceName    = 64              // bytes
	headerTimeout     = 5 * time.Second // a stream whose header does not come is reset
	controlsPerPeer   = 4               // control connections kept per peer: two of a simultaneous dial, two of a restart
	maxServiceRetries = 2
	doubtfulDial      = 1500 * time.Millisecond // for a handshake with a peer that is not heard of
)

// ServiceHandler answers a stream another node opened for a service. It runs in a goroutine of its own and owns the
// stream, also after it returned: close it.
type ServiceHandler func(peer mesh.NodeID, s *Stream)

// HandleService makes h answer streams for the service name (1 to 64 bytes). Call it before Run; it panics for a
// second handler of one name.
func (n *Network) HandleService(name string, h func(peer mesh.NodeID, s *Stream)) {
	if name == "" || len(name) > maxServiceName {
		panic("meshnet: service names have 1 to 64 bytes: " + name)
	}
	n.configure("HandleService", func() {
		if _, dup := n.services[name]; dup {
			panic("meshnet: second handler for service " + name)
		}
		n.services[name] = h
	})
}

// OpenService opens a stream to the service name on peer, dialling only if no control connection lives. The peer sees
// it at once. peer may be this node itself. A peer without such a service is told of by the first Read
// (ErrUnknownService). Errors: ErrUnknownNode if the resolver knows no address, else those of Dial.
func (n *Network) OpenService(ctx context.Context, peer mesh.NodeID, name string) (*Stream, error) {
	if name == "" || len(name) > maxServiceName {
		return nil, fmt.Errorf("meshnet: service name %q must have 1 to %d bytes", name, maxServiceName)
	}
	var last error
	for range maxServiceRetries {
		c, err := n.pool.get(ctx, peer)
		if err != nil {
			return nil, fmt.Errorf("meshnet: open %s on %s: %w", name, peer, err)
		}
		s, err := c.OpenStream(ctx)
		if err == nil {
			if _, err = s.Write(appendHeader(nil, name)); err == nil {
				n.metrics.services.WithLabelValues(dirOut).Inc()
				return s, nil
			}
			s.Reset(CodeBadHeader)
		}
		last = err
		if ctx.Err() != nil || c.alive() {
			break // not the connection's fault
		}
	}
	return nil, fmt.Errorf("meshnet: open %s on %s: %w", name, peer, last)
}

// Doubt says that nothing is heard of peer, by whoever noticed it first: the control connections that are there now are
// passed over by OpenService, which dials anew, until something comes on them again. Their streams go on.
func (n *Network) Doubt(peer mesh.NodeID) { n.pool.doubt(peer) }

func appendHeader(b []byte, name string) []byte {
	b = append(b, serviceVersion, byte(len(name)))
	return append(b, name...)
}

// readHeader reads a service stream's header:
//
//	+-------------+-------------+----------------------+
//	| version = 1 | name length | name (1 to 64 bytes) |
//	+-------------+-------------+----------------------+
func readHeader(r io.Reader) (string, error) {
	var b [2 + maxServiceName]byte
	if _, err := io.ReadFull(r, b[:2]); err != nil {
		return "", err
	}
	if b[0] != serviceVersion {
		return "", fmt.Errorf("service header version %d, want %d", b[0], serviceVersion)
	}
	n := int(b[1])
	if n == 0 || n > maxServiceName {
		return "", fmt.Errorf("service name of %d bytes, want 1 to %d", n, maxServiceName)
	}
	if _, err := io.ReadFull(r, b[2:2+n]); err != nil {
		return "", err
	}
	return string(b[2 : 2+n]), nil
}

// serveControl accepts service streams until the connection ends. Each is answered by itself, so a slow one never
// holds up another; their number is bounded by Config.MaxStreams.
func (n *Network) serveControl(c *Conn) {
	defer n.pool.remove(c)
	for {
		s, err := c.AcceptStream(n.ctx)
		if err != nil {
			return
		}
		n.wg.Go(func() { n.serveStream(c.peer, s) })
	}
}

func (n *Network) serveStream(peer mesh.NodeID, s *Stream) {
	_ = s.SetReadDeadline(time.Now().Add(headerTimeout))
	name, err := readHeader(s)
	if err != nil {
		n.metrics.refused.WithLabelValues(refusedHeader).Inc()
		n.log.Debug("service stream refused", "node", peer, "err", err)
		s.Reset(CodeBadHeader)
		return
	}
	h, ok := n.services[name]
	if !ok {
		n.metrics.refused.WithLabelValues(refusedUnknown).Inc()
		n.log.Debug("unknown service asked for", "node", peer, "service", name)
		s.Reset(CodeUnknownService)
		return
	}
	_ = s.SetReadDeadline(time.Time{})
	n.metrics.services.WithLabelValues(dirIn).Inc()
	h(peer, s)
}

// selfAddr is where this node reaches itself.
func (n *Network) selfAddr() netip.AddrPort {
	a := n.LocalAddr()
	if !a.Addr().IsUnspecified() {
		return a
	}
	if a.Addr().Is4() {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), a.Port())
	}
	return netip.AddrPortFrom(netip.IPv6Loopback(), a.Port())
}
