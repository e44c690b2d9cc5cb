package node

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/livekit/protocol/livekit"
	protologger "github.com/livekit/protocol/logger"
	lksdk "github.com/livekit/server-sdk-go/v2"
	"github.com/pion/webrtc/v4"
	"github.com/pion/webrtc/v4/pkg/media"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/meshnet"
	"github.com/meridian-sfu/meridian/internal/testnet"
	"github.com/meridian-sfu/meridian/internal/token"
)

const (
	testKey    = "testkey"
	testSecret = "testsecret-testsecret-testsecret-"
)

// testNode is one node of a mesh on loopback.
type testNode struct {
	*Node
	url  string
	stop func()
}

func (n *testNode) http() string { return "http" + n.url[len("ws"):] }

// startMesh runs a mesh of a node for each region named, over real sockets on loopback, until the test ends. A node is
// named as its region, a second one of a region "…-2".
func startMesh(t *testing.T, regions ...mesh.Region) []*testNode {
	t.Helper()
	ca, err := meshnet.NewCA("test mesh", time.Hour)
	require.NoError(t, err)
	dir := t.TempDir()
	require.NoError(t, ca.Save(dir))
	var nodes []*testNode
	for i, region := range regions {
		cfg := testConfig(t, ca, dir, region, nodeNames(regions)[i])
		cfg.Mesh.Delays = map[netip.AddrPort]time.Duration{netip.MustParseAddrPort("127.0.0.1:9"): 0} // so that cut can cut
		if i == 0 {
			cfg.Mesh.Bootstrap = true
		} else {
			cfg.Mesh.Seeds = []string{nodes[0].cfg.Mesh.Listen.String()}
		}
		nodes = append(nodes, runNode(t, cfg))
	}
	t.Cleanup(func() { explain(t, nodes) })
	for _, n := range nodes {
		require.Eventually(t, func() bool {
			return len(n.notReady()) == 0 && len(n.gossip.Members()) == len(regions)
		}, 20*time.Second, 10*time.Millisecond, "node %s is not ready: %v", n.cfg.ID, n.notReady())
	}
	return nodes
}

// cut lets nothing pass between a node and others any more, both ways.
func (n *testNode) cut(others ...*testNode) {
	for _, o := range others {
		n.socket.(*testnet.DelayConn).Block(o.cfg.Mesh.Listen)
		o.socket.(*testnet.DelayConn).Block(n.cfg.Mesh.Listen)
	}
}

// mend takes back what cut did.
func (n *testNode) mend(others ...*testNode) {
	for _, o := range others {
		n.socket.(*testnet.DelayConn).Unblock(o.cfg.Mesh.Listen)
		o.socket.(*testnet.DelayConn).Unblock(n.cfg.Mesh.Listen)
	}
}

func nodeNames(regions []mesh.Region) []mesh.NodeID {
	seen := map[mesh.Region]int{}
	var names []mesh.NodeID
	for _, region := range regions {
		name := mesh.NodeID(region)
		if seen[region]++; seen[region] > 1 {
			name += mesh.NodeID(fmt.Sprintf("-%d", seen[region]))
		}
		names = append(names, name)
	}
	return names
}

func testConfig(t *testing.T, ca *meshnet.CA, dir string, region mesh.Region, id mesh.NodeID) Config {
	t.Helper()
	cfg := DefaultConfig()
	cfg.ID, cfg.Region = id, region
	cfg.DataDir = filepath.Join(dir, string(id))
	cfg.Keys = token.Keys{testKey: testSecret}
	cfg.Mesh.Listen = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), freePort(t))
	cfg.Mesh.Profile = "dev"
	cfg.Mesh.Linger = 500 * time.Millisecond
	cfg.HTTP.Listen = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), freePort(t))
	cfg.HTTP.OpenStatus, cfg.HTTP.OpenTokens, cfg.HTTP.AllowFakeAddress = true, true, true
	cfg.Media.UDPPort, cfg.Media.TCPPort, cfg.Media.IncludeLoopback = 0, 0, true
	require.NoError(t, os.MkdirAll(cfg.DataDir, 0o700))
	certPEM, keyPEM, err := ca.Issue(cfg.ID, time.Hour)
	require.NoError(t, err)
	cfg.Mesh.CAFile = filepath.Join(dir, "ca.crt")
	cfg.Mesh.CertFile, cfg.Mesh.KeyFile = filepath.Join(cfg.DataDir, "node.crt"), filepath.Join(cfg.DataDir, "node.key")
	require.NoError(t, os.WriteFile(cfg.Mesh.CertFile, certPEM, 0o600))
	require.NoError(t, os.WriteFile(cfg.Mesh.KeyFile, keyPEM, 0o600))
	return cfg
}

// freePort returns a port that was free for both protocols a moment ago.
func freePort(t *testing.T) uint16 {
	t.Helper()
	for range 100 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		addr := l.Addr().(*net.TCPAddr).AddrPort()
		pc, err := net.ListenPacket("udp", addr.String())
		_ = l.Close()
		if err == nil {
			_ = pc.Close()
			return addr.Port()
		}
	}
	t.Fatal("no free port")
	return 0
}

func TestMain(m *testing.M) {
	if os.Getenv("MERIDIAN_TEST_LOG") != "sdk" {
		// One that asks for the level first: others print Pion's objects into what they discard, in a race with Pion.
		quiet, err := protologger.NewZapLogger(&protologger.Config{Level: "fatal"})
		if err != nil {
			panic(err)
		}
		lksdk.SetLogger(quiet)
	}
	m.Run()
}

func testLogger(t *testing.T, name string) *slog.Logger {
	out := io.Discard
	if os.Getenv("MERIDIAN_TEST_LOG") != "" {
		out = os.Stderr
	}
	return slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelDebug})).With("test", t.Name(), "at", name)
}

func runNode(t *testing.T, cfg Config) *testNode {
	t.Helper()
	n, err := New(cfg, testLogger(t, string(cfg.ID)), prometheus.NewRegistry())
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-ended:
			require.NoError(t, err)
		case <-time.After(30 * time.Second):
			t.Error("node does not stop")
		}
	})
	t.Cleanup(stop)
	return &testNode{Node: n, url: cfg.HTTP.clientURL(), stop: stop}
}

// person is a participant with a stock SDK that publishes a microphone and a camera and counts what it gets.
type person struct {
	*lksdk.Room
	name  string
	level atomic.Int32 // of the microphone in −dBov plus one; 0 does not tell

	mu       sync.Mutex
	received map[string]*atomic.Int64 // "alice/video" → packets
	data     []string
	left     chan lksdk.DisconnectionReason
}

type personOptions struct {
	silent bool // publishes nothing
	single bool
	manual bool // no auto-subscribe
}

func join(t *testing.T, n *testNode, room, name string, o personOptions) *person {
	t.Helper()
	jwt, err := token.Mint(testKey, testSecret, token.Claims{
		Identity: mesh.Identity(name), Name: name, Grant: token.Grant{RoomJoin: true, Room: room, CanUpdateOwnMetadata: ptr(true)},
	}, time.Hour, time.Now())
	require.NoError(t, err)
	p := &person{name: name, received: map[string]*atomic.Int64{}, left: make(chan lksdk.DisconnectionReason, 1)}
	cb := lksdk.NewRoomCallback()
	cb.OnTrackSubscribed = func(track *webrtc.TrackRemote, _ *lksdk.RemoteTrackPublication, rp *lksdk.RemoteParticipant) {
		counter := p.counter(rp.Identity(), track.Kind().String())
		for {
			if _, _, err := track.ReadRTP(); err != nil {
				return
			}
			counter.Add(1)
		}
	}
	cb.OnDataPacket = func(data lksdk.DataPacket, params lksdk.DataReceiveParams) {
		if u, ok := data.(*lksdk.UserDataPacket); ok {
			p.mu.Lock()
			p.data = append(p.data, fmt.Sprintf("%s: %s", params.SenderIdentity, u.Payload))
			p.mu.Unlock()
		}
	}
	cb.OnDisconnectedWithReason = func(reason lksdk.DisconnectionReason) { p.left <- reason }
	options := []lksdk.ConnectOption{lksdk.WithAutoSubscribe(!o.manual)}
	if o.single {
		options = append(options, lksdk.WithSinglePeerConnection())
	}
	p.Room, err = lksdk.ConnectToRoomWithToken(n.url, jwt, cb, options...)
	require.NoError(t, err)
	t.Cleanup(p.Disconnect)
	if !o.silent {
		p.publish(t)
	}
	return p
}

func ptr[T any](v T) *T { return &v }

// publish sends 25 frames of two packets and 50 audio packets a second until the person leaves.
func (p *person) publish(t *testing.T) {
	t.Helper()
	video, err := lksdk.NewLocalTrack(webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeVP8, ClockRate: 90000})
	require.NoError(t, err)
	audio, err := lksdk.NewLocalTrack(webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus, ClockRate: 48000, Channels: 2})
	require.NoError(t, err)
	_, err = p.LocalParticipant.PublishTrack(audio, &lksdk.TrackPublicationOptions{Name: "mic", Source: livekit.TrackSource_MICROPHONE})
	require.NoError(t, err)
	_, err = p.LocalParticipant.PublishTrack(video, &lksdk.TrackPublicationOptions{Name: "cam", Source: livekit.TrackSource_CAMERA, VideoWidth: 640, VideoHeight: 360})
	require.NoError(t, err)
	done := make(chan struct{})
	t.Cleanup(func() { close(done) })
	send := func(track *lksdk.LocalTrack, every time.Duration, frame func(i int) []byte) {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			case <-tick.C:
				var options *lksdk.SampleWriteOptions
				if level := p.level.Load(); level > 0 && track == audio {
					options = &lksdk.SampleWriteOptions{AudioLevel: ptr(uint8(level - 1))}
				}
				_ = track.WriteSample(media.Sample{Data: frame(i), Duration: every}, options)
			}
		}
	}
	go send(video, 40*time.Millisecond, vp8Frame)
	go send(audio, 20*time.Millisecond, func(int) []byte { return []byte{0xf8, 0xff, 0xfe} })
}

// vp8Frame is a frame by its header (RFC 6386 §9.1): a keyframe every second, content noise. Nothing here decodes it.
func vp8Frame(i int) []byte {
	frame := make([]byte, 1500)
	if i%25 == 0 {
		copy(frame, []byte{0x10, 0x02, 0x00, 0x9d, 0x01, 0x2a, 0x80, 0x02, 0x68, 0x01})
	} else {
		frame[0] = 0x11
	}
	return frame
}

func (p *person) counter(who, kind string) *atomic.Int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.received[who+"/"+kind]
	if c == nil {
		c = new(atomic.Int64)
		p.received[who+"/"+kind] = c
	}
	return c
}

// gets waits until p received packets of both kinds from every other, counted from now.
func (p *person) gets(t *testing.T, others ...*person) {
	t.Helper()
	for _, o := range others {
		for _, kind := range []string{"audio", "video"} {
			c := p.counter(o.name, kind)
			from := c.Load()
			require.Eventually(t, func() bool { return c.Load() > from+20 }, 20*time.Second, 10*time.Millisecond,
				"%s gets no %s of %s", p.name, kind, o.name)
		}
	}
}

func (p *person) messages() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.data...)
}

func copyBody(to io.Writer, res *http.Response) (int64, error) {
	return io.Copy(to, io.LimitReader(res.Body, 16<<20))
}

func mustAddrPort(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

func newRegistry() *prometheus.Registry { return prometheus.NewRegistry() }

// sumMetric adds up the values of all series of a metric in Prometheus text format.
func sumMetric(t *testing.T, text, name string) float64 {
	t.Helper()
	sum := 0.0
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, name); ok && (rest[0] == ' ' || rest[0] == '{') {
			v, err := strconv.ParseFloat(strings.TrimSpace(rest[strings.LastIndexByte(rest, ' '):]), 64)
			require.NoError(t, err)
			sum += v
		}
	}
	return sum
}

// explain logs what every endpoint of the nodes does, when the test has failed.
func explain(t *testing.T, nodes []*testNode) {
	if !t.Failed() {
		return
	}
	for _, n := range nodes {
		for _, r := range n.allRooms() {
			var endpoints []*session
			r.call(func() {
				for _, s := range r.sessions {
					endpoints = append(endpoints, s)
				}
			})
			for _, s := range endpoints {
				if s.endpoint != nil {
					t.Logf("%s %s: %+v", n.cfg.ID, s.req.Identity, s.endpoint.Stats())
				}
			}
		}
	}
}
