package cascade

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/meshnet"
	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

// hub is a mesh in memory: datagrams take delay, may be dropped by a hook (called with the mutex held), and control
// streams are pipes.
type hub struct {
	delay time.Duration
	max   int
	rate  int // bytes per second of one lane; 0 is no limit

	mu    sync.Mutex
	nodes map[mesh.NodeID]*fakeNet
	drop  func(from, to mesh.NodeID, lane *fakeConn, b []byte) bool
}

func newHub(delay time.Duration) *hub {
	return &hub{delay: delay, max: 1243, nodes: make(map[mesh.NodeID]*fakeNet)}
}

func (h *hub) setDrop(f func(from, to mesh.NodeID, lane *fakeConn, b []byte) bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.drop = f
}

type fakeNet struct {
	hub     *hub
	id      mesh.NodeID
	media   func(MediaConn)
	control func(mesh.NodeID, net.Conn)

	mu    sync.Mutex
	conns []*fakeConn
	pipes []net.Conn
}

// join makes a node reachable, once its handlers are set.
func (h *hub) join(n *fakeNet) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.nodes[n.id] = n
}

func (h *hub) node(id mesh.NodeID) (*fakeNet, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if n, ok := h.nodes[id]; ok {
		return n, nil
	}
	return nil, meshnet.ErrUnknownNode
}

func (n *fakeNet) NodeID() mesh.NodeID                         { return n.id }
func (n *fakeNet) HandleMedia(f func(MediaConn))               { n.media = f }
func (n *fakeNet) HandleControl(f func(mesh.NodeID, net.Conn)) { n.control = f }
func (n *fakeNet) remember(c *fakeConn)                        { n.mu.Lock(); n.conns = append(n.conns, c); n.mu.Unlock() }

func (n *fakeNet) rememberPipe(c net.Conn)          { n.mu.Lock(); n.pipes = append(n.pipes, c); n.mu.Unlock() }
func resolveAny(mesh.NodeID) (netip.AddrPort, bool) { return netip.AddrPort{}, true }

// breakLanes ends every media connection of the node, breakControl every control stream.
func (n *fakeNet) breakLanes() {
	n.mu.Lock()
	conns := n.conns
	n.conns = nil
	n.mu.Unlock()
	for _, c := range conns {
		_ = c.Close(0, "broken")
	}
}

func (n *fakeNet) breakControl() {
	n.mu.Lock()
	pipes := n.pipes
	n.pipes = nil
	n.mu.Unlock()
	for _, c := range pipes {
		_ = c.Close()
	}
}

func (n *fakeNet) OpenControl(_ context.Context, peer mesh.NodeID) (net.Conn, error) {
	p, err := n.hub.node(peer)
	if err != nil {
		return nil, err
	}
	a, b := net.Pipe()
	n.rememberPipe(a)
	p.rememberPipe(b)
	go p.control(n.id, b)
	return a, nil
}

func (n *fakeNet) DialMedia(_ context.Context, _ netip.AddrPort, peer mesh.NodeID) (MediaConn, error) {
	p, err := n.hub.node(peer)
	if err != nil {
		return nil, err
	}
	done := make(chan struct{})
	once := new(sync.Once)
	a := &fakeConn{hub: n.hub, self: n.id, peer: peer, in: make(chan []byte, 4096), streams: make(chan net.Conn, 4), done: done, once: once}
	b := &fakeConn{hub: n.hub, self: peer, peer: n.id, in: make(chan []byte, 4096), streams: make(chan net.Conn, 4), done: done, once: once}
	a.other, b.other = b, a
	n.remember(a)
	p.remember(b)
	go p.media(b)
	return a, nil
}

type fakeConn struct {
	hub        *hub
	self, peer mesh.NodeID
	other      *fakeConn
	in         chan []byte
	streams    chan net.Conn
	done       chan struct{}
	once       *sync.Once
}

func (c *fakeConn) Peer() mesh.NodeID     { return c.peer }
func (c *fakeConn) Done() <-chan struct{} { return c.done }
func (c *fakeConn) MaxDatagramBytes() int { return c.hub.max }

func (c *fakeConn) Close(uint64, string) error {
	c.once.Do(func() { close(c.done) })
	return nil
}

func (c *fakeConn) SendDatagram(b []byte) error {
	select {
	case <-c.done:
		return net.ErrClosed
	default:
	}
	if len(b) > c.hub.max {
		return meshnet.ErrDatagramTooLarge
	}
	if c.hub.rate > 0 {
		time.Sleep(time.Duration(len(b)) * time.Second / time.Duration(c.hub.rate))
	}
	c.hub.mu.Lock()
	dropped := c.hub.drop != nil && c.hub.drop(c.self, c.peer, c, b)
	c.hub.mu.Unlock()
	if dropped {
		return nil
	}
	data := append([]byte(nil), b...)
	deliver := func() {
		select {
		case c.other.in <- data:
		default:
		}
	}
	if c.hub.delay == 0 {
		deliver()
		return nil
	}
	time.AfterFunc(c.hub.delay, deliver)
	return nil
}

func (c *fakeConn) ReceiveDatagram(ctx context.Context) ([]byte, error) {
	select {
	case b := <-c.in:
		return b, nil
	case <-c.done:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (c *fakeConn) OpenStream(context.Context) (net.Conn, error) {
	a, b := net.Pipe()
	select {
	case c.other.streams <- b:
		return a, nil
	default:
		return nil, errors.New("too many streams")
	}
}

func (c *fakeConn) AcceptStream(ctx context.Context) (net.Conn, error) {
	select {
	case s := <-c.streams:
		return s, nil
	case <-c.done:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// station is one node of a test: a cascade that runs, and the sources it offers.
type station struct {
	*Cascade
	net  *fakeNet
	stop func()

	mu      sync.Mutex
	sources map[mesh.SourceID]*rtpstream.Source
	events  []linkEvent
}

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func startStation(t *testing.T, h *hub, id mesh.NodeID, change ...func(*Config)) *station {
	t.Helper()
	cfg := DefaultConfig()
	for _, f := range change {
		f(&cfg)
	}
	s := &station{net: &fakeNet{hub: h, id: id}, sources: make(map[mesh.SourceID]*rtpstream.Source)}
	c, err := New(cfg, Deps{Net: s.net, Resolve: resolveAny, Local: s.local}, quiet(), nil)
	require.NoError(t, err)
	s.Cascade = c
	h.join(s.net)
	c.WatchLinks(func(node mesh.NodeID, up bool) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.events = append(s.events, linkEvent{node, up})
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	var once sync.Once
	s.stop = func() {
		once.Do(func() {
			cancel()
			require.NoError(t, <-done)
		})
	}
	t.Cleanup(s.stop)
	require.Eventually(t, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.state == stateRunning
	}, time.Second, time.Millisecond)
	return s
}

func (s *station) local(_ mesh.NodeID, _ mesh.RoomName, id mesh.SourceID) (*rtpstream.Source, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	src, ok := s.sources[id]
	return src, ok
}

func (s *station) offer(id mesh.SourceID, src *rtpstream.Source) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sources[id] = src
}

func (s *station) linkEvents() []linkEvent {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]linkEvent(nil), s.events...)
}

func (s *station) status(t *testing.T, peer mesh.NodeID) LinkStatus {
	t.Helper()
	for _, l := range s.Links() {
		if l.Peer == peer {
			return l
		}
	}
	return LinkStatus{}
}

// camera is a source with somebody who produces packets for it.
type camera struct {
	*rtpstream.Source
	pool rtpstream.Pool
	size int

	mu        sync.Mutex
	keyframes [rtpstream.MaxEncodings]int
	demands   []rtpstream.Demand
	seq       [rtpstream.MaxEncodings]uint16
}

func newCamera(id string, audio bool, encodings int) *camera {
	c := &camera{size: 1000}
	c.Source = rtpstream.NewSource(rtpstream.SourceInfo{
		ID: id, Audio: audio, MIMEType: "video/VP8", ClockRate: 90000, Encodings: encodings,
	}, c)
	return c
}

func (c *camera) RequestKeyframe(e uint8) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.keyframes[e]++
}

func (c *camera) DemandChanged() {
	d := c.Demand()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.demands = append(c.demands, d)
}

func (c *camera) asked(e uint8) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.keyframes[e]
}

func (c *camera) demandChanges() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.demands)
}

// write produces one packet of an encoding.
func (c *camera) write(e uint8, change ...func(*rtpstream.Packet)) {
	p := c.packet(e)
	for _, f := range change {
		f(p)
	}
	c.Stream(e).Write(p)
	p.Release()
}

func (c *camera) packet(e uint8) *rtpstream.Packet {
	p := c.pool.Get()
	b := p.Buffer()[:c.size]
	seq := c.seq[e]
	c.seq[e]++
	b[0], b[1] = 0x80, 96
	b[2], b[3] = byte(seq>>8), byte(seq)
	ts := uint32(seq) * 3000
	b[4], b[5], b[6], b[7] = byte(ts>>24), byte(ts>>16), byte(ts>>8), byte(ts)
	for i := 8; i < len(b); i++ {
		b[i] = byte(i) ^ byte(seq) ^ e
	}
	if err := p.Parse(len(b)); err != nil {
		panic(err)
	}
	return p
}

func keyframe(p *rtpstream.Packet) { p.Keyframe = true }

func (c *camera) mesh() mesh.Source {
	kind := mesh.Video
	if c.Info.Audio {
		kind = mesh.Audio
	}
	return mesh.Source{
		ID: mesh.SourceID(c.Info.ID), Kind: kind, MIMEType: c.Info.MIMEType, ClockRate: c.Info.ClockRate,
		Encodings: make([]mesh.Encoding, c.Info.Encodings),
	}
}

// screen is a sink that remembers.
type screen struct {
	mu  sync.Mutex
	raw [][]byte
}

func (s *screen) WritePacket(p *rtpstream.Packet) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.raw = append(s.raw, append([]byte(nil), p.Raw()...))
}

func (s *screen) packets() [][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.raw)
}

func (s *screen) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.raw)
}

func all(encodings ...uint8) rtpstream.Demand {
	d := rtpstream.Demand{MaxTemporal: rtpstream.AllTemporal}
	for _, e := range encodings {
		d.Encodings = d.Encodings.With(e)
	}
	return d
}
