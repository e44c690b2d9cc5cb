package node

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/node/room"
	"github.com/meridian-sfu/meridian/node/sfm"
	"github.com/meridian-sfu/meridian/node/signal"
)

// This file is the story of a client coming in:
//
//	Join     before the WebSocket is accepted: may it, and which room
//	Attach   the WebSocket is up: a place in the room, the JoinResponse, then an endpoint for its media
//
// The JoinResponse waits for nothing outside this node: a room nobody knows yet is opened provisionally.

// regionAttribute tells other clients which region a participant's edge stands in.
const regionAttribute = "meridian.region"

var _ signal.Hall = (*Node)(nil)

// Check makes the checks of Join and lets nobody in.
func (n *Node) Check(_ context.Context, req signal.JoinRequest) error {
	if n.draining.Load() && !req.Reconnect {
		return signal.ErrDraining
	}
	r := n.findRoom(req.Room)
	if r == nil {
		return nil
	}
	var err error
	r.call(func() { err = r.admit(req) })
	return err
}

// Join lets a participant in, or finds the session a resuming client left.
func (n *Node) Join(ctx context.Context, req signal.JoinRequest) (signal.Session, error) {
	if req.Reconnect {
		if s := n.resume(req); s != nil {
			return s, nil
		}
		return signal.RefuseWithLeave(signal.LeaveStateMismatch, signal.ActionReconnect), nil
	}
	if n.draining.Load() {
		return nil, signal.ErrDraining
	}
	r := n.acquire(req.Room)
	var err error
	if !r.call(func() { err = r.admit(req) }) {
		err = errors.New("node: room ended while joining")
	}
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		n.release(r)
		return nil, err
	}
	return newSession(r, req), nil
}

// admit refuses whom the room has no place for.
func (r *hallRoom) admit(req signal.JoinRequest) error {
	limit := r.state.Meta().MaxParticipants
	if _, back := r.state.ByIdentity(req.Identity); limit > 0 && r.state.Len() >= int(limit) && !back {
		return &signal.RefusedError{Status: http.StatusServiceUnavailable, Text: "the room is full"}
	}
	return nil
}

func newSession(r *hallRoom, req signal.JoinRequest) *session {
	n := r.node
	attributes := map[string]string{}
	for k, v := range req.Attributes {
		attributes[k] = v
	}
	if attributes[regionAttribute] == "" {
		attributes[regionAttribute] = string(n.cfg.Region)
	}
	kind := req.Claims.Kind
	if kind == "" {
		kind = "standard"
	}
	return &session{
		room: r,
		req:  req,
		log:  r.log.With("participant", req.Identity),
		record: mesh.Participant{
			ID:             mesh.ParticipantID(mesh.NewID("PA_")),
			Identity:       req.Identity,
			Name:           req.Claims.Name,
			Metadata:       req.Metadata,
			Attributes:     attributes,
			Kind:           kind,
			State:          mesh.StateJoined,
			Permission:     req.Permission,
			JoinedAt:       time.Now(),
			Version:        1,
			Node:           n.cfg.ID,
			Region:         n.cfg.Region,
			ClientProtocol: req.Client.ClientProtocol,
			Capabilities:   req.Client.Capabilities,
		},
		pending: map[string]mesh.Source{},
		media:   map[mesh.SourceID]bool{},
	}
}

// Attach gives the client its place in the room, then its endpoint. The endpoint is made outside the room's goroutine: its
// certificate takes milliseconds.
func (s *session) Attach(c *signal.Conn) {
	if s.resuming.CompareAndSwap(true, false) {
		s.reattach(c)
		return
	}
	if !s.room.call(func() { s.enter(c) }) {
		c.SendLeave(signal.LeaveRoomClosed, signal.ActionReconnect)
		c.Close(signal.CloseNormal, "room ended")
		return
	}
	endpoint, err := s.room.node.sfm.NewEndpoint(sfm.EndpointConfig{
		ID:             s.record.ID,
		SinglePC:       s.req.SinglePC,
		CanPublish:     s.req.Permission.CanPublish,
		CanSubscribe:   s.req.Permission.CanSubscribe,
		Protocol:       s.req.Client.Protocol,
		AdaptiveStream: s.req.AdaptiveStream,
	}, s)
	if err != nil {
		s.log.Error("no endpoint for a participant", "err", err)
		s.room.post(func() { s.room.evict(s, signal.LeaveMediaFailure, signal.ActionReconnect) })
		return
	}
	if !s.room.post(func() { s.equip(endpoint) }) {
		endpoint.Close()
	}
}

// enter runs in the room's goroutine.
func (s *session) enter(c *signal.Conn) {
	r := s.room
	s.conn = c
	if old, ok := r.state.ByIdentity(s.record.Identity); ok {
		if o := r.sessions[old.ID]; o != nil {
			r.evict(o, signal.LeaveDuplicateIdentity, signal.ActionDisconnect)
		}
	}
	record := s.record.Clone()
	r.sessions[record.ID] = s
	effects := r.state.Attach(record, room.Options{AutoSubscribe: s.req.AutoSubscribe})
	own := record
	own.State = mesh.StateJoining // how clients know their own JoinResponse
	c.SendJoin(signal.JoinResponse{
		Room:              r.state.Meta(),
		Counts:            r.counts(),
		Participant:       own,
		Others:            r.state.Visible(record.ID),
		SubscriberPrimary: !s.req.SinglePC && record.Permission.CanSubscribe,
		FastPublish:       record.Permission.CanPublish,
		SIFTrailer:        r.sif,
	})
	r.qualities = map[mesh.ParticipantID]mesh.Quality{} // it knows none yet
	s.refreshToken()
	r.apply(effects)
	r.handle.Put(record)
	r.node.metrics.joins.Inc()
	s.log.Info("participant joined", "sdk", s.req.Client.SDK, "single_pc", s.req.SinglePC, "protocol", s.req.Client.Protocol)
}

// equip runs in the room's goroutine: what had to wait for the endpoint happens now, in its order.
func (s *session) equip(endpoint *sfm.Endpoint) {
	if s.ended {
		endpoint.Close()
		return
	}
	s.endpoint = endpoint
	early := s.early
	s.early = nil
	for _, f := range early {
		if !s.ended {
			f(s)
		}
	}
}

// resume finds the session of a client that lost its signalling, still in its room.
func (n *Node) resume(req signal.JoinRequest) *session {
	r := n.findRoom(req.Room)
	if r == nil {
		return nil
	}
	var found *session
	r.call(func() {
		s := r.sessions[req.ParticipantID]
		if s == nil || s.record.Identity != req.Identity || s.endpoint == nil {
			return
		}
		if s.conn != nil { // the client knows before us that the old connection is dead
			s.conn.Close(signal.CloseGoingAway, "resumed on another connection")
			s.conn = nil
			s.superseded++
		}
		s.moved = req.ReconnectReason != signal.ReconnectSignalLost || req.RemoteAddr != s.req.RemoteAddr
		s.req.RemoteAddr = req.RemoteAddr
		found = s
	})
	if found == nil {
		return nil
	}
	found.resuming.Store(true)
	return found
}

// reattach gives a resuming client what it missed: everybody, itself included.
func (s *session) reattach(c *signal.Conn) {
	s.room.call(func() {
		if s.ended {
			c.SendLeave(signal.LeaveStateMismatch, signal.ActionReconnect)
			c.Close(signal.CloseNormal, "session ended")
			return
		}
		s.conn, s.lostAt = c, time.Time{}
		c.SendReconnect(signal.ReconnectResponse{LastMessageSequence: s.lastSequence})
		c.SendUpdate(append([]mesh.Participant{s.record.Clone()}, s.room.state.Visible(s.record.ID)...))
		c.SendRoomUpdate(s.room.state.Meta(), s.room.counts())
		s.room.qualities = map[mesh.ParticipantID]mesh.Quality{} // it missed some: tell all again
		s.refreshToken()
		if !s.req.SinglePC && s.record.Permission.CanSubscribe {
			if s.moved {
				s.endpoint.RestartICE()
			} else {
				s.endpoint.CheckPath()
			}
		}
		s.log.Info("participant resumed")
	})
}
