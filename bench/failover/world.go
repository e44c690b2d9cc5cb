package failover

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"github.com/meridian-sfu/meridian/cascade"
	"github.com/meridian-sfu/meridian/cascade/route"
	"github.com/meridian-sfu/meridian/cascade/upstream"
	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/meshnet"
	"github.com/meridian-sfu/meridian/internal/rtpstream"
	"github.com/meridian-sfu/meridian/internal/testnet"
)

// The nodes: origin, watcher, its neighbour, and those that may be detours.
const (
	origin    mesh.NodeID = "a"
	watcher   mesh.NodeID = "w"
	neighbour mesh.NodeID = "w2"
	relayB    mesh.NodeID = "b"
	relayD    mesh.NodeID = "d"
)

const meshPort = 7700

// world is a mesh of one trial.
type world struct {
	net     *testnet.Switch
	members []route.Node
	addrs   map[mesh.NodeID]netip.AddrPort
	rtts    map[[2]mesh.NodeID]time.Duration
	nodes   map[mesh.NodeID]*node
}

// node is one node of it.
type node struct {
	id      mesh.NodeID
	cascade *cascade.Cascade
	router  *upstream.Router
	cancel  context.CancelFunc
	ended   sync.WaitGroup

	mu      sync.Mutex
	sources map[mesh.SourceID]*rtpstream.Source // guarded by mu; published here
}

// newWorld makes the nodes of a scenario, a round trip between each two drawn from the range of cfg. Where the direct way
// would be left for a detour in good days, it is drawn again.
func newWorld(ctx context.Context, cfg *Config, rnd *rand.Rand, log *slog.Logger) (*world, error) {
	ca, err := meshnet.NewCA("failover", time.Hour)
	if err != nil {
		return nil, err
	}
	w := &world{
		net: testnet.NewSwitch(rnd.Uint64()), addrs: map[mesh.NodeID]netip.AddrPort{},
		rtts: map[[2]mesh.NodeID]time.Duration{}, nodes: map[mesh.NodeID]*node{},
	}
	for i, id := range cfg.Scenario.nodes() {
		region := mesh.Region(id)
		if id == neighbour {
			region = mesh.Region(watcher)
		}
		w.members = append(w.members, route.Node{ID: id, Region: region})
		w.addrs[id] = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)}), meshPort)
	}
	for i, x := range w.members {
		for _, y := range w.members[:i] {
			rtt := cfg.MinRTT + time.Duration(rnd.Int64N(int64(cfg.MaxRTT-cfg.MinRTT)+1))
			switch direct := w.rtts[[2]mesh.NodeID{watcher, origin}]; {
			case x.Region == y.Region:
				rtt = time.Millisecond
			case cfg.Scenario == BlackHole && x.ID == relayB && y.ID == watcher: // the last leg
				for rtt+w.rtts[[2]mesh.NodeID{relayB, origin}] < direct {
					rtt = cfg.MinRTT + time.Duration(rnd.Int64N(int64(cfg.MaxRTT-cfg.MinRTT)+1))
				}
			}
			w.rtts[[2]mesh.NodeID{x.ID, y.ID}], w.rtts[[2]mesh.NodeID{y.ID, x.ID}] = rtt, rtt
			link := testnet.Link{Delay: rtt / 2, Jitter: cfg.Jitter, Loss: cfg.Loss}
			if err := w.net.SetPair(w.addrs[x.ID].Addr(), w.addrs[y.ID].Addr(), link); err != nil {
				return nil, err
			}
		}
	}
	for _, m := range w.members {
		n, err := w.start(ctx, ca, m, log.With("at", m.ID))
		if err != nil {
			w.close()
			return nil, fmt.Errorf("failover: node %s: %w", m.ID, err)
		}
		w.nodes[m.ID] = n
	}
	return w, nil
}

func (w *world) start(ctx context.Context, ca *meshnet.CA, m route.Node, log *slog.Logger) (*node, error) {
	cert, key, err := ca.Issue(m.ID, time.Hour)
	if err != nil {
		return nil, err
	}
	id, err := meshnet.NewIdentity(ca.CertPEM(), cert, key)
	if err != nil {
		return nil, err
	}
	pc, err := w.net.Listen(w.addrs[m.ID])
	if err != nil {
		return nil, err
	}
	nw, err := meshnet.New(meshnet.DefaultConfig(), id, pc, log, nil)
	if err != nil {
		return nil, err
	}
	resolve := func(id mesh.NodeID) (netip.AddrPort, bool) {
		a, ok := w.addrs[id]
		return a, ok
	}
	nw.SetResolver(resolve)
	n := &node{id: m.ID, sources: map[mesh.SourceID]*rtpstream.Source{}}
	n.router, err = upstream.New(upstream.Deps{
		Self: m.ID, Region: m.Region,
		Members:  func() []route.Node { return w.members },
		RegionOf: w.regionOf,
		Distance: func(a, b mesh.NodeID) (time.Duration, bool) {
			rtt, ok := w.rtts[[2]mesh.NodeID{a, b}]
			return rtt, ok
		},
		Subscribe: func(func()) (cancel func()) { return func() {} },
	}, log)
	if err != nil {
		return nil, err
	}
	n.cascade, err = cascade.New(cascade.DefaultConfig(), cascade.Deps{
		Net: cascade.Over(nw), Resolve: resolve, Local: n.local, Relay: n.router.Relay,
	}, log, nil)
	if err != nil {
		return nil, err
	}
	n.router.Use(n.cascade)
	ctx, n.cancel = context.WithCancel(ctx)
	for _, run := range []func(context.Context) error{nw.Run, n.cascade.Run, n.router.Run} {
		n.ended.Go(func() { _ = run(ctx) }) // what ends early is missed by the sinks
	}
	return n, nil
}

func (n *node) local(_ mesh.NodeID, _ mesh.RoomName, id mesh.SourceID) (*rtpstream.Source, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	src, ok := n.sources[id]
	return src, ok
}

func (n *node) publish(src *rtpstream.Source) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.sources[mesh.SourceID(src.Info.ID)] = src
}

func (w *world) regionOf(id mesh.NodeID) (mesh.Region, bool) {
	for _, m := range w.members {
		if m.ID == id {
			return m.Region, true
		}
	}
	return "", false
}

// cut lets nothing pass between two nodes any more, not even what is on its way. With heal it is as before.
func (w *world) cut(a, b mesh.NodeID) {
	w.net.Block(w.addrs[a].Addr(), w.addrs[b].Addr())
	w.net.Block(w.addrs[b].Addr(), w.addrs[a].Addr())
}

func (w *world) heal(a, b mesh.NodeID) {
	w.net.Unblock(w.addrs[a].Addr(), w.addrs[b].Addr())
	w.net.Unblock(w.addrs[b].Addr(), w.addrs[a].Addr())
}

// kill makes a node fall silent towards everybody at once, without a word, as a process that was killed does.
func (w *world) kill(id mesh.NodeID) {
	for _, m := range w.members {
		if m.ID != id {
			w.cut(id, m.ID)
		}
	}
}

func (w *world) close() {
	for _, n := range w.nodes {
		n.cancel()
	}
	for _, n := range w.nodes {
		n.ended.Wait()
	}
	_ = w.net.Close() // never fails
}
