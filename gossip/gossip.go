package gossip

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/meshnet"
)

// ErrNameConflict is returned by Run when another live process of the mesh bears this node's ID.
var ErrNameConflict = errors.New("another live process bears this node's ID")

// Gossip is this node's view of who belongs to the mesh. All methods are safe for concurrent use and never block on
// the network.
type Gossip struct {
	cfg       Config
	log       *slog.Logger
	metrics   *metrics
	transport *transport
	coords    *coordinates
	events    *dispatcher
	notices   *memberlist.TransmitLimitedQueue

	self    atomic.Pointer[mesh.NodeInfo] // always encodable; never changed, only replaced
	dirty   chan struct{}                 // capacity 1: self changed
	twins   chan netip.AddrPort           // capacity 1: an address that claims our ID
	ran     atomic.Bool
	list    atomic.Pointer[memberlist.Memberlist] // nil unless running
	lastErr atomic.Pointer[string]                // why the last attempt to join failed

	mu      sync.RWMutex
	members map[mesh.NodeID]mesh.NodeInfo // guarded by mu; live ones but self
	lost    map[mesh.NodeID]lostMember    // guarded by mu; failed, perhaps behind a partition
	leaving map[mesh.NodeID]time.Time     // guarded by mu; said goodbye
}

// Status is how gossip fares.
type Status struct {
	Self        mesh.NodeInfo
	Members     int    // live members, this node included
	Lost        int    // members that failed and are still looked for
	Alone       bool   // no other member is live
	HealthScore int    // memberlist's awareness: 0 is healthy, more is a node that hears late
	JoinError   string // why the last attempt to join failed; empty if it worked or none was needed
}

// New prepares gossip for this node over net, whose handler for ALPNGossip it becomes: call it before net.Run. self
// tells what others shall know; its ID must be net's, its MeshAddr is replaced by cfg.Advertise if that is set.
// Nothing starts before Run. Errors name every field of self that is wrong or too long.
func New(cfg Config, net *meshnet.Network, self mesh.NodeInfo, log *slog.Logger, reg prometheus.Registerer) (*Gossip, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if self.ID != net.NodeID() {
		return nil, fmt.Errorf("gossip: node ID %q is not the certificate's %q", self.ID, net.NodeID())
	}
	if cfg.Advertise.IsValid() {
		self.MeshAddr = cfg.Advertise
	} else if !self.MeshAddr.IsValid() {
		self.MeshAddr = net.LocalAddr()
	}
	self.MeshAddr = netip.AddrPortFrom(self.MeshAddr.Addr().Unmap(), self.MeshAddr.Port())
	if !self.MeshAddr.IsValid() || self.MeshAddr.Addr().IsUnspecified() || self.MeshAddr.Port() == 0 {
		return nil, fmt.Errorf("gossip: advertise: must be set, other nodes cannot reach %s", self.MeshAddr)
	}
	if _, err := encodeMeta(self); err != nil {
		return nil, fmt.Errorf("gossip: %w", err)
	}
	m, err := newMetrics(reg)
	if err != nil {
		return nil, fmt.Errorf("gossip: metrics: %w", err)
	}
	g := &Gossip{
		cfg: cfg, log: log, metrics: m, events: newDispatcher(),
		dirty: make(chan struct{}, 1), twins: make(chan netip.AddrPort, 1),
		members: make(map[mesh.NodeID]mesh.NodeInfo),
		lost:    make(map[mesh.NodeID]lostMember),
		leaving: make(map[mesh.NodeID]time.Time),
	}
	g.coords, err = newCoordinates(self.ID, func(id mesh.NodeID) bool { _, ok := g.Lookup(id); return ok })
	if err != nil {
		return nil, err
	}
	g.notices = &memberlist.TransmitLimitedQueue{NumNodes: g.count, RetransmitMult: 4}
	g.self.Store(&self)
	m.members.WithLabelValues(string(self.Region)).Inc()
	g.transport = newTransport(net, self.MeshAddr, g.Resolve, log, m)
	g.transport.onSelf = g.suspectTwin
	net.Handle(meshnet.ALPNGossip, g.transport.accept)
	return g, nil
}

// Members returns all live members, this node included, sorted by ID. The caller owns the slice.
func (g *Gossip) Members() []mesh.NodeInfo {
	g.mu.RLock()
	all := make([]mesh.NodeInfo, 0, len(g.members)+1)
	for _, n := range g.members {
		all = append(all, n)
	}
	g.mu.RUnlock()
	all = append(all, *g.self.Load())
	slices.SortFunc(all, func(a, b mesh.NodeInfo) int { return cmp.Compare(a.ID, b.ID) })
	return all
}

// Lookup returns a live member, or this node.
func (g *Gossip) Lookup(id mesh.NodeID) (mesh.NodeInfo, bool) {
	if self := g.self.Load(); self.ID == id {
		return *self, true
	}
	g.mu.RLock()
	defer g.mu.RUnlock()
	n, ok := g.members[id]
	return n, ok
}

// Resolve returns the mesh address of a live member, for meshnet.SetResolver.
func (g *Gossip) Resolve(id mesh.NodeID) (netip.AddrPort, bool) {
	n, ok := g.Lookup(id)
	return n.MeshAddr, ok
}

// UpdateSelf changes what others know of this node. f may run more than once, and must only change its argument; ID
// and mesh address stay as they are. Changes reach others together, at most once a second. A change that others would
// refuse (see New) is not made, and logged.
func (g *Gossip) UpdateSelf(f func(*mesh.NodeInfo)) {
	for {
		old := g.self.Load()
		next := *old
		f(&next)
		next.ID, next.MeshAddr = old.ID, old.MeshAddr
		if next == *old {
			return
		}
		if _, err := encodeMeta(next); err != nil {
			g.log.Warn("update of this node's metadata refused", "err", err)
			return
		}
		if !g.self.CompareAndSwap(old, &next) {
			continue
		}
		if next.Region != old.Region {
			g.metrics.members.WithLabelValues(string(old.Region)).Dec()
			g.metrics.members.WithLabelValues(string(next.Region)).Inc()
		}
		select {
		case g.dirty <- struct{}{}:
		default:
		}
		return
	}
}

// Subscribe makes f hear of every later change of other members, in order and from one goroutine, while Run runs. f
// may block, and then delays all subscribers. Members called after Subscribe returned misses nothing that f is not told.
// After cancel returned, f may still be in its last call.
func (g *Gossip) Subscribe(f func(Event)) (cancel func()) { return g.events.subscribe(f) }

// RTT returns the measured round-trip time to a live member: the lowest of the last pings. False until one was answered.
func (g *Gossip) RTT(node mesh.NodeID) (time.Duration, bool) { return g.coords.rtt(node) }

// Distance returns the expected round-trip time between two live members: measured if one is this node, else estimated
// from network coordinates. False while it is not known.
func (g *Gossip) Distance(a, b mesh.NodeID) (time.Duration, bool) { return g.coords.distance(a, b) }

// Status returns how gossip fares.
func (g *Gossip) Status() Status {
	g.mu.RLock()
	s := Status{Self: *g.self.Load(), Members: len(g.members) + 1, Lost: len(g.lost), Alone: len(g.members) == 0}
	g.mu.RUnlock()
	if m := g.list.Load(); m != nil {
		s.HealthScore = m.GetHealthScore()
	}
	if e := g.lastErr.Load(); e != nil {
		s.JoinError = *e
	}
	return s
}

// count returns the number of live members, this node included.
func (g *Gossip) count() int {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return len(g.members) + 1
}

// suspectTwin asks the conflict loop to look who answers at addr.
func (g *Gossip) suspectTwin(addr netip.AddrPort) {
	if addr == g.self.Load().MeshAddr {
		return
	}
	select {
	case g.twins <- addr:
	default:
	}
}
