package cascade

import (
	"context"
	"io"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

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

func (c *camera) RequestKeyframe(e uint8, _ rtpstream.KeyframeReason) {
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
	b[8], b[9], b[10], b[11] = 0x12, 0x34, 0x56, e
	for i := 12; i < len(b); i++ {
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
	d := rtpstream.Demand{}
	for _, e := range encodings {
		d = d.With(e, rtpstream.AllLayers)
	}
	return d
}
