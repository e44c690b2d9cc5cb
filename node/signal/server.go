package signal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/meridian-sfu/meridian/internal/token"
)

// Server is the door. It serves the paths Handles names; mount it where no other handler redirects doubled slashes.
type Server struct {
	cfg  Config
	keys func() token.Keys
	hall Hall
	log  *slog.Logger
	m    *metrics

	mu       sync.Mutex
	conns    map[*Conn]struct{} // guarded by mu
	draining bool               // guarded by mu
	active   sync.WaitGroup     // requests under way; Add only under mu and not while draining
}

// New returns a door to hall. keys is asked at every request, so that keys may change while it runs.
func New(cfg Config, keys func() token.Keys, hall Hall, log *slog.Logger, reg prometheus.Registerer) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if keys == nil || hall == nil || log == nil || reg == nil {
		return nil, errors.New("signal: keys, hall, log and registerer are needed")
	}
	m, err := newMetrics(reg)
	if err != nil {
		return nil, fmt.Errorf("signal: metrics: %w", err)
	}
	return &Server{cfg: cfg, keys: keys, hall: hall, log: log, m: m, conns: make(map[*Conn]struct{})}, nil
}

// Run waits until ctx is over, then takes nobody in any more, tells every client to connect anew and returns when the last one
// is gone: within Config.ShutdownTimeout and a second. It fails only when a Session does not return.
func (s *Server) Run(ctx context.Context) error {
	<-ctx.Done()
	s.mu.Lock()
	s.draining = true
	conns := s.open()
	s.mu.Unlock()
	for _, c := range conns {
		c.SendLeave(LeaveServerShutdown, ActionReconnect)
		c.closeBecause(CloseGoingAway, "server shutdown", ErrShutdown)
	}
	gone := make(chan struct{})
	go func() { s.active.Wait(); close(gone) }()
	select {
	case <-gone:
		return nil
	case <-time.After(s.cfg.ShutdownTimeout):
	}
	s.mu.Lock()
	conns = s.open()
	s.mu.Unlock()
	for _, c := range conns {
		c.abort(ErrShutdown)
	}
	select {
	case <-gone:
		return nil
	case <-time.After(time.Second):
		return errors.New("signal: a session does not return")
	}
}

// open lists the open connections. The caller holds mu.
func (s *Server) open() []*Conn {
	conns := make([]*Conn, 0, len(s.conns))
	for c := range s.conns {
		conns = append(conns, c)
	}
	return conns
}

// route is one of the paths served.
type route struct {
	v1       bool
	validate bool
}

// parsePath finds the route of a path. Repeated slashes count as one and any prefix is allowed: clients append the route to
// whatever base URL they were given.
func parsePath(path string) (route, bool) {
	var parts []string
	for p := range strings.SplitSeq(path, "/") {
		if p != "" {
			parts = append(parts, p)
		}
	}
	var rt route
	last := func(name string) bool {
		if n := len(parts); n > 0 && parts[n-1] == name {
			parts = parts[:n-1]
			return true
		}
		return false
	}
	rt.validate = last("validate")
	rt.v1 = last("v1")
	return rt, last("rtc")
}

// Handles reports whether a URL path is this handler's.
func Handles(path string) bool {
	_, ok := parsePath(path)
	return ok
}

// ServeHTTP serves /rtc, /rtc/v1, /rtc/validate and /rtc/v1/validate under any prefix; everything else is 404.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	rt, ok := parsePath(r.URL.Path)
	allowAnyOrigin(w, r)
	switch {
	case !ok:
		w.WriteHeader(http.StatusNotFound)
	case r.Method == http.MethodOptions:
		w.WriteHeader(http.StatusNoContent)
	case !rt.validate && !isUpgrade(r):
		w.WriteHeader(http.StatusNotFound)
	case r.Method != http.MethodGet && r.Method != http.MethodPost:
		w.Header().Set("Allow", "GET, POST, OPTIONS")
		w.WriteHeader(http.StatusMethodNotAllowed)
	case rt.validate:
		s.serveValidate(w, r, rt.v1)
	default:
		s.serveJoin(w, r, rt.v1)
	}
}

// allowAnyOrigin lets pages of any origin in: who may join is decided by the token, never by a cookie.
func allowAnyOrigin(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", "*")
	if r.Method != http.MethodOptions {
		return
	}
	h.Set("Access-Control-Allow-Methods", "GET, POST, HEAD, OPTIONS, PUT, PATCH, DELETE")
	headers := r.Header.Get("Access-Control-Request-Headers")
	if headers == "" || len(headers) > 1024 {
		headers = "*"
	}
	h.Set("Access-Control-Allow-Headers", headers) // "*" alone does not cover Authorization
	h.Set("Access-Control-Max-Age", "86400")
}

func isUpgrade(r *http.Request) bool {
	for p := range strings.SplitSeq(r.Header.Get("Upgrade"), ",") {
		if strings.EqualFold(strings.TrimSpace(p), "websocket") {
			return r.Method == http.MethodGet
		}
	}
	return false
}

// begin counts a request in; it fails when the server shuts down.
func (s *Server) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining {
		return false
	}
	s.active.Add(1)
	return true
}
