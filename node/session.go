package node

import (
	"log/slog"
	"maps"
	"sync/atomic"
	"time"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/token"
	"github.com/meridian-sfu/meridian/node/sfm"
	"github.com/meridian-sfu/meridian/node/signal"
)

// What a session is given time for.
const (
	signalGrace       = 15 * time.Second // without signalling, until a client that does not come back is gone
	mediaGrace        = 15 * time.Second // with failed media, until it has to start over
	tokenRefresh      = 5 * time.Minute
	refreshedTokenTTL = 6 * time.Hour
)

// session is one participant attached here: its signalling on one side, its endpoint on the other. Its methods are called by
// both and post to the room; every field but the immutable ones belongs to the room's goroutine.
type session struct {
	room     *hallRoom
	req      signal.JoinRequest
	log      *slog.Logger
	resuming atomic.Bool // Attach is the return of a client that was here

	record       mesh.Participant
	conn         *signal.Conn  // nil while the client's signalling is lost
	endpoint     *sfm.Endpoint // nil until made
	early        []func(*session)
	pending      map[string]mesh.Source // announced, not negotiated yet; by client ID
	media        map[mesh.SourceID]bool // sources sent to this client
	lastSequence uint32                 // of the client's reliable data messages
	arrived      arrivals               // at the last look at its connection
	superseded   int                    // older connections whose end is still to be told
	lostAt       time.Time              // when signalling was lost
	moved        bool                   // resumed from another address, or for another reason than lost signalling
	failedAt     time.Time              // when media failed
	tokenAt      time.Time
	ended        bool
}

var (
	_ signal.Session = (*session)(nil)
	_ sfm.Handler    = (*session)(nil)
)

// do posts f to the room, to run when the session is still there and its endpoint is up.
func (s *session) do(f func()) {
	s.room.postWait(func() {
		if !s.ended {
			s.room.with(s.record.ID, func(*session) { f() })
		}
	})
}

// send runs f in the room's goroutine with the signalling connection, when there is one.
func (s *session) send(f func(*signal.Conn)) {
	s.room.postWait(func() {
		if !s.ended && s.conn != nil {
			f(s.conn)
		}
	})
}

// end lets go of the endpoint and refuses what still comes.
func (s *session) end() {
	s.ended = true
	s.early = nil
	if s.endpoint != nil {
		s.endpoint.Close()
	}
}

// ---- what the client says

// Offer implements signal.Session.
func (s *session) Offer(d signal.SessionDescription) {
	s.do(func() { s.endpoint.HandleOffer(sfm.Description{Type: d.Type, SDP: d.SDP, ID: d.ID}) })
}

// Answer implements signal.Session.
func (s *session) Answer(d signal.SessionDescription) {
	s.do(func() { s.endpoint.HandleAnswer(sfm.Description{Type: d.Type, SDP: d.SDP, ID: d.ID}) })
}

// Trickle implements signal.Session.
func (s *session) Trickle(t signal.Target, candidate string, _ bool) {
	if candidate == "" {
		return
	}
	s.do(func() { s.endpoint.AddCandidate(sfm.Target(t), candidate) })
}

// AddTrack implements signal.Session.
func (s *session) AddTrack(a signal.AddTrack) {
	s.do(func() {
		refuse := func(reason signal.RequestReason, why string) {
			if s.conn != nil {
				s.conn.SendRequestResponse(signal.RequestResponse{Reason: reason, Message: why, AddTrack: &a})
			}
		}
		_, pending := s.pending[a.ClientID]
		switch {
		case !s.record.Permission.MayPublish(a.Type):
			refuse(signal.RequestNotAllowed, "this participant may not publish such a source")
			return
		case a.SourceID != "":
			refuse(signal.RequestUnsupportedType, "this server takes one codec for each source")
			return
		case pending || s.published(a.ClientID):
			refuse(signal.RequestQueued, "the source is known already")
			return
		case len(s.pending)+len(s.record.Sources) >= mesh.MaxSourcesPerMember:
			refuse(signal.RequestLimitExceeded, "too many sources")
			return
		}
		source := a.Source(mesh.SourceID(mesh.NewID(signal.SourceIDPrefix(a.Kind, a.Type))))
		s.pending[a.ClientID] = source
		s.endpoint.Expect(source)
		if s.conn != nil {
			s.conn.SendTrackPublished(a.ClientID, source)
		}
	})
}

func (s *session) published(clientID string) bool {
	for _, source := range s.record.Sources {
		if source.ClientID == clientID {
			return true
		}
	}
	return false
}

// Mute implements signal.Session.
func (s *session) Mute(id mesh.SourceID, muted bool) {
	s.do(func() { s.setMuted(id, muted) })
}

func (s *session) setMuted(id mesh.SourceID, muted bool) {
	for clientID, source := range s.pending {
		if source.ID == id {
			source.Muted = muted
			s.pending[clientID] = source
			return
		}
	}
	if source, ok := s.record.Source(id); ok && source.Muted != muted {
		source.Muted = muted
		s.room.publish(s)
	}
}

// Subscription implements signal.Session.
func (s *session) Subscription(sub signal.Subscription) {
	s.do(func() { s.room.apply(s.room.state.Subscribe(s.record.ID, sub.Sources, sub.Subscribe)) })
}

// TrackSettings implements signal.Session.
func (s *session) TrackSettings(t signal.TrackSettings) {
	quality := int(t.Quality)
	if t.Quality == signal.QualityOff || t.Width > 0 || t.Height > 0 {
		quality = -1
	}
	wanted := sfm.Wanted{
		Disabled: t.Disabled || t.Quality == signal.QualityOff,
		Width:    t.Width, Height: t.Height, Quality: quality, FPS: t.FPS,
	}
	s.do(func() {
		for _, id := range t.Sources {
			s.endpoint.SetWanted(id, wanted)
		}
	})
}

// SubscriptionPermission implements signal.Session.
func (s *session) SubscriptionPermission(p signal.SubscriptionPermission) {
	s.do(func() {
		acl := p.ACL(func(id mesh.ParticipantID) (mesh.Identity, bool) {
			other, ok := s.room.state.Participant(id)
			return other.Identity, ok
		})
		if acl == nil && s.record.Subscribers == nil {
			return // what every client says once, after it connected
		}
		s.record.Subscribers = acl
		s.room.publish(s)
	})
}

// UpdateMetadata implements signal.Session.
func (s *session) UpdateMetadata(u signal.UpdateMetadata) {
	s.do(func() {
		answer := signal.RequestResponse{RequestID: u.RequestID, UpdateMetadata: &u}
		if s.record.Permission.CanUpdateMetadata {
			s.change(u.Name, u.Metadata, u.Attributes)
		} else {
			answer.Reason, answer.Message = signal.RequestNotAllowed, "the token does not allow updating one's own metadata"
		}
		if s.conn != nil && (answer.Reason != signal.RequestOK || s.req.Client.Protocol > 14) {
			s.conn.SendRequestResponse(answer)
		}
	})
}

// change sets what is not empty; an attribute with an empty value is deleted.
func (s *session) change(name, metadata string, attributes map[string]string) {
	if name != "" {
		s.record.Name = name
	}
	if metadata != "" {
		s.record.Metadata = metadata
	}
	s.setAttributes(attributes)
	s.room.publish(s)
}

func (s *session) setAttributes(changes map[string]string) {
	merged := maps.Clone(s.record.Attributes)
	if merged == nil {
		merged = map[string]string{}
	}
	for k, v := range changes {
		if v == "" {
			delete(merged, k)
		} else {
			merged[k] = v
		}
	}
	s.record.Attributes = merged
}

// UpdateAudioTrack implements signal.Session.
func (s *session) UpdateAudioTrack(u signal.UpdateAudioTrack) {
	s.do(func() {
		if source, ok := s.record.Source(u.Source); ok {
			source.Stereo, source.DisableDTX = u.Stereo, u.NoDTX
			s.room.publish(s)
		}
	})
}

// UpdateVideoTrack implements signal.Session.
func (s *session) UpdateVideoTrack(u signal.UpdateVideoTrack) {
	s.do(func() {
		if source, ok := s.record.Source(u.Source); ok {
			source.Width, source.Height = u.Width, u.Height
			s.room.publish(s)
		}
	})
}

// SyncState implements signal.Session: a resuming client says what it believes to be subscribed to.
func (s *session) SyncState(state signal.SyncState) {
	s.do(func() {
		for _, p := range state.Published {
			if _, known := s.record.Source(p.ID); !known && s.pending[p.ClientID].ID != p.ID {
				s.room.evict(s, signal.LeaveStateMismatch, signal.ActionReconnect)
				return
			}
		}
		s.room.apply(s.room.state.Subscribe(s.record.ID, state.Subscription.Sources, state.Subscription.Subscribe))
		for _, id := range state.Disabled {
			s.endpoint.SetWanted(id, sfm.Wanted{Disabled: true, Quality: -1})
		}
	})
}

// Simulate implements signal.Session. A client may simulate what hurts only itself.
func (s *session) Simulate(scenario signal.Scenario) {
	s.do(func() {
		switch scenario.Kind {
		case signal.SimulateServerLeave:
			s.room.evict(s, signal.LeaveServerShutdown, signal.ActionDisconnect)
		case signal.SimulateLeaveFullReconnect, signal.SimulateMigration:
			s.room.evict(s, signal.LeaveUnknown, signal.ActionReconnect)
		case signal.SimulateNodeFailure:
			if s.conn != nil {
				s.conn.Close(signal.CloseInternal, "simulated node failure")
			}
			s.room.leave(s, int32(signal.LeaveSignalClose))
		default:
			s.log.Debug("simulation not supported", "scenario", scenario.Kind)
		}
	})
}

// Leave implements signal.Session.
func (s *session) Leave(reason signal.LeaveReason) {
	s.room.postWait(func() { s.room.leave(s, int32(reason)) })
}

// Closed implements signal.Session. A client whose connection broke may resume; one that closed it in order is gone.
func (s *session) Closed(err error) {
	s.room.postWait(func() {
		if s.room.sessions[s.record.ID] != s { // never entered, or has left
			if !s.ended {
				s.ended = true
				s.room.node.release(s.room)
			}
			return
		}
		if s.superseded > 0 {
			s.superseded--
			return
		}
		s.conn = nil
		if err == nil {
			s.room.leave(s, int32(signal.LeaveClientInitiated))
			return
		}
		s.lostAt = time.Now()
		s.log.Info("participant lost its signalling", "err", err)
	})
}

// ---- what time says

func (s *session) tick(now time.Time) {
	switch {
	case !s.lostAt.IsZero() && now.Sub(s.lostAt) > signalGrace:
		s.log.Info("participant did not come back")
		s.room.leave(s, int32(signal.LeaveSignalClose))
	case !s.failedAt.IsZero() && now.Sub(s.failedAt) > mediaGrace:
		s.room.evict(s, signal.LeaveMediaFailure, signal.ActionReconnect)
	case s.conn != nil && now.Sub(s.tokenAt) > tokenRefresh:
		s.refreshToken()
	}
}

// refreshToken gives the client a token it can come back with: the same grants, valid anew.
func (s *session) refreshToken() {
	s.tokenAt = time.Now()
	claims := *s.req.Claims
	claims.Name, claims.Metadata, claims.Attributes = s.record.Name, s.record.Metadata, s.record.Attributes
	jwt, err := token.Mint(claims.APIKey, s.room.node.cfg.Keys[claims.APIKey], claims, refreshedTokenTTL, time.Now())
	if err != nil {
		s.log.Error("token not refreshed", "err", err)
		return
	}
	s.conn.SendRefreshToken(jwt)
}
