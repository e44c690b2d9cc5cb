package node

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/meridian-sfu/meridian/cascade"
	"github.com/meridian-sfu/meridian/cascade/route"
	"github.com/meridian-sfu/meridian/gossip"
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
)

// upstreams are the sources of other nodes that this one has or is about to have: for those who watch here, and for
// nodes that pull them from here because this node is their region's gateway, or their detour. Each comes once, from
// where package route says.
type upstreams struct {
	n     *Node
	links *linkState
	wake  chan struct{}

	mu   sync.Mutex
	all  map[upstreamKey]*upstream // guarded by mu
	view *route.Snapshot           // guarded by mu; nil before the first
}

type upstreamKey struct {
	room   mesh.RoomName
	source mesh.SourceID
	origin mesh.NodeID
}

type upstream struct {
	key    upstreamKey
	remote *cascade.RemoteSource

	// Guarded by upstreams.mu.
	users int                       // rooms here in which it is watched
	asked map[mesh.NodeID]time.Time // nodes that wanted it from here, and when last
	avoid map[mesh.NodeID]time.Time // nodes not to pull it from, and until when
	route route.Route
}

func newUpstreams(n *Node) *upstreams {
	return &upstreams{
		n: n, links: newLinkState(n), wake: make(chan struct{}, 1), all: map[upstreamKey]*upstream{},
	}
}

// watch brings a source here for a room's participants. Each watch is paired with an unwatch.
func (u *upstreams) watch(room mesh.RoomName, source mesh.Source, origin mesh.NodeID) *rtpstream.Source {
	up := u.open(room, source, origin, func(up *upstream) { up.users++ })
	return up.remote.Media()
}

func (u *upstreams) unwatch(key upstreamKey) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if up := u.all[key]; up != nil {
		up.users--
	}
}

// relay brings a source here for another node; false when it cannot come here either.
func (u *upstreams) relay(q cascade.RelayRequest) (*rtpstream.Source, bool) {
	if _, member := u.n.gossip.Lookup(q.Origin); !member || u.full() {
		return nil, false
	}
	up := u.open(q.Room, q.Source, q.Origin, func(up *upstream) { up.asked[q.Peer] = time.Now() })
	if u.stuck(up) {
		return nil, false
	}
	return up.remote.Media(), true
}

// stuck reports whether a source cannot come here: its origin is out of reach, and there is no detour.
func (u *upstreams) stuck(up *upstream) bool {
	u.mu.Lock()
	direct := up.route.Kind == route.Direct
	u.mu.Unlock()
	return direct && u.links.outOfReach(up.key.origin)
}

// detourOf reports whether a node that asks takes this one for a detour, not for the gateway of the region.
func (u *upstreams) detourOf(peer mesh.NodeID) bool {
	info, _ := u.n.gossip.Lookup(peer)
	return info.Region != u.n.cfg.Region
}

func (u *upstreams) full() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.all) >= maxUpstreams
}

// open returns the upstream of a source, made when there is none, with change applied, and sees to its route.
func (u *upstreams) open(room mesh.RoomName, source mesh.Source, origin mesh.NodeID, change func(*upstream)) *upstream {
	u.mu.Lock()
	known := u.view != nil
	u.mu.Unlock()
	if !known {
		u.look()
	}
	key := upstreamKey{room, source.ID, origin}
	fresh := &upstream{
		key: key, remote: u.n.cascade.Remote(room, source, origin),
		asked: map[mesh.NodeID]time.Time{}, avoid: map[mesh.NodeID]time.Time{},
	}
	u.mu.Lock()
	up := u.all[key]
	if up == nil {
		up = fresh
		u.all[key] = up
	}
	change(up)
	u.mu.Unlock()
	if up != fresh {
		fresh.remote.Close() // a second handle on the same
	}
	u.direct(up, time.Now())
	return up
}

// look takes a new snapshot.
func (u *upstreams) look() {
	view := u.links.snapshot()
	u.mu.Lock()
	u.view = view
	u.mu.Unlock()
}

// direct pulls a source from where it should come now.
func (u *upstreams) direct(up *upstream, now time.Time) {
	status := up.remote.Status()
	u.mu.Lock()
	if status.Refusals > 0 && status.From != up.key.origin {
		up.avoid[status.From] = now.Add(avoidTime)
	}
	q := route.Query{Self: u.n.cfg.ID, Origin: up.key.origin, Source: up.key.source}
	for id, until := range up.avoid {
		if now.After(until) {
			delete(up.avoid, id)
			continue
		}
		q.Avoid = append(q.Avoid, id)
	}
	slices.Sort(q.Avoid)
	for id, at := range up.asked {
		if now.Sub(at) > askedTime {
			delete(up.asked, id)
			continue
		}
		status.To = append(status.To, id)
	}
	for _, id := range status.To {
		q.Role = max(q.Role, route.Serving)
		if u.detourOf(id) {
			q.Role = route.Detour
		}
	}
	up.route = up.route.Update(now.Sub(u.n.started), u.view, q)
	from := up.route.From
	u.mu.Unlock()
	if from != status.From {
		u.n.log.Debug("source pulled from another node", "room", up.key.room, "source", up.key.source, "node", from)
	}
	up.remote.PullFrom(from)
}

// run keeps every route right until ctx ends, and then leaves time for those who pull from here to go elsewhere.
func (u *upstreams) run(ctx context.Context) error {
	defer u.n.cascade.WatchLinks(func(mesh.NodeID, bool) { u.poke() })()
	defer u.n.gossip.Subscribe(func(gossip.Event) { u.poke() })()
	tick := time.NewTicker(routeInterval)
	defer tick.Stop()
	var reviewed time.Time
	for {
		event := false
		select {
		case <-ctx.Done():
			u.part(tick)
			return nil
		case <-u.wake:
			event = true
		case <-tick.C:
		}
		now := time.Now()
		all := u.sweep(now)
		from := map[mesh.NodeID]bool{}
		for _, up := range all {
			if up.remote.Media().Demand().Encodings != 0 {
				from[up.remote.Status().From] = true
			}
		}
		news := u.links.need(from, now)
		news = u.links.forgive(from) || news || event
		if news || now.Sub(reviewed) >= reviewInterval {
			reviewed = now
			u.look()
		}
		for _, up := range all {
			u.direct(up, now)
			if u.stuck(up) {
				up.remote.Shed()
			}
		}
	}
}

func (u *upstreams) poke() {
	select {
	case u.wake <- struct{}{}:
	default:
	}
}

// sweep ends what nobody has use for, and returns the rest.
func (u *upstreams) sweep(now time.Time) []*upstream {
	var rest, ended []*upstream
	u.mu.Lock()
	for key, up := range u.all {
		asked := false
		for _, at := range up.asked {
			asked = asked || now.Sub(at) <= askedTime
		}
		if up.users > 0 || asked || up.remote.Media().Subscribers() > 0 {
			rest = append(rest, up)
			continue
		}
		delete(u.all, key)
		ended = append(ended, up)
	}
	u.mu.Unlock()
	for _, up := range ended {
		up.remote.Close()
	}
	return rest
}

// part waits until no node pulls from here any more, since this one was said to be draining, or for partingTime.
func (u *upstreams) part(tick *time.Ticker) {
	deadline := time.After(partingTime)
	for {
		serves := false
		for _, up := range u.sweep(time.Now()) {
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
