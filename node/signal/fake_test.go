package signal

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/livekit/protocol/livekit"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/token"
)

const (
	testKey    = "devkey"
	testSecret = "devsecret-devsecret-devsecret-32ch"
	patience   = 30 * time.Second // how long a test waits for what must come
)

// fakeHall hands out fakeSessions.
type fakeHall struct {
	mu       sync.Mutex
	refusal  error
	requests []JoinRequest
	session  func(JoinRequest) Session // nil makes a fakeSession
	sessions chan *fakeSession
}

func (h *fakeHall) Check(_ context.Context, req JoinRequest) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.requests = append(h.requests, req)
	return h.refusal
}

func (h *fakeHall) Join(ctx context.Context, req JoinRequest) (Session, error) {
	if err := h.Check(ctx, req); err != nil {
		return nil, err
	}
	if h.session != nil {
		return h.session(req), nil
	}
	s := &fakeSession{events: make(chan any, 1024), req: req}
	h.sessions <- s
	return s, nil
}

func (h *fakeHall) last() JoinRequest {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.requests[len(h.requests)-1]
}

type (
	attached struct{ c *Conn }
	trickled struct {
		target    Target
		candidate string
		final     bool
	}
	muted struct {
		source mesh.SourceID
		muted  bool
	}
	offered  SessionDescription
	answered SessionDescription
	closed   struct{ err error }
)

// fakeSession records what it is told.
type fakeSession struct {
	events chan any
	req    JoinRequest
	silent bool
}

func (s *fakeSession) Attach(c *Conn) {
	if !s.silent {
		c.SendJoin(JoinResponse{Room: mesh.Room{ID: "RM_1", Name: s.req.Room}, Participant: mesh.Participant{ID: "PA_1", Identity: s.req.Identity}})
	}
	s.events <- attached{c}
}
func (s *fakeSession) Offer(d SessionDescription)  { s.events <- offered(d) }
func (s *fakeSession) Answer(d SessionDescription) { s.events <- answered(d) }
func (s *fakeSession) Trickle(t Target, candidate string, final bool) {
	s.events <- trickled{t, candidate, final}
}
func (s *fakeSession) AddTrack(a AddTrack)                             { s.events <- a }
func (s *fakeSession) Mute(id mesh.SourceID, on bool)                  { s.events <- muted{id, on} }
func (s *fakeSession) Subscription(v Subscription)                     { s.events <- v }
func (s *fakeSession) TrackSettings(v TrackSettings)                   { s.events <- v }
func (s *fakeSession) SubscriptionPermission(v SubscriptionPermission) { s.events <- v }
func (s *fakeSession) UpdateMetadata(v UpdateMetadata)                 { s.events <- v }
func (s *fakeSession) UpdateAudioTrack(v UpdateAudioTrack)             { s.events <- v }
func (s *fakeSession) UpdateVideoTrack(v UpdateVideoTrack)             { s.events <- v }
func (s *fakeSession) SyncState(v SyncState)                           { s.events <- v }
func (s *fakeSession) Simulate(v Scenario)                             { s.events <- v }
func (s *fakeSession) Leave(r LeaveReason)                             { s.events <- r }
func (s *fakeSession) Closed(err error)                                { s.events <- closed{err}; close(s.events) }

// next returns the next event, which must come.
func (s *fakeSession) next(t *testing.T) any {
	t.Helper()
	select {
	case e, ok := <-s.events:
		require.True(t, ok, "no more events")
		return e
	case <-time.After(patience):
		require.Fail(t, "no event")
		return nil
	}
}

// conn returns the Conn of the Attach that must be the next event.
func (s *fakeSession) conn(t *testing.T) *Conn {
	t.Helper()
	e, ok := s.next(t).(attached)
	require.True(t, ok)
	return e.c
}

// ends waits for Closed, skipping what comes before, and for nothing after it.
func (s *fakeSession) ends(t *testing.T) error {
	t.Helper()
	for {
		if e, ok := s.next(t).(closed); ok {
			_, more := <-s.events
			require.False(t, more)
			return e.err
		}
	}
}

type fixture struct {
	hall   *fakeHall
	server *Server
	http   *httptest.Server
	reg    *prometheus.Registry
	stop   func() error // ends Run
}

func newFixture(t *testing.T, change ...func(*Config)) *fixture {
	t.Helper()
	cfg := DefaultConfig()
	cfg.NodeID, cfg.Region, cfg.SoftwareVersion = "n1", "eu-west", "0.1.0"
	for _, f := range change {
		f(&cfg)
	}
	f := &fixture{hall: &fakeHall{sessions: make(chan *fakeSession, 16)}, reg: prometheus.NewRegistry()}
	var err error
	f.server, err = New(cfg, func() token.Keys { return token.Keys{testKey: testSecret} }, f.hall, slog.New(slog.DiscardHandler), f.reg)
	require.NoError(t, err)
	f.http = httptest.NewServer(f.server)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.server.Run(ctx) }()
	f.stop = sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() {
		require.NoError(t, f.stop())
		f.http.Close()
	})
	return f
}

func (f *fixture) session(t *testing.T) *fakeSession {
	t.Helper()
	select {
	case s := <-f.hall.sessions:
		return s
	case <-time.After(patience):
		require.Fail(t, "nobody joined")
		return nil
	}
}

// metric returns the value of a counter or gauge with the given label values.
func (f *fixture) metric(t *testing.T, name string, labels ...string) float64 {
	t.Helper()
	families, err := f.reg.Gather()
	require.NoError(t, err)
	for _, fam := range families {
		if fam.GetName() != "meridian_signal_"+name {
			continue
		}
	metrics:
		for _, m := range fam.GetMetric() {
			for i, l := range m.GetLabel() {
				if l.GetValue() != labels[i] {
					continue metrics
				}
			}
			return m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	require.Fail(t, "no such metric", "%s %v", name, labels)
	return 0
}

func grant(t *testing.T, change ...func(*token.Claims)) string {
	t.Helper()
	c := token.Claims{Identity: "alice", Name: "Alice", Metadata: "m", Attributes: map[string]string{"k": "v"}, Grant: token.Grant{RoomJoin: true, Room: "r"}}
	for _, f := range change {
		f(&c)
	}
	raw, err := token.Mint(testKey, testSecret, c, time.Hour, time.Now())
	require.NoError(t, err)
	return raw
}

// v0 returns parameters as a browser sends them.
func v0(t *testing.T, more ...string) url.Values {
	q := url.Values{"access_token": {grant(t)}, "auto_subscribe": {"1"}, "sdk": {"js"}, "version": {"2.23.0"}, "protocol": {"17"}, "client_protocol": {"2"}}
	for i := 0; i+1 < len(more); i += 2 {
		q.Set(more[i], more[i+1])
	}
	return q
}

func wrap(t testing.TB, r *livekit.JoinRequest, zip bool) string {
	b, err := proto.Marshal(r)
	require.NoError(t, err)
	w := &livekit.WrappedJoinRequest{JoinRequest: b}
	if zip {
		var buf bytes.Buffer
		z := gzip.NewWriter(&buf)
		_, err = z.Write(b)
		require.NoError(t, err)
		require.NoError(t, z.Close())
		w.Compression, w.JoinRequest = livekit.WrappedJoinRequest_GZIP, buf.Bytes()
	}
	b, err = proto.Marshal(w)
	require.NoError(t, err)
	return base64.URLEncoding.EncodeToString(b)
}

type client struct {
	t  *testing.T
	ws *websocket.Conn
}

func (f *fixture) dial(t *testing.T, path string, q url.Values, opts ...*websocket.DialOptions) *client {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var o *websocket.DialOptions
	if len(opts) > 0 {
		o = opts[0]
	}
	ws, resp, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(f.http.URL, "http")+path+"?"+q.Encode(), o)
	require.NoError(t, err)
	require.Equal(t, http.StatusSwitchingProtocols, resp.StatusCode)
	require.Empty(t, resp.Header.Get("Sec-WebSocket-Extensions"))
	ws.SetReadLimit(-1)
	t.Cleanup(func() { _ = ws.CloseNow() })
	return &client{t, ws}
}

// join dials /rtc and returns both ends, the JoinResponse read.
func (f *fixture) join(t *testing.T) (*client, *fakeSession, *Conn) {
	t.Helper()
	c := f.dial(t, "/rtc", v0(t))
	s := f.session(t)
	require.NotNil(t, c.recv().GetJoin())
	return c, s, s.conn(t)
}

func (c *client) send(m *livekit.SignalRequest) {
	c.t.Helper()
	b, err := proto.Marshal(m)
	require.NoError(c.t, err)
	c.write(websocket.MessageBinary, b)
}

func (c *client) write(typ websocket.MessageType, b []byte) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	require.NoError(c.t, c.ws.Write(ctx, typ, b))
}

func (c *client) read() (websocket.MessageType, []byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return c.ws.Read(ctx)
}

func (c *client) recv() *livekit.SignalResponse {
	c.t.Helper()
	typ, b, err := c.read()
	require.NoError(c.t, err)
	require.Equal(c.t, websocket.MessageBinary, typ)
	m := new(livekit.SignalResponse)
	require.NoError(c.t, proto.Unmarshal(b, m))
	return m
}

// closeError reads on until the connection ends.
func (c *client) closeError() websocket.CloseError {
	c.t.Helper()
	for {
		if _, _, err := c.read(); err != nil {
			var ce websocket.CloseError
			require.ErrorAs(c.t, err, &ce)
			return ce
		}
	}
}
