package api

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/internal/token"
)

const (
	testKey    = "devkey"
	testSecret = "devsecret-devsecret-devsecret-32ch"
	adminToken = "admin-token-of-the-tests"
)

// stub stands for the other parts of a node.
type stub struct {
	query   EdgeQuery // the last one
	edges   []RankedEdge
	reasons []string
	status  Status
	rooms   Rooms
}

func newStub() *stub {
	return &stub{edges: []RankedEdge{
		{Node: "eu-west-1", Region: "eu-west", ClientURL: "wss://eu.example", Distance: 463.6, ExpectedRTT: 12345 * time.Microsecond, Load: 0.25},
		{Node: "eu-west-2", Region: "eu-west", ClientURL: "wss://eu2.example", Distance: 463.6, ExpectedRTT: 12345 * time.Microsecond, Load: 0.5},
		{Node: "us-east-1", Region: "us-east", ClientURL: "ws://us.example:7880", Distance: 5570, ExpectedRTT: 94 * time.Millisecond, Load: 0.1},
		{Node: "ap-south-1", Region: "ap-south", ClientURL: "wss://ap.example", Distance: -1, Draining: true},
	}}
}

func newTestAPI(t testing.TB, s *stub, change func(*Config)) (*API, *prometheus.Registry) {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Keys = token.Keys{testKey: testSecret}
	cfg.AdminToken = adminToken
	if change != nil {
		change(&cfg)
	}
	reg := prometheus.NewRegistry()
	a, err := New(cfg, Deps{
		Edges: func(_ context.Context, q EdgeQuery) EdgeList {
			s.query = q
			return EdgeList{
				Client: ClientPlace{Known: true, Country: "GB", City: "London", Latitude: 51.5, Longitude: -0.1},
				Edges:  s.edges, Attribution: "by somebody",
			}
		},
		Ready:    func() []string { return s.reasons },
		Status:   func(context.Context) Status { return s.status },
		Rooms:    s.rooms,
		Gatherer: reg,
	}, slog.New(slog.DiscardHandler), reg)
	require.NoError(t, err)
	return a, reg
}

type answer struct {
	status int
	header http.Header
	body   string
}

func (a answer) decode(t *testing.T, v any) {
	t.Helper()
	require.NoError(t, json.Unmarshal([]byte(a.body), v), a.body)
}

// ask sends a request; headers alternate names and values.
func ask(a *API, method, target, body string, headers ...string) answer {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.RemoteAddr = "203.0.113.7:4242"
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	a.Handler().ServeHTTP(w, r)
	return answer{w.Code, w.Header(), w.Body.String()}
}

func mint(t testing.TB, c token.Claims) string {
	t.Helper()
	raw, err := token.Mint(testKey, testSecret, c, time.Hour, time.Now())
	require.NoError(t, err)
	return raw
}

func TestConfigValidate(t *testing.T) {
	good := DefaultConfig()
	good.Keys = token.Keys{testKey: testSecret}
	require.NoError(t, good.Validate())
	err := Config{
		SigningKey: "other", TokenTTL: -1, TokenPolicy: "ajar", TrustedProxies: []netip.Prefix{{}}, AdminToken: "short",
	}.Validate()
	for _, part := range []string{"no API key", `"other"`, "TTL", `"ajar"`, "trusted proxy", "admin token", "request timeout"} {
		require.ErrorContains(t, err, part)
	}
}

func TestNewErrors(t *testing.T) {
	cfg := DefaultConfig()
	_, err := New(cfg, Deps{}, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	require.ErrorContains(t, err, "no API key")
	cfg.Keys = token.Keys{testKey: testSecret}
	_, err = New(cfg, Deps{}, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	require.ErrorContains(t, err, "required")
	a, reg := newTestAPI(t, newStub(), nil)
	_, err = New(cfg, a.deps, a.log, reg)
	require.ErrorContains(t, err, "register metrics")
}

func TestHealthAndReadiness(t *testing.T) {
	s := newStub()
	a, _ := newTestAPI(t, s, nil)
	require.Equal(t, http.StatusOK, ask(a, "GET", "/healthz", "").status)
	require.Equal(t, http.StatusOK, ask(a, "HEAD", "/healthz", "").status)
	got := ask(a, "GET", "/readyz", "")
	require.Equal(t, http.StatusOK, got.status)
	require.JSONEq(t, `{"ready":true}`, got.body)
	s.reasons = []string{"no other node was found", "draining"}
	got = ask(a, "GET", "/readyz", "")
	require.Equal(t, http.StatusServiceUnavailable, got.status)
	require.JSONEq(t, `{"ready":false,"reasons":["no other node was found","draining"]}`, got.body)
}

func TestUnknownPathsAndMethods(t *testing.T) {
	a, _ := newTestAPI(t, newStub(), nil)
	got := ask(a, "GET", "/v1/nothing", "")
	require.Equal(t, http.StatusNotFound, got.status)
	require.Contains(t, got.body, `"hint"`)
	got = ask(a, "GET", "/v1/edge", "")
	require.Equal(t, http.StatusMethodNotAllowed, got.status)
	require.Equal(t, "POST", got.header.Get("Allow"))
	require.JSONEq(t, `{"error":"method not allowed","hint":"use POST"}`, got.body)
	require.Equal(t, http.StatusMethodNotAllowed, ask(a, "DELETE", "/v1/status", "").status)
}

// node mounts the handler beside a page at "/": that must not panic, and must reach all routes.
func TestPathsCanBeMounted(t *testing.T) {
	a, _ := newTestAPI(t, newStub(), nil)
	mux := http.NewServeMux()
	mux.Handle("/", http.NotFoundHandler())
	for _, p := range a.Paths() {
		mux.Handle(p, a.Handler())
	}
	for _, target := range []string{"/healthz", "/readyz", "/v1/edges", "/metrics"} {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest("GET", target, nil))
		require.Equal(t, http.StatusOK, w.Code, target)
	}
}

func TestSecurityHeadersAndCORS(t *testing.T) {
	a, _ := newTestAPI(t, newStub(), nil)
	for _, target := range []string{"/v1/edges", "/v1/edge", "/settings/regions", "/twirp/livekit.RoomService/ListRooms"} {
		got := ask(a, "OPTIONS", target, "", "Origin", "https://app.example", "Access-Control-Request-Method", "POST")
		require.Equal(t, http.StatusNoContent, got.status, target)
		require.Equal(t, "*", got.header.Get("Access-Control-Allow-Origin"))
		require.Contains(t, got.header.Get("Access-Control-Allow-Headers"), "Authorization")
	}
	got := ask(a, "GET", "/v1/status", "")
	require.Empty(t, got.header.Get("Access-Control-Allow-Origin"))
	require.Equal(t, "nosniff", got.header.Get("X-Content-Type-Options"))
	require.Equal(t, "no-store", got.header.Get("Cache-Control"))
	require.Contains(t, got.header.Get("Content-Security-Policy"), "default-src 'none'")
}

func TestMetrics(t *testing.T) {
	a, _ := newTestAPI(t, newStub(), nil)
	ask(a, "GET", "/v1/edges", "")
	ask(a, "GET", "/v1/status", "")
	got := ask(a, "GET", "/metrics", "")
	require.Equal(t, http.StatusOK, got.status)
	require.Contains(t, got.body, `meridian_api_requests_total{class="2xx",route="edges"} 1`)
	require.Contains(t, got.body, `meridian_api_requests_total{class="4xx",route="status"} 1`)
	require.Contains(t, got.body, `meridian_api_requests_total{class="5xx",route="twirp"} 0`)

	a, _ = newTestAPI(t, newStub(), func(c *Config) { c.ServeMetrics = false })
	require.Equal(t, http.StatusNotFound, ask(a, "GET", "/metrics", "").status)
}

func TestStatus(t *testing.T) {
	s := newStub()
	s.status = Status{
		Node: "eu-west-1", Region: "eu-west",
		Links: []LinkStatus{
			{Peer: "us-east-1", RTTMs: 80.5, Loss: 0.01, Flows: []FlowStatus{{Room: "a/b", Source: "TR_1"}, {Room: "other"}}},
			{Peer: "ap-south-1", Flows: []FlowStatus{{Room: "other"}}},
		},
		Rooms: []RoomStatus{{Name: "a/b", Owner: "us-east-1", Epoch: 3}, {Name: "other"}},
	}
	a, _ := newTestAPI(t, s, nil)
	for name, headers := range map[string][]string{
		"none":  nil,
		"wrong": {"Authorization", "Bearer something-else"},
		"JWT":   {"Authorization", "Bearer " + mint(t, token.Claims{Grant: token.Grant{RoomAdmin: true}})},
		"basic": {"Authorization", "Basic " + adminToken},
	} {
		got := ask(a, "GET", "/v1/status", "", headers...)
		require.Equal(t, http.StatusUnauthorized, got.status, name)
		require.Contains(t, got.body, "admin token of the node's configuration")
		require.Equal(t, "Bearer", got.header.Get("WWW-Authenticate"))
		require.Equal(t, http.StatusUnauthorized, ask(a, "GET", "/debug/rooms/other", "", headers...).status)
	}
	auth := []string{"Authorization", "Bearer " + adminToken}
	got := ask(a, "GET", "/v1/status", "", auth...)
	require.Equal(t, http.StatusOK, got.status)
	require.Contains(t, got.body, `"nodes":[]`)
	var back Status
	got.decode(t, &back)
	require.Equal(t, s.status.Links, back.Links)

	got = ask(a, "GET", "/debug/rooms/a%2Fb", "", auth...)
	require.Equal(t, http.StatusOK, got.status)
	var detail RoomDetail
	got.decode(t, &detail)
	require.EqualValues(t, 3, detail.Room.Epoch)
	require.Len(t, detail.Links, 1)
	require.Equal(t, []FlowStatus{{Room: "a/b", Source: "TR_1"}}, detail.Links[0].Flows)
	require.Len(t, s.status.Links[0].Flows, 2, "the answer must not change what Status returned")
	require.Equal(t, http.StatusNotFound, ask(a, "GET", "/debug/rooms/none", "", auth...).status)
	require.Equal(t, http.StatusBadRequest, ask(a, "GET", "/debug/rooms/", "", auth...).status)

	shut, _ := newTestAPI(t, s, func(c *Config) { c.AdminToken = "" })
	got = ask(shut, "GET", "/v1/status", "", "Authorization", "Bearer ")
	require.Equal(t, http.StatusUnauthorized, got.status)
	require.Contains(t, got.body, "not open")
	open, _ := newTestAPI(t, s, func(c *Config) { c.OpenStatus = true })
	require.Equal(t, http.StatusOK, ask(open, "GET", "/v1/status", "").status)
}

func TestEdges(t *testing.T) {
	s := newStub()
	a, _ := newTestAPI(t, s, nil)
	got := ask(a, "GET", "/v1/edges?region=us-east&client_ip=198.51.100.1", "", "X-Meridian-Client-IP", "198.51.100.2")
	require.Equal(t, http.StatusOK, got.status)
	require.Equal(t, EdgeQuery{Client: netip.MustParseAddr("203.0.113.7"), Region: "us-east"}, s.query, "addresses are not faked unless allowed")
	require.JSONEq(t, `{
		"client":{"known":true,"country":"GB","city":"London","latitude":51.5,"longitude":-0.1},
		"edges":[
			{"node":"eu-west-1","region":"eu-west","url":"wss://eu.example","http":"https://eu.example","distance_km":464,"expected_rtt_ms":12.3,"load":0.25,"draining":false},
			{"node":"eu-west-2","region":"eu-west","url":"wss://eu2.example","http":"https://eu2.example","distance_km":464,"expected_rtt_ms":12.3,"load":0.5,"draining":false},
			{"node":"us-east-1","region":"us-east","url":"ws://us.example:7880","http":"http://us.example:7880","distance_km":5570,"expected_rtt_ms":94,"load":0.1,"draining":false},
			{"node":"ap-south-1","region":"ap-south","url":"wss://ap.example","http":"https://ap.example","load":0,"draining":true}
		],
		"attribution":"by somebody"}`, got.body)
	got = ask(a, "GET", "/v1/edges?region=US%20East", "")
	require.Equal(t, http.StatusBadRequest, got.status)
	require.Contains(t, got.body, "hint")
	s.edges = nil
	require.Contains(t, ask(a, "GET", "/v1/edges", "").body, `"edges":[]`)
}

func TestFakeAddress(t *testing.T) {
	s := newStub()
	a, _ := newTestAPI(t, s, func(c *Config) { c.AllowFakeAddress = true })
	ask(a, "GET", "/v1/edges?client_ip=198.51.100.1", "", "X-Meridian-Client-IP", "198.51.100.2")
	require.Equal(t, "198.51.100.1", s.query.Client.String())
	ask(a, "GET", "/v1/edges", "", "X-Meridian-Client-IP", "2001:db8::7")
	require.Equal(t, "2001:db8::7", s.query.Client.String())
	require.Equal(t, http.StatusBadRequest, ask(a, "GET", "/v1/edges?client_ip=here", "").status)
}

func TestRegions(t *testing.T) {
	s := newStub()
	a, _ := newTestAPI(t, s, nil)
	require.Equal(t, http.StatusUnauthorized, ask(a, "GET", "/settings/regions", "").status)
	got := ask(a, "GET", "/settings/regions", "", "Authorization", "Bearer nonsense")
	require.Equal(t, http.StatusUnauthorized, got.status)
	require.Contains(t, got.body, "hint")
	auth := []string{"Authorization", "Bearer " + mint(t, token.Claims{Identity: "me", Grant: token.Grant{RoomJoin: true, Room: "r"}})}
	got = ask(a, "GET", "/settings/regions", "", auth...)
	require.Equal(t, http.StatusOK, got.status)
	require.Contains(t, got.header.Get("Cache-Control"), "max-age=30")
	require.JSONEq(t, `{"regions":[
		{"region":"eu-west","url":"wss://eu.example","distance":"464000"},
		{"region":"us-east","url":"ws://us.example:7880","distance":"5570000"}]}`, got.body)
	s.edges = s.edges[3:] // only a draining one, of unknown distance
	require.JSONEq(t, `{"regions":[{"region":"ap-south","url":"wss://ap.example","distance":"0"}]}`, ask(a, "GET", "/settings/regions", "", auth...).body)
}

func TestClientAddr(t *testing.T) {
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8:1::/48")}
	for name, tc := range map[string]struct {
		remote string
		xff    []string
		want   string
	}{
		"direct":                   {"203.0.113.7:1", nil, "203.0.113.7"},
		"direct, forged":           {"203.0.113.7:1", []string{"198.51.100.1"}, "203.0.113.7"},
		"one proxy":                {"10.0.0.1:1", []string{"198.51.100.1"}, "198.51.100.1"},
		"rightmost untrusted":      {"10.0.0.1:1", []string{"192.0.2.66, 198.51.100.1"}, "198.51.100.1"},
		"two proxies":              {"10.0.0.1:1", []string{"192.0.2.66, 198.51.100.1, 10.0.0.2"}, "198.51.100.1"},
		"several headers":          {"10.0.0.1:1", []string{"192.0.2.66", "198.51.100.1,10.0.0.2"}, "198.51.100.1"},
		"no header":                {"10.0.0.1:1", nil, "10.0.0.1"},
		"all trusted":              {"10.0.0.1:1", []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.3"},
		"garbage ends it":          {"10.0.0.1:1", []string{"198.51.100.1, unknown, 10.0.0.2"}, "10.0.0.2"},
		"empty entry ends it":      {"10.0.0.1:1", []string{"198.51.100.1,,"}, "10.0.0.1"},
		"with port":                {"10.0.0.1:1", []string{"198.51.100.1:80"}, "198.51.100.1"},
		"IPv6":                     {"[2001:db8:1::1]:1", []string{"[2001:db8:2::9]:80, 2001:db8:1::5"}, "2001:db8:2::9"},
		"IPv6 in brackets":         {"10.0.0.1:1", []string{"[2001:db8:2::9]"}, "2001:db8:2::9"},
		"IPv4-mapped proxy":        {"[::ffff:10.0.0.1]:1", []string{"::ffff:198.51.100.1"}, "198.51.100.1"},
		"zone is dropped":          {"[fe80::1%eth0]:1", nil, "fe80::1"},
		"no remote address":        {"", []string{"198.51.100.1"}, "invalid IP"},
		"remote without port":      {"203.0.113.7", nil, "203.0.113.7"},
		"unreadable remote (pipe)": {"@", nil, "invalid IP"},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest("GET", "/", nil)
			r.RemoteAddr = tc.remote
			for _, v := range tc.xff {
				r.Header.Add("X-Forwarded-For", v)
			}
			require.Equal(t, tc.want, ClientAddr(r, trusted).String())
		})
	}
	r := httptest.NewRequest("GET", "/", nil)
	r.RemoteAddr = "10.0.0.1:1"
	r.Header.Set("X-Forwarded-For", "198.51.100.1"+strings.Repeat(",10.0.0.9", 100))
	require.Equal(t, "10.0.0.9", ClientAddr(r, trusted).String(), "hops are bounded")
}

func FuzzClientAddr(f *testing.F) {
	f.Add("10.0.0.1:1", "198.51.100.1, 10.0.0.2")
	f.Add("[::1]:1", "[2001:db8::1%x]:0,,")
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	f.Fuzz(func(t *testing.T, remote, forwarded string) {
		r := &http.Request{RemoteAddr: remote, Header: http.Header{"X-Forwarded-For": {forwarded}}}
		addr := ClientAddr(r, trusted)
		own := parseHop(remote)
		if own.IsValid() && !contains(trusted, own) {
			require.Equal(t, own, addr)
		}
		require.Equal(t, own.IsValid(), addr.IsValid())
		require.Empty(t, addr.Zone())
		require.False(t, addr.Is4In6())
	})
}
