package directory

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

const call mesh.RoomName = "call"

// cluster is a mesh in memory: nodes that reach each other or not, and one table of owners.
type cluster struct {
	t     *testing.T
	mu    sync.Mutex
	nodes map[mesh.NodeID]*node
	cut   map[[2]mesh.NodeID]bool
	pipes map[[2]mesh.NodeID][]net.Conn
	table map[mesh.RoomName]Ownership
	epoch uint64
}

// node is a directory and what its handler heard. It is the Network and the Owners of its directory, too.
type node struct {
	*Directory
	c        *cluster
	id       mesh.NodeID
	stop     func()
	dead     bool
	quorum   bool
	services map[string]func(mesh.NodeID, io.ReadWriteCloser)
	registry *prometheus.Registry
	watchers []func(mesh.RoomName, Ownership, bool)
	view     map[mesh.RoomName]Ownership

	meta     mesh.Room
	roster   map[mesh.ParticipantID]mesh.Participant
	gone     int // records told gone
	commands []Command
	data     []mesh.DataMessage
	ended    []int32
}

func withCluster(t *testing.T, ids []mesh.NodeID, f func(*cluster)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := &cluster{
			t: t, nodes: map[mesh.NodeID]*node{}, cut: map[[2]mesh.NodeID]bool{}, pipes: map[[2]mesh.NodeID][]net.Conn{},
			table: map[mesh.RoomName]Ownership{},
		}
		for _, id := range ids {
			c.start(id)
		}
		f(c)
		for _, n := range c.nodes {
			n.stop()
		}
	})
}

func (c *cluster) start(id mesh.NodeID) *node {
	n := &node{
		c: c, id: id, quorum: true, services: map[string]func(mesh.NodeID, io.ReadWriteCloser){},
		registry: prometheus.NewRegistry(),
		view:     map[mesh.RoomName]Ownership{}, roster: map[mesh.ParticipantID]mesh.Participant{},
	}
	var err error
	n.Directory, err = New(DefaultConfig(), Deps{Net: n, Owners: n, Alive: func(o mesh.NodeID) bool { return c.reaches(id, o) }, Handler: n},
		slog.New(slog.DiscardHandler), n.registry)
	require.NoError(c.t, err)
	c.mu.Lock()
	for name, o := range c.table {
		n.view[name] = o
	}
	c.nodes[id] = n
	c.mu.Unlock()
	ctx, cancel := context.WithCancel(c.t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = n.Run(ctx) })
	n.stop = func() { cancel(); wg.Wait() }
	synctest.Wait()
	return n
}

// kill ends a node without a goodbye.
func (c *cluster) kill(id mesh.NodeID) {
	c.mu.Lock()
	n := c.nodes[id]
	n.dead = true
	c.mu.Unlock()
	c.sever()
	n.stop()
}

// partition cuts a off from b; sides lists who keeps the quorum.
func (c *cluster) partition(a, b []mesh.NodeID) {
	c.mu.Lock()
	for _, x := range a {
		for _, y := range b {
			c.cut[pair(x, y)] = true
		}
		c.nodes[x].quorum = false
	}
	c.mu.Unlock()
	c.sever()
}

func (c *cluster) heal() {
	c.mu.Lock()
	clear(c.cut)
	for _, n := range c.nodes {
		n.quorum = true
	}
	c.mu.Unlock()
	c.publish()
}

func pair(a, b mesh.NodeID) [2]mesh.NodeID {
	if a > b {
		a, b = b, a
	}
	return [2]mesh.NodeID{a, b}
}

func (c *cluster) reachesLocked(a, b mesh.NodeID) bool {
	x, y := c.nodes[a], c.nodes[b]
	return x != nil && y != nil && !x.dead && !y.dead && !c.cut[pair(a, b)]
}

func (c *cluster) reaches(a, b mesh.NodeID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reachesLocked(a, b)
}

// sever closes the streams between nodes that no longer reach each other.
func (c *cluster) sever() {
	c.mu.Lock()
	var conns []net.Conn
	for k, list := range c.pipes {
		if !c.reachesLocked(k[0], k[1]) {
			conns = append(conns, list...)
			delete(c.pipes, k)
		}
	}
	c.mu.Unlock()
	for _, p := range conns {
		_ = p.Close()
	}
}

func (n *node) NodeID() mesh.NodeID { return n.id }

func (n *node) HandleService(name string, h func(mesh.NodeID, io.ReadWriteCloser)) {
	n.services[name] = h
}

func (n *node) OpenService(_ context.Context, peer mesh.NodeID, name string) (io.ReadWriteCloser, error) {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	if !n.c.reachesLocked(n.id, peer) {
		return nil, errors.New("unreachable")
	}
	here, there := net.Pipe()
	k := pair(n.id, peer)
	n.c.pipes[k] = append(n.c.pipes[k], here, there)
	go n.c.nodes[peer].services[name](n.id, there)
	return here, nil
}

// join opens the room and puts a participant whose identity is its ID up to the first dot.
func (n *node) join(id string) *Handle {
	h, _ := n.Open(call, mesh.Room{})
	h.Put(n.participant(id, 1))
	return h
}

func (n *node) participant(id string, version uint32) mesh.Participant {
	identity := id
	if i := slices.Index([]byte(id), '.'); i > 0 {
		identity = id[:i]
	}
	return mesh.Participant{
		ID: mesh.ParticipantID(id), Identity: mesh.Identity(identity), Node: n.id, Version: version, State: mesh.StateActive,
		JoinedAt: time.Now(), Sources: []mesh.Source{{ID: mesh.SourceID("TR_" + id), Kind: mesh.Video}},
	}
}

// owners returns which nodes believe that they own the room.
func (c *cluster) owners() (ids []mesh.NodeID) {
	synctest.Wait()
	for id, n := range c.nodes {
		for _, s := range n.Rooms() {
			if !n.dead && s.Room.Name == call && s.Role == RoleOwner {
				ids = append(ids, id)
			}
		}
	}
	slices.Sort(ids)
	return ids
}

func (c *cluster) quorum(has bool, ids ...mesh.NodeID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, id := range ids {
		c.nodes[id].quorum = has
	}
}

// pass lets time go by and everything that is due happen.
func (c *cluster) pass(d time.Duration) {
	c.mu.Lock()   // what the test read or wrote until now happened before
	c.mu.Unlock() //nolint:staticcheck // an empty critical section is the point
	time.Sleep(d)
	synctest.Wait()
}
