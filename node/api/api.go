package api

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// API holds the handlers. It has no state of its own; Handler may be called any number of times.
type API struct {
	cfg     Config
	deps    Deps
	log     *slog.Logger
	metrics *metrics
	handler http.Handler
}

// New checks the configuration and makes the handlers. The error joins all problems of cfg, or says that reg has the
// metrics of another API already.
func New(cfg Config, deps Deps, log *slog.Logger, reg prometheus.Registerer) (*API, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if err := deps.validate(); err != nil {
		return nil, err
	}
	if cfg.SigningKey == "" {
		cfg.SigningKey = slices.Min(slices.Collect(maps.Keys(cfg.Keys)))
	}
	m, err := newMetrics(reg)
	if err != nil {
		return nil, fmt.Errorf("api: register metrics: %w", err)
	}
	a := &API{cfg: cfg, deps: deps, log: log, metrics: m}
	a.handler = a.routes()
	return a, nil
}

// Paths are where Handler wants to be mounted: it answers everything below each path that ends in a slash.
func (a *API) Paths() []string {
	return []string{"/healthz", "/readyz", "/v1/", "/settings/", "/debug/rooms/", "/metrics", "/twirp/"}
}

// Handler answers the requests for Paths; everything else is 404.
func (a *API) Handler() http.Handler { return a.handler }

func (a *API) routes() http.Handler {
	mux := http.NewServeMux()
	handle := func(path, route string, methods []string, public bool, h http.HandlerFunc) {
		mux.Handle(path, a.wrap(route, methods, public, h))
	}
	get, post := []string{http.MethodGet, http.MethodHead}, []string{http.MethodPost}
	handle("/healthz", "healthz", get, false, a.healthz)
	handle("/readyz", "readyz", get, false, a.readyz)
	handle("/v1/edges", "edges", get, true, a.edges)
	handle("/v1/edge", "edge", post, true, a.tokenSource)
	handle("/settings/regions", "regions", get, true, a.regions)
	handle("/v1/status", "status", get, false, a.admin(a.status))
	handle("/debug/rooms/{name...}", "room", get, false, a.admin(a.room))
	handle("/twirp/{service}/{method}", "twirp", nil, true, a.twirp)
	handle("/twirp/", "twirp", nil, true, a.twirp)
	if a.cfg.ServeMetrics && a.deps.Gatherer != nil {
		h := promhttp.HandlerFor(a.deps.Gatherer, promhttp.HandlerOpts{MaxRequestsInFlight: 4, ErrorHandling: promhttp.ContinueOnError})
		handle("/metrics", "metrics", get, false, h.ServeHTTP)
	}
	handle("/", "other", nil, false, func(w http.ResponseWriter, _ *http.Request) {
		writeError(w, http.StatusNotFound, "no such path", "see GET /v1/edges, POST /v1/edge, GET /v1/status, GET /healthz")
	})
	return mux
}

// wrap does for a route what all need: headers, methods (nil: the handler checks), CORS for public ones, a deadline,
// counting.
func (a *API) wrap(route string, methods []string, public bool, h http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		rec := &recorder{ResponseWriter: w}
		defer func() { a.metrics.request(route, rec.status, time.Since(start)) }()
		header := w.Header()
		header.Set("X-Content-Type-Options", "nosniff")
		header.Set("Referrer-Policy", "no-referrer")
		header.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		header.Set("Cache-Control", "no-store")
		if public {
			// No cookies are read, so any origin may ask: what is protected is protected by tokens.
			header.Set("Access-Control-Allow-Origin", "*")
			if r.Method == http.MethodOptions {
				header.Set("Access-Control-Allow-Methods", "GET, HEAD, POST, OPTIONS")
				header.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, *")
				header.Set("Access-Control-Max-Age", "7200")
				rec.WriteHeader(http.StatusNoContent)
				return
			}
		}
		if methods != nil && !slices.Contains(methods, r.Method) {
			header.Set("Allow", methods[0])
			writeError(rec, http.StatusMethodNotAllowed, "method not allowed", "use "+methods[0])
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), a.cfg.RequestTimeout)
		defer cancel()
		h(rec, r.WithContext(ctx))
	})
}

// admin lets only those pass who may see the whole mesh.
func (a *API) admin(h http.HandlerFunc) http.HandlerFunc {
	want := sha256.Sum256([]byte(a.cfg.AdminToken))
	return func(w http.ResponseWriter, r *http.Request) {
		if a.cfg.OpenStatus {
			h(w, r)
			return
		}
		if a.cfg.AdminToken == "" {
			writeUnauthorized(w, "status is not open on this node", "set the admin token in the node's configuration and send it as 'Authorization: Bearer …'")
			return
		}
		raw, ok := bearer(r)
		got := sha256.Sum256([]byte(raw)) // of equal length, so that the comparison tells nothing by its time
		if !ok || subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
			writeUnauthorized(w, "the admin token is missing or wrong", "send the admin token of the node's configuration as 'Authorization: Bearer …'")
			return
		}
		h(w, r)
	}
}
