package upstream

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/meridian-sfu/meridian/cascade"
	"github.com/meridian-sfu/meridian/cascade/route"
	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

const (
	routeInterval  = 200 * time.Millisecond // between looks at what is pulled, for refusals and ends
	reviewInterval = time.Second            // between reviews of all routes when nothing happened
	avoidTime      = 10 * time.Second       // a node that refused to relay a source is not asked again sooner
	askedTime      = 2 * time.Second        // a node that asked counts as served until its flow is there
	partingTime    = 3 * time.Second        // for nodes that pull from here to go elsewhere, when this one leaves
	maxUpstreams   = 1 << 14                // sources of other nodes brought here at once
	maxSpares      = 16                     // nodes to which links are kept for the case that others fail
)

// Deps is what a router needs of its surroundings. The functions are called from any goroutine and must not block.
type Deps struct {
	Self   mesh.NodeID
	Region mesh.Region
	// Members are the nodes of the mesh that are there, this one among them.
	Members func() []route.Node
	// RegionOf tells where a member stands; false for a node that is none.
	RegionOf func(mesh.NodeID) (mesh.Region, bool)
	// Distance is the round trip to be expected between two nodes, where nobody measured it; false when it is not known.
	Distance func(a, b mesh.NodeID) (time.Duration, bool)
	// Subscribe calls f after each change of Members until cancel.
	Subscribe func(f func()) (cancel func())
}

// Router brings sources of other nodes here: for those who watch here, and for nodes that pull them from here because
// this node is their region's gateway, or their detour. Each comes once, from where package route says. Its methods
// may be called by any goroutine, after Use.
type Router struct {
	deps    Deps
	log     *slog.Logger
	cascade *cascade.Cascade
	started time.Time
	links   *linkState
	wake    chan struct{}

	mu     sync.Mutex
	all    map[Key]*upstream   // guarded by mu
	view   *route.Snapshot     // guarded by mu; nil before the first
	spares map[mesh.NodeID]int // guarded by mu; nodes that are somebody's spare way, and of how many sources
}

// Key names a source of another node.
type Key struct {
	Room   mesh.RoomName
	Source mesh.SourceID
	Origin mesh.NodeID
}

type upstream struct {
	key    Key
	remote *cascade.RemoteSource

	// Guarded by Router.mu.
	users int                       // rooms here in which it is watched
	asked map[mesh.NodeID]question  // nodes that wanted it from here, and when last
	avoid map[mesh.NodeID]time.Time // nodes not to pull it from, and until when
	route route.Route
	spare route.Way // From is "" when there is none
	twin  bool      // the spare way is always used
}

// question is a node's wish to get a source from here.
type question struct {
	at    time.Time
	waits bool // for another way to fail
}

// New returns a router that starts nothing. Relay may be given to cascade.New at once; Use must follow before either runs.
func New(deps Deps, log *slog.Logger) (*Router, error) {
	if deps.Members == nil || deps.RegionOf == nil || deps.Distance == nil || deps.Subscribe == nil {
		return nil, errors.New("upstream: Members, RegionOf, Distance and Subscribe are all needed")
	}
	r := &Router{
		deps: deps, log: log, started: time.Now(), wake: make(chan struct{}, 1), all: map[Key]*upstream{}, spares: map[mesh.NodeID]int{},
	}
	r.links = newLinkState(r)
	return r, nil
}

// Use says over which cascade sources come.
func (r *Router) Use(c *cascade.Cascade) { r.cascade = c }

// Watch brings a source here for a room's participants. Each watch is paired with an Unwatch.
func (r *Router) Watch(room mesh.RoomName, source mesh.Source, origin mesh.NodeID) *rtpstream.Source {
	up := r.open(room, source, origin, func(up *upstream) { up.users++ })
	return up.remote.Media()
}

// Unwatch ends a Watch.
func (r *Router) Unwatch(key Key) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if up := r.all[key]; up != nil {
		up.users--
	}
}

// Relay answers a node that wants a source from here, as cascade.Deps.Relay; false when it cannot come here either.
func (r *Router) Relay(q cascade.RelayRequest) (*rtpstream.Source, bool) {
	if _, member := r.deps.RegionOf(q.Origin); !member || r.full() {
		return nil, false
	}
	up := r.open(q.Room, q.Source, q.Origin, func(up *upstream) { up.asked[q.Peer] = question{time.Now(), q.Waits} })
	if r.stuck(up) {
		return nil, false
	}
	return up.remote.Media(), true
}

// Snapshot is the mesh as this node knows it now.
func (r *Router) Snapshot() *route.Snapshot { return r.links.snapshot() }

// Sources is how many sources of other nodes are brought here, or about to be.
func (r *Router) Sources() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.all)
}

// Way is how a source comes here.
type Way struct {
	From  mesh.NodeID
	Kind  route.Kind
	Spare mesh.NodeID // what is ready for when that fails; "" is nothing
	Twin  bool        // it comes from Spare as well all the time
}

// Way returns how a source comes here, or false when it does not.
func (r *Router) Way(key Key) (Way, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	up := r.all[key]
	if up == nil {
		return Way{}, false
	}
	return Way{From: up.route.From, Kind: up.route.Kind, Spare: up.spare.From, Twin: up.twin}, true
}

// stuck reports whether a source cannot come here: its origin is out of reach, and there is no detour.
func (r *Router) stuck(up *upstream) bool {
	r.mu.Lock()
	direct := up.route.Kind == route.Direct
	r.mu.Unlock()
	return direct && r.links.outOfReach(up.key.Origin)
}

// detourOf reports whether a node that asks takes this one for a detour, not for the gateway of the region.
func (r *Router) detourOf(peer mesh.NodeID) bool {
	region, _ := r.deps.RegionOf(peer)
	return region != r.deps.Region
}

func (r *Router) full() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.all) >= maxUpstreams
}

// open returns the upstream of a source, made when there is none, with change applied, and sees to its route.
func (r *Router) open(room mesh.RoomName, source mesh.Source, origin mesh.NodeID, change func(*upstream)) *upstream {
	r.mu.Lock()
	known := r.view != nil
	r.mu.Unlock()
	if !known {
		r.look()
	}
	key := Key{room, source.ID, origin}
	fresh := &upstream{
		key: key, remote: r.cascade.Remote(room, source, origin),
		asked: map[mesh.NodeID]question{}, avoid: map[mesh.NodeID]time.Time{},
	}
	r.mu.Lock()
	up := r.all[key]
	if up == nil {
		up = fresh
		r.all[key] = up
	}
	change(up)
	r.mu.Unlock()
	if up != fresh {
		fresh.remote.Close() // a second handle on the same
	}
	r.direct(up, time.Now())
	return up
}

// look takes a new snapshot.
func (r *Router) look() {
	view := r.links.snapshot()
	r.mu.Lock()
	r.view = view
	r.mu.Unlock()
}

// direct pulls a source from where it should come now.
func (r *Router) direct(up *upstream, now time.Time) {
	status := up.remote.Status()
	r.mu.Lock()
	if status.Refusals > 0 && status.From != up.key.Origin {
		up.avoid[status.From] = now.Add(avoidTime)
	}
	if status.BesideRefusals > 0 && status.Beside != up.key.Origin {
		up.avoid[status.Beside] = now.Add(avoidTime)
	}
	q := route.Query{Self: r.deps.Self, Origin: up.key.Origin, Source: up.key.Source}
	for id, until := range up.avoid {
		if now.After(until) {
			delete(up.avoid, id)
			continue
		}
		q.Avoid = append(q.Avoid, id)
	}
	slices.Sort(q.Avoid)
	for id, asked := range up.asked {
		switch {
		case now.Sub(asked.at) > askedTime:
			delete(up.asked, id)
		case asked.waits:
			status.Waiting = append(status.Waiting, id)
		default:
			status.To = append(status.To, id)
		}
	}
	if up.remote.Media().Demand().Encodings == 0 && len(status.To) == 0 {
		status.To = status.Waiting // it comes for their sake, if it ever comes
	}
	for _, id := range status.To {
		q.Role = max(q.Role, route.Serving)
		if r.detourOf(id) {
			q.Role = route.Detour
		}
	}
	up.route = up.route.Update(now.Sub(r.started), r.view, q)
	r.arrangeSpareLocked(up, q, status.To)
	from, spare, twin := up.route.From, up.spare.From, up.twin
	r.mu.Unlock()
	if from != status.From {
		r.log.Debug("source pulled from another node", "room", up.key.Room, "source", up.key.Source, "node", from)
	}
	up.remote.PullFrom(from)
	up.remote.Beside(spare, twin)
}

// arrangeSpareLocked decides what is ready for when the route of a source fails. Not to: they pull it from here. r.mu is
// held.
func (r *Router) arrangeSpareLocked(up *upstream, q route.Query, to []mesh.NodeID) {
	q.Avoid = append(slices.Clone(q.Avoid), to...)
	media := up.remote.Media()
	way, ok := r.view.Spare(q, up.route.Way, up.spare)
	if !ok || (way.From != up.spare.From && !r.spareRoomLocked(way.From)) || media.Demand().Encodings == 0 {
		way = route.Way{}
	}
	if way.From != up.spare.From {
		r.countSpareLocked(up.spare.From, -1)
		r.countSpareLocked(way.From, 1)
	}
	up.twin = way.From != "" && media.Info.Audio && route.Twin(up.route.Way, way, up.twin)
	up.spare = way
}

// spareRoomLocked reports whether a node may be a spare way: it is one already, or there are not too many. r.mu is held.
func (r *Router) spareRoomLocked(id mesh.NodeID) bool {
	return r.spares[id] > 0 || len(r.spares) < maxSpares
}

func (r *Router) countSpareLocked(id mesh.NodeID, by int) {
	if id == "" {
		return
	}
	if r.spares[id] += by; r.spares[id] == 0 {
		delete(r.spares, id)
	}
}

// Run keeps every route right until ctx ends, and then leaves time for those who pull from here to go elsewhere.
func (r *Router) Run(ctx context.Context) error {
	defer r.cascade.WatchLinks(func(mesh.NodeID, bool) { r.poke() })()
	defer r.deps.Subscribe(r.poke)()
	tick := time.NewTicker(routeInterval)
	defer tick.Stop()
	var reviewed time.Time
	for {
		event := false
		select {
		case <-ctx.Done():
			r.part(tick)
			return nil
		case <-r.wake:
			event = true
		case <-tick.C:
		}
		now := time.Now()
		all := r.sweep(now)
		from := map[mesh.NodeID]bool{}
		for _, up := range all {
			if status := up.remote.Status(); up.remote.Media().Demand().Encodings != 0 || len(status.To) > 0 || len(status.Waiting) > 0 {
				from[status.From] = true
			}
		}
		news := r.links.need(from, now)
		news = r.links.forgive(from) || news || event
		if news || now.Sub(reviewed) >= reviewInterval {
			reviewed = now
			r.look()
		}
		for _, up := range all {
			r.direct(up, now)
			if r.stuck(up) {
				up.remote.Shed()
			}
		}
	}
}

func (r *Router) poke() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// sweep ends what nobody has use for, and returns the rest.
func (r *Router) sweep(now time.Time) []*upstream {
	var rest, ended []*upstream
	r.mu.Lock()
	for key, up := range r.all {
		asked := false
		for _, q := range up.asked {
			asked = asked || now.Sub(q.at) <= askedTime
		}
		if up.users > 0 || asked || up.remote.Media().Subscribers() > 0 {
			rest = append(rest, up)
			continue
		}
		delete(r.all, key)
		r.countSpareLocked(up.spare.From, -1)
		ended = append(ended, up)
	}
	r.mu.Unlock()
	for _, up := range ended {
		up.remote.Close()
	}
	return rest
}

// part waits until no node pulls from here any more, since this one was said to be draining, or for partingTime.
func (r *Router) part(tick *time.Ticker) {
	deadline := time.After(partingTime)
	for {
		serves := false
		for _, up := range r.sweep(time.Now()) {
			serves = serves || len(up.remote.Status().To) > 0
		}
		if !serves {
			return
		}
		select {
		case <-deadline:
			return
		case <-tick.C:
		}
	}
}
