package sfm

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/pion/interceptor"
	"github.com/pion/webrtc/v4"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

const patience = 10 * time.Second

// newSFM runs an SFM on loopback until the test ends.
func newSFM(t *testing.T, change func(*Config)) *SFM {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Listen = []netip.Addr{netip.MustParseAddr("127.0.0.1")}
	cfg.IncludeLoopback = true
	cfg.DowngradeDelay = 200 * time.Millisecond
	cfg.SectionRest = 0 // its clients wait for each step
	if change != nil {
		change(&cfg)
	}
	s, err := New(cfg, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-ended)
	})
	return s
}

// received is one RTP packet a client got.
type received struct {
	seq     uint16
	ts      uint32
	payload []byte
}

// client is a stock client made of Pion, and the Handler that stands for the signalling between the two.
type client struct {
	t        *testing.T
	ep       *Endpoint
	single   bool
	networks []webrtc.NetworkType
	up       map[string]*webrtc.DataChannel // of the publisher connection
	pub      *webrtc.PeerConnection         // everything, when single
	sub      *webrtc.PeerConnection
	work     chan func()
	stop     chan struct{}

	holdAnswers, mute bool // owned by the work goroutine: answers are not given; nothing is answered

	mu        sync.Mutex
	pending   map[*webrtc.PeerConnection][]webrtc.ICECandidateInit
	got       map[string][]received // by track ID
	tracks    map[string]*webrtc.TrackRemote
	published map[mesh.SourceID]Subscribe
	gone      []mesh.SourceID
	demand    map[mesh.SourceID]rtpstream.Demand
	data      []string
	failures  []error
	states    []State
	offers    []Description
	answers   []Description
	asked     [][2]int
	offering  bool
	again     bool
	nextID    uint32
	channels  map[string]*webrtc.DataChannel
}

var _ Handler = (*client)(nil)

func newClient(t *testing.T, s *SFM, id string, single bool, change func(*EndpointConfig)) *client {
	t.Helper()
	return newClientOver(t, s, id, single, []webrtc.NetworkType{webrtc.NetworkTypeUDP4}, change)
}

func newClientOver(
	t *testing.T, s *SFM, id string, single bool, networks []webrtc.NetworkType, change func(*EndpointConfig),
) *client {
	t.Helper()
	c := &client{
		t: t, single: single, networks: networks, up: map[string]*webrtc.DataChannel{}, work: make(chan func(), 1024), stop: make(chan struct{}),
		pending: map[*webrtc.PeerConnection][]webrtc.ICECandidateInit{}, got: map[string][]received{},
		tracks: map[string]*webrtc.TrackRemote{}, published: map[mesh.SourceID]Subscribe{},
		demand: map[mesh.SourceID]rtpstream.Demand{}, channels: map[string]*webrtc.DataChannel{},
	}
	c.pub = c.newPC(Publisher)
	c.sub = c.pub
	if !single {
		c.sub = c.newPC(Subscriber)
	}
	for _, label := range []string{labelReliable, labelLossy} {
		dc, err := c.pub.CreateDataChannel(label, nil)
		require.NoError(t, err)
		c.channel(dc)
		c.up[label] = dc
	}
	cfg := EndpointConfig{ID: mesh.ParticipantID(id), SinglePC: single, CanPublish: true, CanSubscribe: true}
	if change != nil {
		change(&cfg)
	}
	go func() {
		for {
			select {
			case f := <-c.work:
				f()
			case <-c.stop:
				return
			}
		}
	}()
	ep, err := s.NewEndpoint(cfg, c)
	require.NoError(t, err)
	c.mu.Lock()
	c.ep = ep
	c.mu.Unlock()
	t.Cleanup(func() {
		ep.Close()
		<-ep.Done()
		close(c.stop)
		_ = c.pub.Close()
		_ = c.sub.Close()
	})
	return c
}

func (c *client) newPC(target Target) *webrtc.PeerConnection {
	var se webrtc.SettingEngine
	se.SetIncludeLoopbackCandidate(true)
	se.SetNetworkTypes(c.networks)
	m := &webrtc.MediaEngine{}
	require.NoError(c.t, m.RegisterDefaultCodecs())
	require.NoError(c.t, webrtc.ConfigureSimulcastExtensionHeaders(m))
	api := webrtc.NewAPI(webrtc.WithSettingEngine(se), webrtc.WithMediaEngine(m),
		webrtc.WithInterceptorRegistry(&interceptor.Registry{}))
	pc, err := api.NewPeerConnection(webrtc.Configuration{})
	require.NoError(c.t, err)
	pc.OnICECandidate(func(x *webrtc.ICECandidate) {
		if x == nil {
			return
		}
		text, _ := json.Marshal(x.ToJSON())
		c.do(func() { c.endpoint().AddCandidate(target, string(text)) })
	})
	pc.OnDataChannel(c.channel)
	pc.OnTrack(func(track *webrtc.TrackRemote, _ *webrtc.RTPReceiver) {
		c.mu.Lock()
		c.tracks[track.ID()] = track
		c.mu.Unlock()
		for {
			p, _, err := track.ReadRTP()
			if err != nil {
				return
			}
			c.mu.Lock()
			c.got[track.ID()] = append(c.got[track.ID()], received{p.SequenceNumber, p.Timestamp, p.Payload})
			c.mu.Unlock()
		}
	})
	return pc
}

func (c *client) channel(dc *webrtc.DataChannel) {
	dc.OnOpen(func() {
		c.mu.Lock()
		c.channels[dc.Label()] = dc
		c.mu.Unlock()
	})
	dc.OnMessage(func(m webrtc.DataChannelMessage) {
		c.mu.Lock()
		c.data = append(c.data, dc.Label()+":"+string(m.Data))
		c.mu.Unlock()
	})
}

func (c *client) endpoint() *Endpoint {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ep
}

func (c *client) do(f func()) {
	select {
	case c.work <- f:
	case <-c.stop:
	}
}

// negotiate offers, or notes to offer again after the answer.
func (c *client) negotiate() {
	c.do(func() {
		if c.offering {
			c.again = true
			return
		}
		c.sendOffer(nil)
	})
}

func (c *client) sendOffer(options *webrtc.OfferOptions) {
	offer, err := c.pub.CreateOffer(options)
	if err == nil {
		err = c.pub.SetLocalDescription(offer)
	}
	if err != nil {
		c.fail(err)
		return
	}
	c.offering = true
	c.nextID++
	c.endpoint().HandleOffer(Description{Type: "offer", SDP: offer.SDP, ID: c.nextID})
}

func (c *client) SendDescription(target Target, d Description) {
	c.mu.Lock()
	if d.Type == "offer" {
		c.offers = append(c.offers, d)
	} else {
		c.answers = append(c.answers, d)
	}
	c.mu.Unlock()
	applied := make(chan struct{})
	if d.Type == "answer" {
		// Media of a section begins once its answer is on its way. Pion reads a stream that is here before its answer is,
		// from two goroutines without a lock (handleIncomingSSRC and startReceiver): a data race of its own.
		defer func() {
			select {
			case <-applied:
			case <-c.stop:
			}
		}()
	}
	c.do(func() {
		defer close(applied)
		if c.mute {
			return
		}
		if d.Type == "answer" {
			c.fail(c.pub.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: d.SDP}))
			c.flush(c.pub)
			c.offering = false
			if c.again {
				c.again = false
				c.sendOffer(nil)
			}
			return
		}
		c.fail(c.sub.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: d.SDP}))
		c.flush(c.sub)
		answer, err := c.sub.CreateAnswer(nil)
		c.fail(err)
		c.fail(c.sub.SetLocalDescription(answer))
		if !c.holdAnswers {
			c.endpoint().HandleAnswer(Description{Type: "answer", SDP: answer.SDP, ID: d.ID})
		}
	})
}

func (c *client) flush(pc *webrtc.PeerConnection) {
	c.mu.Lock()
	list := c.pending[pc]
	c.pending[pc] = nil
	c.mu.Unlock()
	for _, x := range list {
		c.fail(pc.AddICECandidate(x))
	}
}

func (c *client) SendCandidate(target Target, text string) {
	pc := c.pub
	if target == Subscriber {
		pc = c.sub
	}
	c.do(func() {
		var init webrtc.ICECandidateInit
		c.fail(json.Unmarshal([]byte(text), &init))
		if pc.RemoteDescription() == nil {
			c.mu.Lock()
			c.pending[pc] = append(c.pending[pc], init)
			c.mu.Unlock()
			return
		}
		c.fail(pc.AddICECandidate(init))
	})
}

func (c *client) NeedSections(audios, videos int) {
	c.mu.Lock()
	c.asked = append(c.asked, [2]int{audios, videos})
	c.mu.Unlock()
	c.do(func() { c.addSections(audios, videos) })
	c.negotiate()
}

func (c *client) addSections(audios, videos int) {
	for i := range audios + videos {
		kind := webrtc.RTPCodecTypeAudio
		if i >= audios {
			kind = webrtc.RTPCodecTypeVideo
		}
		_, err := c.pub.AddTransceiverFromKind(kind, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionRecvonly})
		c.fail(err)
	}
}

func (c *client) fail(err error) {
	if err != nil {
		c.mu.Lock()
		c.failures = append(c.failures, err)
		c.mu.Unlock()
	}
}

func (c *client) NegotiationFailed(_ Target, err error) { c.fail(err) }

func (c *client) Published(src mesh.Source, media *rtpstream.Source) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.published[src.ID] = Subscribe{Publisher: "PA_" + mesh.ParticipantID(src.Name), Source: src, Media: media}
}

func (c *client) Unpublished(id mesh.SourceID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gone = append(c.gone, id)
}

func (c *client) DemandChanged(id mesh.SourceID, d rtpstream.Demand) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.demand[id] = d
}

func (c *client) Data(_ bool, label string, payload []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.data = append(c.data, label+":"+string(payload))
}

func (c *client) StateChanged(s State) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.states = append(c.states, s)
}

// eventually waits for a condition on the client's state, under its lock.
func (c *client) eventually(what string, condition func() bool) {
	c.t.Helper()
	ok := false
	deadline := time.Now().Add(patience)
	for !ok && time.Now().Before(deadline) {
		c.mu.Lock()
		ok = condition()
		c.mu.Unlock()
		if !ok {
			time.Sleep(5 * time.Millisecond) // polling a condition
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	require.True(c.t, ok, "%s; failures %v, asked %v, states %v", what, c.failures, c.asked, c.states)
}

func (c *client) connected() {
	c.t.Helper()
	c.eventually("connected", func() bool { return len(c.states) > 0 && c.states[len(c.states)-1] == Connected })
}

func (c *client) noFailures() {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	require.Empty(c.t, c.failures)
}

func (c *client) count(track string) int { return len(c.got[track]) }
