package node

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/meridian-sfu/meridian/cascade"
	"github.com/meridian-sfu/meridian/cascade/upstream"
	"github.com/meridian-sfu/meridian/geo"
	"github.com/meridian-sfu/meridian/gossip"
	"github.com/meridian-sfu/meridian/gossip/ownership"
	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/meshnet"
	"github.com/meridian-sfu/meridian/internal/token"
	"github.com/meridian-sfu/meridian/node/api"
	"github.com/meridian-sfu/meridian/node/directory"
	"github.com/meridian-sfu/meridian/node/sfm"
	"github.com/meridian-sfu/meridian/node/signal"
)

const (
	tickInterval  = time.Second
	loadInterval  = 2 * time.Second
	drainDeadline = 10 * time.Second
)

// Node is one process of the mesh: every room of the house, built and introduced to each other.
type Node struct {
	cfg     Config
	log     *slog.Logger
	metrics *metrics
	started time.Time

	socket    net.PacketConn // under mesh; nil when mesh opened its own
	mesh      *meshnet.Network
	gossip    *gossip.Gossip
	ownership *ownership.Ownership
	cascade   *cascade.Cascade
	upstreams *upstream.Router
	directory *directory.Directory
	sfm       *sfm.SFM
	signal    *signal.Server
	api       *api.API
	geo       *geo.Database
	http      *http.Server
	listener  net.Listener

	rates    rateMeter
	draining atomic.Bool
	ready    atomic.Bool // latched: a node that was ready stays so without quorum

	mu       sync.Mutex
	rooms    map[mesh.RoomName]*hallRoom // guarded by mu
	media    map[mesh.SourceID]local     // guarded by mu; sources produced here
	roomLoop sync.WaitGroup

	watched map[mesh.NodeID]func() // used by runRooms only; links held for the ownership group
}

// New builds a node. It binds every port, so that a port in use is an error here, and starts nothing. reg also serves /metrics
// when it is a Gatherer.
func New(cfg Config, log *slog.Logger, reg prometheus.Registerer) (*Node, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if place, ok := PlaceOfRegion(cfg.Region); ok && cfg.Latitude == 0 && cfg.Longitude == 0 {
		cfg.Latitude, cfg.Longitude = place.Latitude, place.Longitude
	}
	n := &Node{
		cfg:     cfg,
		log:     log,
		started: time.Now(),
		rooms:   map[mesh.RoomName]*hallRoom{},
		media:   map[mesh.SourceID]local{},
		watched: map[mesh.NodeID]func(){},
	}
	n.metrics = newMetrics(reg, n)
	for _, build := range []func(prometheus.Registerer) error{n.buildMesh, n.buildOwnership, n.buildMedia, n.buildDoors} {
		if err := build(reg); err != nil {
			n.unbind()
			return nil, err
		}
	}
	return n, nil
}

// unbind gives the ports back when New fails halfway. What never ran is closed by running it for no time.
func (n *Node) unbind() {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if n.mesh != nil {
		_ = n.mesh.Close()
	}
	if n.sfm != nil {
		_ = n.sfm.Run(ended)
	}
	if n.ownership != nil {
		_ = n.ownership.Close()
	}
	if n.listener != nil {
		_ = n.listener.Close()
	}
}

func (n *Node) buildMesh(reg prometheus.Registerer) error {
	id, err := meshnet.LoadIdentity(n.cfg.Mesh.CAFile, n.cfg.Mesh.CertFile, n.cfg.Mesh.KeyFile)
	if err != nil {
		return err
	}
	if id.NodeID() != n.cfg.ID {
		return fmt.Errorf("node: %s is the certificate of node %q, but node.id is %q: issue one with 'meridian ca issue --node %s'",
			n.cfg.Mesh.CertFile, id.NodeID(), n.cfg.ID, n.cfg.ID)
	}
	if n.socket, err = n.meshConn(); err != nil {
		return err
	}
	mc := meshnet.DefaultConfig()
	mc.Listen, mc.Direct = n.cfg.Mesh.Listen, n.cfg.Mesh.Direct
	if n.mesh, err = meshnet.New(mc, id, n.socket, n.log, reg); err != nil {
		return fmt.Errorf("node: mesh.listen: %w", err)
	}

	gc := gossip.DefaultConfig()
	gc.Seeds, gc.Advertise, gc.Profile = n.cfg.Mesh.Seeds, n.cfg.Mesh.advertise(), n.cfg.Mesh.Profile
	n.gossip, err = gossip.New(gc, n.mesh, mesh.NodeInfo{
		ID: n.cfg.ID, Region: n.cfg.Region, Zone: n.cfg.Zone, MeshAddr: n.cfg.Mesh.advertise(), ClientURL: n.cfg.HTTP.clientURL(),
		Latitude: n.cfg.Latitude, Longitude: n.cfg.Longitude, Version: n.cfg.Version,
	}, n.log, reg)
	if err != nil {
		return err
	}
	n.mesh.SetResolver(n.gossip.Resolve)
	return nil
}

func (n *Node) buildOwnership(reg prometheus.Registerer) (err error) {
	oc := ownership.DefaultConfig()
	oc.DataDir, oc.Bootstrap = filepath.Join(n.cfg.DataDir, "ownership"), n.cfg.Mesh.Bootstrap
	if len(n.cfg.Mesh.Seeds) == 0 {
		oc.BootstrapWait = 0 // nobody to wait for
	}
	n.ownership, err = ownership.New(oc, ownership.Deps{
		Net:     ownership.OverMeshnet(n.mesh),
		Members: n.gossip.Members,
		Alive:   n.alive,
		AnnounceCluster: func(id string) {
			n.gossip.UpdateSelf(func(self *mesh.NodeInfo) { self.RaftCluster = id })
		},
	}, n.log, reg)
	return err
}

func (n *Node) buildMedia(reg prometheus.Registerer) (err error) {
	cc := cascade.DefaultConfig()
	cc.Lanes, cc.Linger = n.cfg.Mesh.Lanes, n.cfg.Mesh.Linger
	if n.upstreams, err = upstream.New(n.upstreamDeps(), n.log); err != nil {
		return err
	}
	n.cascade, err = cascade.New(cc, cascade.Deps{
		Net: cascade.Over(n.mesh), Resolve: n.gossip.Resolve, Local: n.mediaFor, Relay: n.upstreams.Relay,
	}, n.log, reg)
	if err != nil {
		return err
	}
	n.upstreams.Use(n.cascade)
	dc := directory.DefaultConfig()
	dc.EmptyTimeout, dc.DepartureTimeout = n.cfg.Rooms.EmptyTimeout, n.cfg.Rooms.DepartureTimeout
	n.directory, err = directory.New(dc, directory.Deps{
		Net: directory.OverMeshnet(n.mesh), Owners: owners{n.ownership, n.cfg.ID}, Alive: n.alive, Handler: n,
	}, n.log, reg)
	if err != nil {
		return err
	}
	sc := sfm.DefaultConfig()
	sc.UDPPort, sc.TCPPort = n.cfg.Media.UDPPort, n.cfg.Media.TCPPort
	sc.Advertised, sc.IncludeLoopback = n.cfg.Media.Addresses, n.cfg.Media.IncludeLoopback
	if n.cfg.Media.TCPPort == 0 {
		sc.TCPPort = -1 // 0 lets the SFM choose a port, which no firewall would know
	}
	if addr := n.cfg.HTTP.Listen.Addr(); n.cfg.Media.IncludeLoopback && addr.IsLoopback() {
		sc.Listen = []netip.Addr{addr} // dev: nothing of it leaves this machine
	}
	n.sfm, err = sfm.New(sc, n.log, reg)
	return err
}

func (n *Node) buildDoors(reg prometheus.Registerer) (err error) {
	if n.geo, err = geo.Open(n.cfg.Geo.Database); err != nil {
		return err
	}
	sc := signal.DefaultConfig()
	sc.NodeID, sc.Region, sc.SoftwareVersion = n.cfg.ID, n.cfg.Region, n.cfg.Version
	sc.ClientAddr = n.clientAddr
	if n.signal, err = signal.New(sc, func() token.Keys { return n.cfg.Keys }, n, n.log, reg); err != nil {
		return err
	}
	ac := api.DefaultConfig()
	ac.Keys, ac.TrustedProxies, ac.AdminToken = n.cfg.Keys, n.cfg.HTTP.TrustedProxies, n.cfg.HTTP.AdminToken
	ac.AllowFakeAddress, ac.OpenStatus, ac.ServeMetrics = n.cfg.HTTP.AllowFakeAddress, n.cfg.HTTP.OpenStatus, n.cfg.HTTP.Metrics
	if n.cfg.HTTP.OpenTokens {
		ac.TokenPolicy = api.TokensOpen
	}
	gatherer, _ := reg.(prometheus.Gatherer)
	deps := api.Deps{Edges: n.edges, Ready: n.notReady, Status: n.status, Rooms: (*roomsAPI)(n), Gatherer: gatherer}
	if n.api, err = api.New(ac, deps, n.log, reg); err != nil {
		return err
	}
	return n.buildHTTP()
}

// component is one part of the node while it runs.
type component struct {
	name string
	run  func(context.Context) error
}

// Run runs the node until ctx ends or a part of it fails, then stops it in the reverse order of its start: clients first, the
// mesh's socket last. It returns the failure, or nil.
func (n *Node) Run(ctx context.Context) error {
	components := []component{
		{"meshnet", n.mesh.Run},
		{"gossip", n.gossip.Run},
		{"ownership", n.ownership.Run},
		{"cascade", n.cascade.Run},
		{"upstreams", n.upstreams.Run},
		{"directory", n.directory.Run},
		{"sfm", n.sfm.Run},
		{"rooms", n.runRooms},
		{"signal", n.signal.Run},
		{"http", n.runHTTP},
	}
	failed := make(chan error, len(components))
	stops := make([]func(), 0, len(components))
	for _, c := range components {
		own, cancel := context.WithCancel(context.WithoutCancel(ctx))
		done := make(chan struct{})
		go func() {
			defer close(done)
			err := c.run(own)
			switch {
			case own.Err() != nil && (err == nil || errors.Is(err, context.Canceled)):
			case err == nil:
				failed <- fmt.Errorf("node: %s ended by itself", c.name)
			default:
				failed <- fmt.Errorf("node: %s: %w", c.name, err)
			}
		}()
		stops = append(stops, func() { cancel(); <-done })
	}
	n.log.Info("node started", "node", n.cfg.ID, "region", n.cfg.Region, "http", n.listener.Addr().String(), "mesh", n.cfg.Mesh.advertise().String())
	var err error
	select {
	case <-ctx.Done():
		n.drain()
	case err = <-failed:
	}
	for i := len(stops) - 1; i >= 0; i-- {
		stops[i]()
	}
	n.log.Info("node stopped", "node", n.cfg.ID)
	return err
}

// alive reports whether a node is there, by the fastest witness: the link when there is one, else gossip.
func (n *Node) alive(id mesh.NodeID) bool {
	if id == n.cfg.ID {
		return true
	}
	_, member := n.gossip.Lookup(id)
	if alive, known := n.cascade.Alive(id); known {
		return alive && member
	}
	return member
}

func randomBytes(size int) []byte {
	b := make([]byte, size)
	if _, err := rand.Read(b); err != nil {
		panic("node: no randomness: " + err.Error()) // crypto/rand never fails on supported systems
	}
	return b
}
