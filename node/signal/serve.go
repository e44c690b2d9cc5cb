package signal

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/http"

	"github.com/coder/websocket"
)

func (s *Server) serveValidate(w http.ResponseWriter, r *http.Request, v1 bool) {
	if !s.begin() {
		s.refuse(w, ErrDraining)
		s.m.checks.WithLabelValues(joinUnavailable).Inc()
		return
	}
	defer s.active.Done()
	req, err := s.admit(r, v1)
	result := joinBadRequest
	if err == nil {
		result = joinRefused
		ctx, cancel := context.WithTimeout(r.Context(), s.cfg.JoinTimeout)
		err = s.hall.Check(ctx, req)
		cancel()
	}
	if err != nil {
		s.m.checks.WithLabelValues(resultOf(err, result)).Inc()
		s.refuse(w, err)
		return
	}
	s.m.checks.WithLabelValues(joinOK).Inc()
	writeText(w, http.StatusOK, "success")
}

func (s *Server) serveJoin(w http.ResponseWriter, r *http.Request, v1 bool) {
	if !s.begin() {
		s.refuse(w, ErrDraining)
		s.m.joins.WithLabelValues(joinUnavailable).Inc()
		return
	}
	defer s.active.Done()
	req, err := s.admit(r, v1)
	if err != nil {
		s.m.joins.WithLabelValues(resultOf(err, joinBadRequest)).Inc()
		s.refuse(w, err)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), s.cfg.JoinTimeout)
	session, err := s.hall.Join(ctx, req)
	cancel()
	if err == nil && session == nil {
		err = errors.New("signal: the hall returned no session")
	}
	if err != nil {
		s.m.joins.WithLabelValues(resultOf(err, joinRefused)).Inc()
		s.refuse(w, err)
		return
	}
	s.attach(w, r, &req, session)
}

// attach upgrades the connection and serves it to its end.
func (s *Server) attach(w http.ResponseWriter, r *http.Request, req *JoinRequest, session Session) {
	catch := &hijackCatcher{ResponseWriter: w}
	var c *Conn // the callbacks run inside reads, when it is set
	ws, err := websocket.Accept(catch, r, &websocket.AcceptOptions{
		InsecureSkipVerify: true, // any origin may connect: the token decides
		CompressionMode:    websocket.CompressionDisabled,
		OnPingReceived:     func(context.Context, []byte) bool { c.touch(); return true },
		OnPongReceived:     func(context.Context, []byte) { c.touch() },
	})
	if err != nil {
		s.m.joins.WithLabelValues(joinUpgrade).Inc()
		s.log.Debug("upgrade failed", "room", req.Room, "participant", req.Identity, "err", err)
		session.Closed(err)
		return
	}
	ws.SetReadLimit(-1) // readFrame has its own
	s.m.joins.WithLabelValues(joinOK).Inc()
	s.m.connections.Inc()
	defer s.m.connections.Dec()

	c = newConn(&s.cfg, s.m, ws, catch.conn)
	defer c.cancel() // even when a session panics
	s.add(c)
	session.Attach(c)
	for _, t := range req.AddTracks {
		session.AddTrack(t)
	}
	if req.Offer != nil {
		session.Offer(*req.Offer)
	}
	c.readLoop(session)
	err = c.wait()
	s.remove(c)
	if err != nil {
		s.log.Debug("signalling ended", "room", req.Room, "participant", req.Identity, "err", err)
	}
	session.Closed(err)
}

func (s *Server) add(c *Conn) {
	s.mu.Lock()
	s.conns[c] = struct{}{}
	draining := s.draining
	s.mu.Unlock()
	if draining { // it came in between; nothing was sent yet and leave may be the first message
		c.SendLeave(LeaveServerShutdown, ActionReconnect)
		c.closeBecause(CloseGoingAway, "server shutdown", ErrShutdown)
	}
}

func (s *Server) remove(c *Conn) {
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
}

// refuse answers with an error. Only a RefusedError was written for the client's eyes.
func (s *Server) refuse(w http.ResponseWriter, err error) {
	var refused *RefusedError
	if errors.As(err, &refused) && refused.Status >= 400 && refused.Status <= 599 {
		writeText(w, refused.Status, refused.Text)
		return
	}
	s.log.Warn("join failed", "err", err)
	writeText(w, http.StatusInternalServerError, "internal error")
}

func resultOf(err error, refusal string) string {
	var refused *RefusedError
	switch {
	case !errors.As(err, &refused):
		return joinFailed
	case refused.Status == http.StatusUnauthorized:
		return joinDenied
	default:
		return refusal
	}
}

func writeText(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text)) // the client may be gone
}

// hijackCatcher keeps the socket that an upgrade takes over.
type hijackCatcher struct {
	http.ResponseWriter
	conn net.Conn
}

// Hijack takes the socket over from the HTTP server.
func (h *hijackCatcher) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	h.conn = conn
	return conn, rw, err
}

// Unwrap lets a ResponseController reach what is wrapped.
func (h *hijackCatcher) Unwrap() http.ResponseWriter { return h.ResponseWriter }
