package directory

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/meridian-sfu/meridian/internal/mesh"
	pb "github.com/meridian-sfu/meridian/internal/meshpb/directorypb"
)

// Errors of the server API.
var (
	ErrNoRoom        = errors.New("directory: no such room")
	ErrNoParticipant = errors.New("directory: no such participant")
	ErrUnavailable   = errors.New("directory: the room's owner does not answer")
	ErrInvalid       = errors.New("directory: invalid request")
)

// Directory keeps the rooms this node takes part in equal to what they are elsewhere.
type Directory struct {
	cfg         Config
	deps        Deps
	log         *slog.Logger
	metrics     *metrics
	self        mesh.NodeID
	incarnation uint64

	mu       sync.Mutex
	ctx      context.Context // guarded by mu; nil unless Run runs
	wg       sync.WaitGroup  // added to under mu while ctx is set
	rooms    map[mesh.RoomName]*room
	lanes    map[incomingKey]*lane
	incoming map[incomingKey]*incoming
	peers    map[mesh.NodeID]uint64 // incarnation last met
	waiters  map[uint64]*waiter
	nextID   uint64
}

// New checks the configuration and registers the directory's services with the network. Rooms may be opened before Run;
// nothing is said to other nodes until then.
func New(cfg Config, deps Deps, log *slog.Logger, reg prometheus.Registerer) (*Directory, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if deps.Net == nil || deps.Owners == nil || deps.Alive == nil || deps.Handler == nil {
		return nil, fmt.Errorf("directory: all of Deps are required")
	}
	d := &Directory{
		cfg: cfg, deps: deps, log: log, metrics: newMetrics(reg), self: deps.Net.NodeID(),
		incarnation: uint64(time.Now().UnixNano()),
		rooms:       make(map[mesh.RoomName]*room),
		lanes:       make(map[incomingKey]*lane),
		incoming:    make(map[incomingKey]*incoming),
		peers:       make(map[mesh.NodeID]uint64),
		waiters:     make(map[uint64]*waiter),
	}
	for _, service := range []string{Service, LossyService} {
		deps.Net.HandleService(service, func(peer mesh.NodeID, s io.ReadWriteCloser) { d.serve(peer, service, s) })
	}
	return d, nil
}

// Run keeps the rooms until ctx ends and returns after the last goroutine. It returns nil, and may be called once.
func (d *Directory) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	d.mu.Lock()
	d.ctx = ctx
	for _, r := range d.rooms { // opened before Run
		d.wg.Go(func() { r.run(ctx) })
	}
	d.mu.Unlock()
	unwatch := d.deps.Owners.Watch(d.ownerChanged)
	<-ctx.Done()
	unwatch()
	d.mu.Lock()
	d.ctx = nil
	d.mu.Unlock()
	d.wg.Wait()
	return nil
}

// Open says that somebody here joins the room. It never waits: the record is provisional (no ID, no owner, epoch 0)
// until the room is known, and RoomChanged follows. meta holds the wanted settings should this join create the room;
// zero timeouts mean the configured ones. Close the Handle after the last participant left.
func (d *Directory) Open(name mesh.RoomName, meta mesh.Room) (*Handle, mesh.Room) {
	r, record := d.enterRoom(name, meta, true)
	if r == nil {
		d.log.Warn("too many rooms, this one stays alone", "room", string(name))
		meta.Name = name
		return &Handle{room: newRoom(d, name, meta)}, meta
	}
	return &Handle{room: r}, record
}

// enterRoom returns the room, beginning it if needed; open counts a handle on it. It returns nil beyond MaxRooms.
func (d *Directory) enterRoom(name mesh.RoomName, meta mesh.Room, open bool) (*room, mesh.Room) {
	known, ok := d.deps.Owners.Lookup(name)
	d.mu.Lock()
	defer d.mu.Unlock()
	r := d.rooms[name]
	if r == nil || r.over() {
		if len(d.rooms) >= d.cfg.MaxRooms {
			return nil, mesh.Room{}
		}
		r = newRoom(d, name, meta)
		if ok {
			r.meta = withOwnership(r.meta, known)
		}
		d.rooms[name] = r
		if d.ctx != nil {
			ctx := d.ctx
			d.wg.Go(func() { r.run(ctx) })
		}
	}
	return r, r.enter(open)
}

func (d *Directory) find(name mesh.RoomName) *room {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rooms[name]
}

// forget takes a room off the list unless somebody entered it. It reports whether the room is off.
func (d *Directory) forget(r *room, must bool) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.rooms[r.name] != r {
		return true // replaced after it ended
	}
	if !must && r.occupied() {
		return false
	}
	delete(d.rooms, r.name)
	return true
}

// ownerChanged is called by the table of owners.
func (d *Directory) ownerChanged(name mesh.RoomName, o Ownership, ok bool) {
	r := d.find(name)
	if r == nil && ok && o.Node == d.self {
		r, _ = d.enterRoom(name, mesh.Room{}, false) // made the owner: end it at least
	}
	if r != nil {
		r.ownerHeard(o, ok)
	}
}

// met is told the incarnation of a peer by each new stream. A new one has forgotten what the old one reported.
func (d *Directory) met(peer mesh.NodeID, incarnation uint64) {
	d.mu.Lock()
	before, known := d.peers[peer]
	if incarnation <= before {
		d.mu.Unlock()
		return
	}
	d.peers[peer] = incarnation
	d.mu.Unlock()
	if known {
		d.log.Info("node restarted", "node", string(peer))
		d.everywhere(func(r *room) { r.restarted(peer) })
	}
}

// reconnected is told by a lane that is up again after frames were lost.
func (d *Directory) reconnected(peer mesh.NodeID) {
	d.everywhere(func(r *room) { r.reconnected(peer) })
}

func (d *Directory) everywhere(f func(*room)) {
	d.mu.Lock()
	rooms := make([]*room, 0, len(d.rooms))
	for _, r := range d.rooms {
		rooms = append(rooms, r)
	}
	ctx := d.ctx
	d.mu.Unlock()
	if ctx == nil {
		return
	}
	for _, r := range rooms {
		r.post(ctx, func() { f(r) })
	}
}

// spawn runs f in a goroutine that Run waits for. It reports false unless Run runs.
func (d *Directory) spawn(f func(context.Context)) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ctx == nil {
		return false
	}
	ctx := d.ctx
	d.wg.Go(func() { f(ctx) })
	return true
}

// enter counts a goroutine that is not ours in.
func (d *Directory) enter() (ctx context.Context, leave func(), ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ctx == nil {
		return nil, nil, false
	}
	d.wg.Add(1)
	return d.ctx, d.wg.Done, true
}

func (d *Directory) lane(peer mesh.NodeID, service string) *lane {
	d.mu.Lock()
	defer d.mu.Unlock()
	key := incomingKey{peer, service}
	l := d.lanes[key]
	if l == nil {
		l = &lane{d: d, peer: peer, service: service, lossy: service == LossyService, wake: make(chan struct{}, 1)}
		d.lanes[key] = l
	}
	return l
}

// tell queues a frame for a peer.
func (d *Directory) tell(peer mesh.NodeID, f *pb.Frame) {
	b, err := encode(f)
	if err != nil {
		d.metrics.dropped.WithLabelValues(dropInvalid).Inc()
		d.log.Warn("frame cannot be sent", "node", string(peer), "err", err)
		return
	}
	d.lane(peer, Service).send(b)
}
