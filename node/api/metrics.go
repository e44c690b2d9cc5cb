package api

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// routes are the values of the label route.
var routes = []string{"healthz", "readyz", "edges", "edge", "regions", "status", "room", "metrics", "twirp", "other"}

var statusClasses = []string{"2xx", "3xx", "4xx", "5xx"}

type metrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	places   *prometheus.CounterVec
	tokens   *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "meridian_api_requests_total", Help: "HTTP requests answered, by route and class of status code.",
		}, []string{"route", "class"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "meridian_api_request_duration_seconds", Help: "Time from a request's headers to the end of its answer.",
			Buckets: []float64{.001, .005, .01, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"route"}),
		places: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "meridian_api_client_places_total", Help: "Clients that asked for edges, by whether their place is known.",
		}, []string{"known"}),
		tokens: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "meridian_api_tokens_total", Help: "Requests for access tokens at POST /v1/edge, by result.",
		}, []string{"result"}),
	}
	for _, r := range routes {
		m.duration.WithLabelValues(r)
		for _, c := range statusClasses {
			m.requests.WithLabelValues(r, c)
		}
	}
	for _, k := range []string{"true", "false"} {
		m.places.WithLabelValues(k)
	}
	for _, r := range []string{"issued", "refused", "invalid", "failed"} {
		m.tokens.WithLabelValues(r)
	}
	for _, c := range []prometheus.Collector{m.requests, m.duration, m.places, m.tokens} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) request(route string, status int, took time.Duration) {
	class := "2xx"
	if i := status/100 - 2; i > 0 && i < len(statusClasses) {
		class = statusClasses[i]
	}
	m.requests.WithLabelValues(route, class).Inc()
	m.duration.WithLabelValues(route).Observe(took.Seconds())
}

// recorder remembers the status of an answer.
type recorder struct {
	http.ResponseWriter
	status int
}

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(b []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	return r.ResponseWriter.Write(b)
}
