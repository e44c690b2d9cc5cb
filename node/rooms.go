package node

import (
	"context"
	"time"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/node/directory"
	"github.com/meridian-sfu/meridian/node/signal"
)

var _ directory.Handler = (*Node)(nil)

// acquire returns the room, opening it here when nobody is in it yet. Each acquire is paired with a release.
func (n *Node) acquire(name mesh.RoomName) *hallRoom {
	n.mu.Lock()
	r := n.rooms[name]
	if r != nil {
		r.users++
		n.mu.Unlock()
		return r
	}
	n.mu.Unlock()
	fresh := newHallRoom(n, name, mesh.Room{
		Name: name, CreatedAt: time.Now(), EmptyTimeout: n.cfg.Rooms.EmptyTimeout,
		DepartureTimeout: n.cfg.Rooms.DepartureTimeout, MaxParticipants: n.cfg.Rooms.MaxParticipants,
	})
	n.mu.Lock()
	if r = n.rooms[name]; r == nil {
		r = fresh
		n.rooms[name] = r
		n.roomLoop.Go(r.run)
	}
	r.users++
	n.mu.Unlock()
	if r != fresh {
		fresh.handle.Close() // somebody else was faster
	}
	return r
}

// release gives an acquired room back. The last release ends it here.
func (n *Node) release(r *hallRoom) {
	n.mu.Lock()
	r.users--
	last := r.users == 0
	if last {
		delete(n.rooms, r.name)
	}
	n.mu.Unlock()
	if last {
		r.post(r.shutdown)
	}
}

func (n *Node) findRoom(name mesh.RoomName) *hallRoom {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.rooms[name]
}

func (n *Node) allRooms() []*hallRoom {
	n.mu.Lock()
	defer n.mu.Unlock()
	rooms := make([]*hallRoom, 0, len(n.rooms))
	for _, r := range n.rooms {
		rooms = append(rooms, r)
	}
	return rooms
}

// runRooms is the clock of all rooms, and waits for the last of them at the end.
func (n *Node) runRooms(ctx context.Context) error {
	tick, load, speak := time.NewTicker(tickInterval), time.NewTicker(loadInterval), time.NewTicker(speakerInterval)
	defer speak.Stop()
	defer tick.Stop()
	defer load.Stop()
	usage := newCPUMeter()
	for {
		select {
		case now := <-tick.C:
			for _, r := range n.allRooms() {
				r.post(func() { r.tick(now) })
			}
			n.watchVoters()
		case now := <-speak.C:
			for _, r := range n.allRooms() {
				r.post(func() { r.listen(now) })
			}
		case <-load.C:
			n.rates.look(time.Now(), n.sfm.EgressBytes(), n.cascade.Links())
			n.tellLoad(usage.share())
		case <-ctx.Done():
			for _, r := range n.allRooms() {
				r.post(func() { r.ended(int32(signal.LeaveServerShutdown)) })
			}
			n.roomLoop.Wait()
			return nil
		}
	}
}

// ---- what the directory says. Each is posted to the room: the directory is not made to wait.

func (n *Node) toRoom(name mesh.RoomName, f func(*hallRoom)) {
	if r := n.findRoom(name); r != nil {
		r.post(func() { f(r) })
	}
}

// RoomChanged implements directory.Handler.
func (n *Node) RoomChanged(meta mesh.Room) {
	n.toRoom(meta.Name, func(r *hallRoom) {
		r.apply(r.state.SetMeta(meta))
		r.holdLinks()
	})
}

// Participants implements directory.Handler.
func (n *Node) Participants(room mesh.RoomName, changed []mesh.Participant) {
	n.toRoom(room, func(r *hallRoom) { r.participants(changed) })
}

// Data implements directory.Handler.
func (n *Node) Data(room mesh.RoomName, m mesh.DataMessage) {
	n.toRoom(room, func(r *hallRoom) { r.deliver(m) })
}

// Ended implements directory.Handler.
func (n *Node) Ended(room mesh.RoomName, reason int32) {
	n.toRoom(room, func(r *hallRoom) { r.ended(reason) })
}

// Command implements directory.Handler: what the owner decided about a participant attached here.
func (n *Node) Command(room mesh.RoomName, id mesh.ParticipantID, c directory.Command) {
	n.toRoom(room, func(r *hallRoom) {
		s := r.sessions[id]
		if s == nil {
			return
		}
		switch c := c.(type) {
		case directory.Evict:
			r.evict(s, signal.LeaveReason(c.Reason), signal.ActionDisconnect)
		case directory.Mute:
			if s.conn != nil {
				s.conn.SendMute(c.Source, c.Muted)
			}
			s.setMuted(c.Source, c.Muted)
		case directory.Change:
			s.moderate(c)
		case directory.Subscribe:
			r.apply(r.state.Subscribe(id, c.Sources, c.Want))
		}
	})
}

// moderate changes a participant's record from outside. Who may no longer publish a source is told that it is gone.
func (s *session) moderate(c directory.Change) {
	if c.Name != nil {
		s.record.Name = *c.Name
	}
	if c.Metadata != nil {
		s.record.Metadata = *c.Metadata
	}
	s.setAttributes(c.Attributes)
	if c.Permission != nil {
		s.record.Permission = *c.Permission
		kept := s.record.Sources[:0:0]
		for _, source := range s.record.Sources {
			if c.Permission.MayPublish(source.Type) {
				kept = append(kept, source)
				continue
			}
			s.endpoint.Unpublish(source.ID)
			s.room.node.removeLocalMedia(source.ID)
			if s.conn != nil {
				s.conn.SendTrackUnpublished(source.ID)
			}
		}
		s.record.Sources = kept
	}
	s.room.publish(s)
	if s.conn != nil {
		s.refreshToken()
	}
}
