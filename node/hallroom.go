package node

import (
	"log/slog"
	"time"

	"github.com/meridian-sfu/meridian/cascade/upstream"
	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/rtpstream"
	"github.com/meridian-sfu/meridian/node/directory"
	"github.com/meridian-sfu/meridian/node/room"
	"github.com/meridian-sfu/meridian/node/sfm"
	"github.com/meridian-sfu/meridian/node/signal"
)

// hallRoom is one room with participants attached here. Everything but the fields set by newHallRoom belongs to its
// goroutine: other goroutines post commands.
type hallRoom struct {
	*commandQueue
	node   *Node
	name   mesh.RoomName
	log    *slog.Logger
	handle *directory.Handle
	users  int // guarded by node.mu: sessions and joins under way; the room ends here at 0

	state    *room.Room
	sessions map[mesh.ParticipantID]*session
	remotes  map[mesh.SourceID]*remoteMedia
	links    map[mesh.NodeID]func() // links held open while their node shares the room
	sif      []byte

	qualities map[mesh.ParticipantID]mesh.Quality // as the clients here were told
	ratedAt   time.Time
	speakers  room.Speakers
	hearings  map[mesh.SourceID]hearing
}

// remoteMedia is a source of another node, held while somebody here is subscribed to it.
type remoteMedia struct {
	key   upstream.Key
	media *rtpstream.Source
	users int
}

func newHallRoom(n *Node, name mesh.RoomName, meta mesh.Room) *hallRoom {
	r := &hallRoom{
		commandQueue: newCommandQueue(),
		node:         n,
		name:         name,
		log:          n.log.With("room", name),
		state:        room.New(name),
		sessions:     map[mesh.ParticipantID]*session{},
		remotes:      map[mesh.SourceID]*remoteMedia{},
		links:        map[mesh.NodeID]func(){},
		sif:          randomBytes(16),
		qualities:    map[mesh.ParticipantID]mesh.Quality{},
		ratedAt:      time.Now(),
		speakers:     room.Speakers{Places: n.cfg.Rooms.Speakers},
		hearings:     map[mesh.SourceID]hearing{},
	}
	handle, known := n.directory.Open(name, meta)
	r.handle = handle
	r.post(func() { r.state.SetMeta(known) })
	_, others := handle.Snapshot()
	r.post(func() { r.participants(others) })
	return r
}

// participants takes in records of participants attached elsewhere.
func (r *hallRoom) participants(changed []mesh.Participant) {
	for _, p := range changed {
		if p.Node == r.node.cfg.ID {
			continue // this node is the one that knows about its own
		}
		r.apply(r.state.Upsert(p))
	}
	r.holdLinks()
}

// holdLinks keeps a link to every node that shares the room, and to its owner: their liveness matters here.
func (r *hallRoom) holdLinks() {
	want := map[mesh.NodeID]bool{}
	for _, id := range r.state.RemoteNodes() {
		want[id] = true
	}
	if owner := r.state.Meta().Owner; owner != "" && owner != r.node.cfg.ID {
		want[owner] = true
	}
	for id, release := range r.links {
		if !want[id] {
			release()
			delete(r.links, id)
		}
	}
	for id := range want {
		if r.links[id] == nil {
			r.links[id] = r.node.cascade.Keep(id)
		}
	}
}

// publish takes in a changed record of a participant attached here and tells everybody.
func (r *hallRoom) publish(s *session) {
	s.record.Version++
	record := s.record.Clone()
	r.apply(r.state.Upsert(record))
	r.handle.Put(record)
}

// apply carries out what the room decided, in its order.
func (r *hallRoom) apply(effects []room.Effect) {
	for _, effect := range effects {
		switch e := effect.(type) {
		case room.Tell:
			for _, to := range e.To {
				r.tell(to, func(c *signal.Conn) { c.SendUpdate(e.Participants) })
			}
		case room.Attach:
			r.with(e.Subscriber, func(s *session) { r.attachMedia(s, e.Publisher, e.Source) })
		case room.Detach:
			r.with(e.Subscriber, func(s *session) { r.detachMedia(s, e.Source) })
		case room.SubscriptionPermission:
			r.tell(e.To, func(c *signal.Conn) { c.SendSubscriptionPermission(e.Publisher, e.Source, e.Allowed) })
		case room.SubscriptionError:
			r.tell(e.To, func(c *signal.Conn) { c.SendSubscriptionResponse(e.Source, signal.SubscriptionSourceNotFound) })
		case room.FirstSubscriber:
			r.tell(e.Publisher, func(c *signal.Conn) { c.SendTrackSubscribed(e.Source) })
		case room.RoomChanged:
			for _, to := range e.To {
				r.tell(to, func(c *signal.Conn) { c.SendRoomUpdate(e.Room, r.counts()) })
			}
		}
	}
}

// with calls f for a session that is up; what comes earlier waits for it.
func (r *hallRoom) with(id mesh.ParticipantID, f func(*session)) {
	s := r.sessions[id]
	switch {
	case s == nil:
	case s.endpoint == nil:
		s.early = append(s.early, f)
	default:
		f(s)
	}
}

// tell sends something to a client. One whose signalling is lost gets the whole state when it resumes.
func (r *hallRoom) tell(id mesh.ParticipantID, send func(*signal.Conn)) {
	r.with(id, func(s *session) {
		if s.conn != nil {
			send(s.conn)
		}
	})
}

func (r *hallRoom) attachMedia(s *session, publisher mesh.Participant, source mesh.Source) {
	if s.media[source.ID] {
		return
	}
	media := r.media(publisher, source)
	if media == nil {
		r.log.Warn("source without media", "source", source.ID, "participant", publisher.ID)
		return
	}
	s.media[source.ID] = true
	s.endpoint.Subscribe(sfm.Subscribe{Publisher: publisher.ID, Source: source, Media: media})
}

func (r *hallRoom) detachMedia(s *session, id mesh.SourceID) {
	if !s.media[id] {
		return
	}
	delete(s.media, id)
	s.endpoint.Unsubscribe(id)
	r.releaseMedia(id)
}

// media finds a source's media: made here, or brought from its node, once for all who watch it here.
func (r *hallRoom) media(publisher mesh.Participant, source mesh.Source) *rtpstream.Source {
	if publisher.Node == r.node.cfg.ID {
		return r.node.localMedia(source.ID)
	}
	m := r.remotes[source.ID]
	if m == nil {
		m = &remoteMedia{key: upstream.Key{Room: r.name, Source: source.ID, Origin: publisher.Node}, media: r.node.upstreams.Watch(r.name, source, publisher.Node)}
		r.remotes[source.ID] = m
	}
	m.users++
	return m.media
}

func (r *hallRoom) releaseMedia(id mesh.SourceID) {
	m := r.remotes[id]
	if m == nil {
		return
	}
	if m.users--; m.users == 0 {
		delete(r.remotes, id)
		r.node.upstreams.Unwatch(m.key)
	}
}

// counts are the figures a client shows of the room.
func (r *hallRoom) counts() signal.RoomCounts {
	var c signal.RoomCounts
	for _, p := range r.state.All() {
		if p.Permission.Hidden {
			continue
		}
		c.Participants++
		if p.Publisher {
			c.Publishers++
		}
	}
	return c
}

// deliver hands a data message to those it is for among the participants attached here.
func (r *hallRoom) deliver(m mesh.DataMessage) {
	send := func(s *session) {
		if s.record.ID == m.Sender || s.endpoint == nil {
			return
		}
		if err := s.endpoint.SendData(m.Reliable, m.Payload); err != nil {
			r.node.metrics.dataDrops.Inc()
		}
	}
	if len(m.Destinations) == 0 {
		for _, s := range r.sessions {
			send(s)
		}
		return
	}
	for _, identity := range m.Destinations {
		if p, ok := r.state.ByIdentity(identity); ok {
			if s := r.sessions[p.ID]; s != nil {
				send(s)
			}
		}
	}
}

// leave takes a participant out: its media, its place in the room, its record elsewhere. Its client was told by the caller.
func (r *hallRoom) leave(s *session, reason int32) {
	if r.sessions[s.record.ID] != s {
		return
	}
	effects := r.state.Remove(s.record.ID, reason)
	r.apply(effects) // others first; its own detaches come with it
	for id := range s.media {
		r.detachMedia(s, id)
	}
	delete(r.sessions, s.record.ID)
	s.end()
	for _, source := range s.record.Sources {
		r.node.removeLocalMedia(source.ID)
	}
	r.handle.Remove(s.record.ID, reason)
	r.holdLinks()
	r.node.release(r)
}

// evict tells a client to leave and takes it out.
func (r *hallRoom) evict(s *session, reason signal.LeaveReason, action signal.LeaveAction) {
	if s.conn != nil {
		s.conn.SendLeave(reason, action)
		s.conn.Close(signal.CloseNormal, "")
	}
	r.leave(s, int32(reason))
}

// ended is the end of the room by its owner.
func (r *hallRoom) ended(reason int32) {
	for _, s := range r.sessions {
		r.evict(s, signal.LeaveReason(reason), signal.ActionDisconnect)
	}
}

// shutdown lets go of everything but the directory's handle. It runs in the room's goroutine after its last session ended.
func (r *hallRoom) shutdown() {
	for id, release := range r.links {
		release()
		delete(r.links, id)
	}
	for id, m := range r.remotes {
		delete(r.remotes, id)
		r.node.upstreams.Unwatch(m.key)
	}
	r.handle.Close()
	r.close()
}

// tick looks after what has a deadline: sessions whose client is gone, tokens, connection quality.
func (r *hallRoom) tick(now time.Time) {
	for _, s := range r.sessions {
		s.tick(now)
	}
	if now.Sub(r.ratedAt) >= qualityInterval {
		r.ratedAt = now
		r.rateConnections()
	}
}
