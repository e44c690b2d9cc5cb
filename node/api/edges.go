package api

import (
	"cmp"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/token"
)

// Edges is the answer of GET /v1/edges.
type Edges struct {
	Client      ClientPlace `json:"client"`
	Edges       []Edge      `json:"edges"`                 // best first
	Attribution string      `json:"attribution,omitempty"` // to be shown where Client is
}

// Edge is one entry of Edges and of TokenResponse.
type Edge struct {
	Node          mesh.NodeID `json:"node"`
	Region        mesh.Region `json:"region"`
	URL           string      `json:"url"`                   // for LiveKit client SDKs: ws:// or wss://
	HTTP          string      `json:"http"`                  // the same door for HTTP requests
	DistanceKM    *float64    `json:"distance_km,omitempty"` // absent when the client's place is unknown
	ExpectedRTTMs *float64    `json:"expected_rtt_ms,omitempty"`
	Load          float64     `json:"load"` // 0 to 1
	Draining      bool        `json:"draining"`
}

const (
	fakeAddressQuery  = "client_ip"
	fakeAddressHeader = "X-Meridian-Client-IP"
)

func (a *API) edges(w http.ResponseWriter, r *http.Request) {
	q, ok := a.edgeQuery(w, r)
	if !ok {
		return
	}
	list := a.rank(r, q)
	writeJSON(w, http.StatusOK, Edges{Client: list.Client, Edges: edgesOf(list), Attribution: list.Attribution})
}

// edgeQuery reads who asks and what for. It answers the request and reports false when that is malformed.
func (a *API) edgeQuery(w http.ResponseWriter, r *http.Request) (q EdgeQuery, ok bool) {
	q.Client = ClientAddr(r, a.cfg.TrustedProxies)
	values := r.URL.Query()
	if a.cfg.AllowFakeAddress {
		if fake := cmp.Or(values.Get(fakeAddressQuery), r.Header.Get(fakeAddressHeader)); fake != "" {
			q.Client = parseHop(fake)
			if !q.Client.IsValid() {
				writeError(w, http.StatusBadRequest, fakeAddressQuery+" is no IP address", "give one like 203.0.113.7 or 2001:db8::7")
				return q, false
			}
		}
	}
	if s := values.Get("region"); s != "" {
		region, err := mesh.ParseRegion(s)
		if err != nil {
			writeError(w, http.StatusBadRequest, err.Error(), "take a region of GET /v1/edges")
			return q, false
		}
		q.Region = region
	}
	return q, true
}

func (a *API) rank(r *http.Request, q EdgeQuery) EdgeList {
	list := a.deps.Edges(r.Context(), q)
	a.metrics.places.WithLabelValues(strconv.FormatBool(list.Client.Known)).Inc()
	return list
}

func edgesOf(list EdgeList) []Edge {
	edges := make([]Edge, 0, len(list.Edges))
	for _, e := range list.Edges {
		out := Edge{
			Node: e.Node, Region: e.Region, URL: e.ClientURL, HTTP: httpURL(e.ClientURL),
			Load: round(e.Load, 1000), Draining: e.Draining,
		}
		if e.Distance >= 0 {
			km := round(e.Distance, 1)
			out.DistanceKM = &km
		}
		if e.ExpectedRTT > 0 {
			ms := round(float64(e.ExpectedRTT)/float64(time.Millisecond), 10)
			out.ExpectedRTTMs = &ms
		}
		edges = append(edges, out)
	}
	return edges
}

// round keeps 1/steps, and makes what JSON cannot carry zero.
func round(x, steps float64) float64 {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return 0
	}
	return math.Round(x*steps) / steps
}

// httpURL turns ws:// into http:// and wss:// into https://.
func httpURL(clientURL string) string {
	if rest, ok := strings.CutPrefix(clientURL, "ws"); ok {
		return "http" + rest
	}
	return clientURL
}

// regionsBody is the answer of GET /settings/regions.
type regionsBody struct {
	Regions []region `json:"regions"`
}

type region struct {
	Region   mesh.Region `json:"region"`
	URL      string      `json:"url"`
	Distance string      `json:"distance"` // metres, an int64 as protojson writes it; 0 when unknown
}

// regions answers what client SDKs ask to choose a region, and another one when that fails: the best edge of each.
func (a *API) regions(w http.ResponseWriter, r *http.Request) {
	raw, ok := token.FromRequest(r)
	if !ok {
		writeUnauthorized(w, "an access token is missing", "send it as 'Authorization: Bearer …'")
		return
	}
	if _, err := token.Verify(a.cfg.Keys, raw, time.Now()); err != nil {
		writeUnauthorized(w, err.Error(), "make a new token with a key of this mesh, as 'meridian token' does")
		return
	}
	q, ok := a.edgeQuery(w, r)
	if !ok {
		return
	}
	body := regionsBody{Regions: []region{}}
	seen := make(map[mesh.Region]bool)
	for _, e := range a.rank(r, q).Edges {
		// Clients fail over to these: a draining node is offered only when there is nothing else.
		if seen[e.Region] || e.Draining && len(body.Regions) > 0 {
			continue
		}
		seen[e.Region] = true
		metres := int64(max(0, round(e.Distance, 1)*1000))
		body.Regions = append(body.Regions, region{Region: e.Region, URL: e.ClientURL, Distance: strconv.FormatInt(metres, 10)})
	}
	w.Header().Set("Cache-Control", "private, max-age=30")
	writeJSON(w, http.StatusOK, body)
}
