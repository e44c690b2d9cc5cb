package load

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/livekit/protocol/livekit"
	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/sdp/v3"
	"github.com/pion/webrtc/v4"
)

// muteTime is how long a mute storm lasts.
const muteTime = time.Second

// rids name a camera's encodings, from lowest to highest.
var rids = [...]string{"q", "h", "f"}

// request is a keyframe request that reached a publisher.
type request struct {
	at       time.Duration
	encoding int
}

// publisher sends a camera, a microphone or both.
type publisher struct {
	*peer
	load  *load
	name  string
	muted atomic.Bool
	sids  []string

	cameras  []*camera
	wantKey  [len(rids)]atomic.Bool
	mu       sync.Mutex
	requests []request // guarded by mu
}

// source is one thing published: its local tracks, one for each encoding.
type source struct {
	cid    string
	kind   livekit.TrackType
	tracks []*webrtc.TrackLocalStaticRTP
	sender *webrtc.RTPSender
	mid    string
}

// publish joins a room and sends until the load ends.
func (l *load) publish(ctx context.Context, url, room, name string) (*publisher, error) {
	ctx, cancel := context.WithTimeout(ctx, l.sc.Patience)
	defer cancel()
	sig, err := dial(ctx, credentials{url: url, key: l.sc.Key, secret: l.sc.Secret, room: room, identity: name, publishes: true})
	if err != nil {
		return nil, err
	}
	pc, err := l.publisherAPI.NewPeerConnection(webrtc.Configuration{Certificates: l.certificates})
	if err != nil {
		_ = sig.ws.CloseNow()
		return nil, fmt.Errorf("load: peer connection: %w", err)
	}
	p := &publisher{peer: newPeer(sig, pc, livekit.SignalTarget_PUBLISHER), load: l, name: name}
	if err := p.start(ctx); err != nil {
		p.close()
		return nil, fmt.Errorf("%w (publisher %s)", err, name)
	}
	return p, nil
}

func (p *publisher) start(ctx context.Context) error {
	var sources []*source
	if p.load.sc.audio() {
		s, err := p.addSource("mic", livekit.TrackType_AUDIO, 1)
		if err != nil {
			return err
		}
		sources = append(sources, s)
	}
	if p.load.sc.video() {
		s, err := p.addSource("cam", livekit.TrackType_VIDEO, p.load.sc.Encodings)
		if err != nil {
			return err
		}
		sources = append(sources, s)
	}
	for _, label := range []string{"_reliable", "_lossy"} { // servers wait for them
		if _, err := p.pc.CreateDataChannel(label, nil); err != nil {
			return fmt.Errorf("load: data channel: %w", err)
		}
	}
	published := make(chan string, len(sources))
	answered := make(chan struct{})
	p.load.wg.Go(func() { p.listen(published, answered) })
	p.load.wg.Go(func() { p.sig.ping(p.load.ctx) })
	for _, s := range sources {
		if err := p.announce(ctx, s); err != nil {
			return err
		}
		select {
		case sid := <-published:
			p.sids = append(p.sids, sid)
		case err := <-p.failed:
			return err
		case <-ctx.Done():
			return fmt.Errorf("load: publishing: %w", ctx.Err())
		}
	}
	offer, err := p.pc.CreateOffer(nil)
	if err != nil {
		return fmt.Errorf("load: offer: %w", err)
	}
	d, err := p.local(offer)
	if err != nil {
		return err
	}
	d.Id = 1
	if err := p.sig.send(ctx, &livekit.SignalRequest{Message: &livekit.SignalRequest_Offer{Offer: d}}); err != nil {
		return err
	}
	if err := p.await(ctx, "waiting for the answer", answered); err != nil {
		return err
	}
	if err := p.await(ctx, "connecting", p.connected); err != nil {
		return err
	}
	for _, s := range sources {
		p.begin(s)
	}
	return nil
}

func (p *publisher) addSource(name string, kind livekit.TrackType, encodings int) (*source, error) {
	s := &source{cid: p.name + "-" + name, kind: kind}
	codec := webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus, ClockRate: 48000, Channels: 2}
	if kind == livekit.TrackType_VIDEO {
		codec = webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeVP8, ClockRate: 90000}
	}
	for i := range encodings {
		var options []func(*webrtc.TrackLocalStaticRTP)
		if encodings > 1 {
			options = append(options, webrtc.WithRTPStreamID(rids[i]))
		}
		t, err := webrtc.NewTrackLocalStaticRTP(codec, s.cid, p.name, options...)
		if err != nil {
			return nil, fmt.Errorf("load: track: %w", err)
		}
		s.tracks = append(s.tracks, t)
		if i == 0 {
			s.sender, err = p.pc.AddTrack(t)
		} else {
			err = s.sender.AddEncoding(t)
		}
		if err != nil {
			return nil, fmt.Errorf("load: track: %w", err)
		}
	}
	return s, nil
}

// announce tells the server of a source.
func (p *publisher) announce(ctx context.Context, s *source) error {
	add := &livekit.AddTrackRequest{Cid: s.cid, Name: s.cid, Type: s.kind, Source: livekit.TrackSource_MICROPHONE, DisableRed: true}
	if s.kind == livekit.TrackType_VIDEO {
		add.Source, add.Width, add.Height = livekit.TrackSource_CAMERA, 1280, 720
		qualities := []livekit.VideoQuality{livekit.VideoQuality_LOW, livekit.VideoQuality_MEDIUM, livekit.VideoQuality_HIGH}
		if len(s.tracks) == 1 {
			qualities = qualities[2:]
		}
		for i := range s.tracks {
			down := uint32(1) << (len(s.tracks) - 1 - i)
			add.Layers = append(add.Layers, &livekit.VideoLayer{
				Quality: qualities[i], Width: 1280 / down, Height: 720 / down, Bitrate: uint32(p.rate(i, len(s.tracks))),
			})
		}
		add.SimulcastCodecs = []*livekit.SimulcastCodec{{Codec: "vp8", Cid: s.cid, Layers: add.Layers}}
	}
	return p.sig.send(ctx, &livekit.SignalRequest{Message: &livekit.SignalRequest_AddTrack{AddTrack: add}})
}

// rate is the bit rate of one of several encodings.
func (p *publisher) rate(i, of int) int64 { return p.load.sc.VideoRate >> (2 * (of - 1 - i)) }

// listen reads the signalling until it ends.
func (p *publisher) listen(published chan<- string, answered chan<- struct{}) {
	for {
		m, err := p.sig.receive(p.load.ctx)
		if err != nil {
			p.fail(err)
			return
		}
		switch m := m.GetMessage().(type) {
		case *livekit.SignalResponse_TrackPublished:
			select {
			case published <- m.TrackPublished.GetTrack().GetSid():
			default:
			}
		case *livekit.SignalResponse_Answer:
			if err = p.setRemote(webrtc.SDPTypeAnswer, m.Answer.GetSdp()); err == nil && answered != nil {
				close(answered)
				answered = nil
			}
		case *livekit.SignalResponse_Trickle:
			err = p.trickle(m.Trickle)
		case *livekit.SignalResponse_Leave:
			err = fmt.Errorf("load: the server said goodbye: %s", m.Leave.GetReason())
		}
		if err != nil {
			p.fail(err)
		}
	}
}

// begin sends a source until the load ends.
func (p *publisher) begin(s *source) {
	for _, t := range p.pc.GetTransceivers() {
		if t.Sender() == s.sender {
			s.mid = t.Mid()
		}
	}
	for i := range s.tracks {
		p.load.wg.Go(func() { p.readFeedback(s, i) })
	}
	if s.kind == livekit.TrackType_AUDIO {
		p.load.wg.Go(func() { p.speak(s) })
		return
	}
	for i := range s.tracks {
		down := uint16(1) << (len(s.tracks) - 1 - i)
		p.cameras = append(p.cameras, &camera{
			width: 1280 / down, height: 720 / down, frameBytes: int(float64(p.rate(i, len(s.tracks))) / 8 * framePeriod.Seconds()),
		})
	}
	p.load.wg.Go(func() { p.film(s) })
}

// headers are the header extensions of a source's packets.
type headers struct{ mid, rid, level uint8 }

func headersOf(s *source) headers {
	var h headers
	for _, x := range s.sender.GetParameters().HeaderExtensions {
		switch x.URI {
		case sdp.SDESMidURI:
			h.mid = uint8(x.ID)
		case sdp.SDESRTPStreamIDURI:
			h.rid = uint8(x.ID)
		case sdp.AudioLevelURI:
			h.level = uint8(x.ID)
		}
	}
	return h
}

func (h headers) set(p *rtp.Packet, s *source, encoding int) {
	if h.mid != 0 {
		_ = p.SetExtension(h.mid, []byte(s.mid)) // fits: IDs are 1 to 14, values short
	}
	if h.rid != 0 && len(s.tracks) > 1 {
		_ = p.SetExtension(h.rid, []byte(rids[encoding]))
	}
	if h.level != 0 {
		_ = p.SetExtension(h.level, []byte{0x80 | 30}) // speech, 30 dB below full scale
	}
}

// film sends the camera's encodings in turn.
func (p *publisher) film(s *source) {
	h := headersOf(s)
	n := len(s.tracks)
	var seq [len(rids)]uint16
	var keyAt [len(rids)]time.Duration
	for i := range n {
		p.wantKey[i].Store(true)
	}
	start := p.load.now()
	for i := 0; p.load.sleepUntil(start + time.Duration(i)*framePeriod/time.Duration(n)); i++ {
		if p.muted.Load() {
			continue
		}
		e, now := i%n, p.load.now()
		key := p.wantKey[e].Load() && (keyAt[e] == 0 || now-keyAt[e] >= keyframeRest)
		if key {
			p.wantKey[e].Store(false)
			keyAt[e] = now
		}
		timestamp := uint32(now * 90 / time.Millisecond)
		p.cameras[e].frame(key, now, func(payload []byte, last bool) {
			packet := rtp.Packet{Header: rtp.Header{Version: 2, Marker: last, SequenceNumber: seq[e], Timestamp: timestamp}, Payload: payload}
			h.set(&packet, s, e)
			seq[e]++
			_ = s.tracks[e].WriteRTP(&packet) // a connection that ends shows in the result
		})
	}
}

// speak sends the microphone.
func (p *publisher) speak(s *source) {
	h := headersOf(s)
	var buf [audioBytes + stampBytes]byte
	var seq uint16
	start := p.load.now()
	for i := 0; p.load.sleepUntil(start + time.Duration(i)*audioPeriod); i++ {
		if p.muted.Load() {
			continue
		}
		now := p.load.now()
		packet := rtp.Packet{
			Header:  rtp.Header{Version: 2, SequenceNumber: seq, Timestamp: uint32(i) * 960},
			Payload: opus(buf[:], now),
		}
		h.set(&packet, s, 0)
		seq++
		_ = s.tracks[0].WriteRTP(&packet)
	}
}

// readFeedback counts keyframe requests and has them answered.
func (p *publisher) readFeedback(s *source, encoding int) {
	b := make([]byte, 1500)
	for {
		var n int
		var err error
		if len(s.tracks) > 1 {
			n, _, err = s.sender.ReadSimulcast(b, rids[encoding])
		} else {
			n, _, err = s.sender.Read(b)
		}
		if err != nil {
			return
		}
		packets, err := rtcp.Unmarshal(b[:n])
		if err != nil {
			continue
		}
		ssrc := p.ssrc(s, encoding)
		for _, x := range packets {
			switch x := x.(type) {
			case *rtcp.PictureLossIndication:
				if x.MediaSSRC == ssrc {
					p.asked(encoding)
				}
			case *rtcp.FullIntraRequest:
				for _, f := range x.FIR {
					if f.SSRC == ssrc {
						p.asked(encoding)
					}
				}
			}
		}
	}
}

func (p *publisher) ssrc(s *source, encoding int) uint32 {
	if e := s.sender.GetParameters().Encodings; encoding < len(e) {
		return uint32(e[encoding].SSRC)
	}
	return 0
}

func (p *publisher) asked(encoding int) {
	p.wantKey[encoding].Store(true)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.requests = append(p.requests, request{p.load.now(), encoding})
}

// mute mutes all its sources, or takes that back.
func (p *publisher) mute(ctx context.Context, on bool) {
	p.muted.Store(on)
	for _, sid := range p.sids {
		_ = p.sig.send(ctx, &livekit.SignalRequest{Message: &livekit.SignalRequest_Mute{Mute: &livekit.MuteTrackRequest{Sid: sid, Muted: on}}})
	}
}
