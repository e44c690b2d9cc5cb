package cascade

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

// Deps is what a cascade needs of its surroundings.
type Deps struct {
	// Net carries control streams and lanes. New registers its handlers there.
	Net Network
	// Resolve tells where a node listens for other nodes; false when that is not known now. Any goroutine.
	Resolve func(mesh.NodeID) (netip.AddrPort, bool)
	// Local returns a source this node produces or receives, for a node that asks for it, or false when there is none
	// for that node. It is where a peer's right to a room's media is checked. Any goroutine; must not block.
	Local func(peer mesh.NodeID, room mesh.RoomName, id mesh.SourceID) (*rtpstream.Source, bool)
	// Relay returns a source of a third node as this node has it, RemoteSource.Media, for a peer that asks this node
	// for it; or false. Nil relays nothing. Any goroutine; must not block.
	Relay func(RelayRequest) (*rtpstream.Source, bool)
}

// RelayRequest is a peer's wish to get a third node's source from here.
type RelayRequest struct {
	Peer   mesh.NodeID
	Room   mesh.RoomName
	Origin mesh.NodeID // neither this node nor on the way to the peer
	Source mesh.Source // only what Cascade.Remote needs of it
	Waits  bool        // the peer wants nothing yet: this node is its way for when another one fails
}

// Cascade is this node's end of all its links. All exported methods are safe for concurrent use.
type Cascade struct {
	cfg      Config
	deps     Deps
	self     mesh.NodeID
	selfPath []mesh.NodeID // self alone; never changed
	log      *slog.Logger
	metrics  *metrics
	pool     rtpstream.Pool
	start    time.Time
	instance uint64 // names this run of the process to peers
	watchers watchers
	upDowns  atomic.Uint64 // changes of links between up and down
	flusher  *flusher
	features uint32 // this node greets with
	headlong bool   // links keep to no rate: for benchmarks, where a busy machine looks like a full path

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu      sync.Mutex
	state   runState                      // guarded by mu
	pending []func()                      // guarded by mu; goroutines asked for before Run
	peers   map[mesh.NodeID]*peer         // guarded by mu
	remotes map[remoteKey]*remote         // guarded by mu; sources of other nodes
	byMedia map[*rtpstream.Source]*remote // guarded by mu; the same by their media
}

type runState uint8

const (
	stateNew runState = iota
	stateRunning
	stateStopped
)

// New returns a cascade that starts nothing; Remote, Keep and WatchLinks may be called before Run and take effect
// with it. It must be called before deps.Net runs. A nil reg leaves the metrics unregistered.
func New(cfg Config, deps Deps, log *slog.Logger, reg prometheus.Registerer) (*Cascade, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if deps.Net == nil || deps.Resolve == nil || deps.Local == nil {
		return nil, errors.New("cascade: Net, Resolve and Local are all needed")
	}
	ctx, cancel := context.WithCancel(context.Background())
	c := &Cascade{
		cfg: cfg, deps: deps, self: deps.Net.NodeID(), selfPath: []mesh.NodeID{deps.Net.NodeID()}, log: log,
		start: time.Now(), instance: randomID(), features: features,
		ctx: ctx, cancel: cancel,
		peers: make(map[mesh.NodeID]*peer), remotes: make(map[remoteKey]*remote),
		byMedia: make(map[*rtpstream.Source]*remote),
	}
	c.watchers.wake = make(chan struct{}, 1)
	c.flusher = newFlusher()
	m, err := newMetrics(c, reg)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("cascade: metrics: %w", err)
	}
	c.metrics = m
	deps.Net.HandleControl(c.acceptControl)
	deps.Net.HandleMedia(c.acceptMedia)
	return c, nil
}

// Run keeps the links until ctx ends and returns nil after the last goroutine. It may be called once.
func (c *Cascade) Run(ctx context.Context) error {
	c.mu.Lock()
	if c.state != stateNew {
		c.mu.Unlock()
		return errors.New("cascade: Run called twice")
	}
	c.state = stateRunning
	c.wg.Go(func() { c.watchers.run(c.ctx) })
	c.wg.Go(func() { c.flusher.run(c.ctx) })
	for _, f := range c.pending {
		c.wg.Go(f)
	}
	c.pending = nil
	c.mu.Unlock()

	<-ctx.Done()
	c.mu.Lock()
	c.state = stateStopped
	c.mu.Unlock()
	c.cancel()
	c.wg.Wait()
	return nil
}

// spawnLocked starts a goroutine that Run waits for, with Run when that was not called yet. c.mu is held.
func (c *Cascade) spawnLocked(f func()) {
	switch c.state {
	case stateNew:
		c.pending = append(c.pending, f)
	case stateRunning:
		c.wg.Go(f)
	case stateStopped:
	}
}

// enter makes the calling goroutine one that Run waits for, until it calls leave. It reports false when the cascade
// does not run.
func (c *Cascade) enter() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state != stateRunning {
		return false
	}
	c.wg.Add(1)
	return true
}

func (c *Cascade) leave() { c.wg.Done() }

// now is the monotonic time since the cascade was made, never 0.
func (c *Cascade) now() time.Duration { return time.Since(c.start) + time.Millisecond }

// at is the same for a time that was taken before.
func (c *Cascade) at(t time.Time) time.Duration { return t.Sub(c.start) + time.Millisecond }

// peerLocked returns the record of a node, made when there is none. c.mu is held.
func (c *Cascade) peerLocked(id mesh.NodeID) *peer {
	p, ok := c.peers[id]
	if !ok {
		p = newPeer(c, id)
		c.peers[id] = p
		c.spawnLocked(p.run)
	}
	return p
}

// Keep holds a link to a node open until release is called; liveness and round trip of the node are then known. Calls
// add up. Release is idempotent.
func (c *Cascade) Keep(node mesh.NodeID) (release func()) {
	if node == c.self {
		return func() {}
	}
	c.mu.Lock()
	p := c.peerLocked(node)
	p.keeps++
	c.mu.Unlock()
	p.signal()
	var once sync.Once
	return func() {
		once.Do(func() {
			c.mu.Lock()
			p.keeps--
			c.mu.Unlock()
			p.signal()
		})
	}
}

// Alive tells whether the link to a node is up. It is not known when there is no link, or none that was up yet.
func (c *Cascade) Alive(node mesh.NodeID) (alive, known bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p, ok := c.peers[node]
	if !ok || p.link == nil {
		return false, false
	}
	return p.link.up.Load(), p.link.wasUp.Load()
}

// cutOff reports whether every other link that was up is silent too, be it a shorter while: then it is this node that is
// cut off, and says nothing of the others. With one link alone there is nobody to compare with.
func (c *Cascade) cutOff(l *link, now time.Duration) bool {
	quiet := l.live.doubtAfter()
	c.mu.Lock()
	defer c.mu.Unlock()
	others := 0
	for _, p := range c.peers {
		o := p.link
		if o == nil || o == l || !o.up.Load() {
			continue
		}
		if now-time.Duration(o.heard.Load()) <= quiet {
			return false
		}
		others++
	}
	return others > 0
}

// linkChanged tells that a link went up or down.
func (c *Cascade) linkChanged(node mesh.NodeID, up bool) {
	c.upDowns.Add(1)
	c.watchers.emit(node, up)
}

// WatchLinks calls f with every change of a link between up and down, in order, on one goroutine for all watchers and
// without a lock held: f may call back, and should not block. A link that comes and goes faster than f returns is told
// by its latest state. The links that are up now are not told: see Links. A call under way may still finish after
// cancel.
func (c *Cascade) WatchLinks(f func(node mesh.NodeID, up bool)) (cancel func()) {
	return c.watchers.add(f)
}

func randomID() uint64 {
	var b [8]byte
	if _, err := rand.Read(b[:]); err != nil {
		panic("cascade: no randomness: " + err.Error()) // crypto/rand never fails on supported systems
	}
	return binary.BigEndian.Uint64(b[:])
}
