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

// publish brings every node with quorum up to date with the table.
func (c *cluster) publish() {
	type note struct {
		n    *node
		name mesh.RoomName
		o    Ownership
		ok   bool
	}
	var notes []note
	c.mu.Lock()
	for _, n := range c.nodes {
		if n.dead || !n.quorum {
			continue
		}
		for name, o := range c.table {
			if n.view[name] != o {
				n.view[name] = o
				notes = append(notes, note{n, name, o, true})
			}
		}
		for name, o := range n.view {
			if _, ok := c.table[name]; !ok {
				delete(n.view, name)
				notes = append(notes, note{n, name, o, false})
			}
		}
	}
	c.mu.Unlock()
	for _, x := range notes {
		c.mu.Lock()
		watchers := slices.Clone(x.n.watchers)
		c.mu.Unlock()
		for _, w := range watchers {
			w(x.name, x.o, x.ok)
		}
	}
}

var errQuorum = errors.New("no quorum")

// table runs f on the table as Raft would: with quorum, one at a time, 20 ms away.
func (n *node) commit(ctx context.Context, name mesh.RoomName, f func(Ownership, bool) (Ownership, bool)) (Ownership, error) {
	wait(ctx, 20*time.Millisecond)
	n.c.mu.Lock()
	if !n.quorum || n.dead {
		n.c.mu.Unlock()
		<-ctx.Done()
		return Ownership{}, errQuorum
	}
	o, ok := n.c.table[name]
	if o, ok = f(o, ok); ok {
		n.c.table[name] = o
	} else {
		delete(n.c.table, name)
	}
	n.c.mu.Unlock()
	n.c.publish()
	return o, nil
}

func (n *node) Claim(ctx context.Context, room mesh.RoomName, id mesh.RoomID, created time.Time) (Ownership, error) {
	return n.commit(ctx, room, func(o Ownership, ok bool) (Ownership, bool) {
		if !ok {
			n.c.epoch++
			o = Ownership{Node: n.id, Epoch: n.c.epoch, ID: id, Created: created}
		}
		return o, true
	})
}

func (n *node) Release(ctx context.Context, room mesh.RoomName, epoch uint64) error {
	_, err := n.commit(ctx, room, func(o Ownership, ok bool) (Ownership, bool) { return o, ok && o.Epoch != epoch })
	return err
}

func (n *node) Reassign(ctx context.Context, room mesh.RoomName, epoch uint64, to mesh.NodeID) (Ownership, error) {
	return n.commit(ctx, room, func(o Ownership, ok bool) (Ownership, bool) {
		if ok && o.Epoch == epoch {
			n.c.epoch++
			o.Node, o.Epoch = to, n.c.epoch
		}
		return o, ok
	})
}

func (n *node) Lookup(room mesh.RoomName) (Ownership, bool) {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	o, ok := n.view[room]
	return o, ok
}

func (n *node) Watch(f func(mesh.RoomName, Ownership, bool)) func() {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	n.watchers = append(n.watchers, f)
	return func() {}
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

func (n *node) RoomChanged(r mesh.Room) {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	n.meta = r
}

func (n *node) Participants(_ mesh.RoomName, changed []mesh.Participant) {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	for _, p := range changed {
		if p.State == mesh.StateDisconnected {
			n.gone++
			delete(n.roster, p.ID)
		} else {
			n.roster[p.ID] = p
		}
	}
}

func (n *node) Command(_ mesh.RoomName, _ mesh.ParticipantID, c Command) {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	n.commands = append(n.commands, c)
}

func (n *node) Data(_ mesh.RoomName, m mesh.DataMessage) {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	n.data = append(n.data, m)
}

func (n *node) Ended(_ mesh.RoomName, reason int32) {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	n.ended = append(n.ended, reason)
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

// sees asserts exactly which participants of other nodes the node knows, by its handler and by its snapshot alike.
func (n *node) sees(ids ...mesh.ParticipantID) {
	n.c.t.Helper()
	synctest.Wait()
	n.c.mu.Lock()
	var heard []mesh.ParticipantID
	for id := range n.roster {
		heard = append(heard, id)
	}
	n.c.mu.Unlock()
	require.ElementsMatch(n.c.t, ids, heard, "node %s", n.id)
	if r := n.find(call); r != nil {
		var known []mesh.ParticipantID
		r.mu.Lock()
		for _, p := range r.all(n.id) {
			known = append(known, p.ID)
		}
		r.mu.Unlock()
		require.ElementsMatch(n.c.t, ids, known, "node %s", n.id)
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

// counter returns the value of one of the node's counters without labels.
func (n *node) counter(name string) float64 {
	n.c.t.Helper()
	families, err := n.registry.Gather()
	require.NoError(n.c.t, err)
	for _, f := range families {
		if f.GetName() == "meridian_directory_"+name {
			return f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	require.Fail(n.c.t, "no such counter", name)
	return 0
}

// begin forgets what the handler heard of a former stay in the room: a stay begins with its snapshot.
func (n *node) begin(h *Handle) {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	_, others := h.Snapshot()
	clear(n.roster)
	for _, p := range others {
		n.roster[p.ID] = p
	}
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
