package load

import (
	"context"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/livekit/protocol/livekit"
	"github.com/pion/rtcp"
	"github.com/pion/sdp/v3"
	"github.com/pion/webrtc/v4"
)

// A client without a picture asks for a keyframe after this time and again each time it passes, as browsers do.
const keyframePatience = 200 * time.Millisecond

const reportEvery = time.Second

// kind is what a payload type carries.
type kind uint8

const (
	kindUnknown kind = iota
	kindAudio
	kindVideo
	kindOther // retransmissions, redundancy
)

// subscriber receives what its layout shows.
type subscriber struct {
	*peer
	load   *load
	name   string
	url    string
	socket *socket
	began  time.Duration // when it set out
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	got    chan struct{} // closed at the first packet

	missing chan missing // to be asked for again

	tiles  map[string]tile // of the sources it shows; owned by the signalling reader
	heard  map[string]bool // audio sources it asked for; owned by the signalling reader
	layout []tile          // tiles still free; owned by the signalling reader

	mu          sync.Mutex
	kinds       [128]kind // guarded by mu; by payload type
	streams     []*stream // guarded by mu
	marks       []mark    // guarded by mu; of the streams when the counted time began
	delays      histogram // guarded by mu
	connectedAt time.Duration
	firstAt     time.Duration // guarded by mu; first packet
	frameAt     time.Duration // guarded by mu; first whole keyframe, or first audio packet without video
	frameAge    time.Duration // guarded by mu; how old that keyframe was
	pictures    int           // guarded by mu; keyframes asked for
}

// subscribe joins a room and receives until close.
func (l *load) subscribe(ctx context.Context, url, room, name string) (*subscriber, error) {
	ctx, cancel := context.WithTimeout(ctx, l.sc.Patience)
	defer cancel()
	s := &subscriber{
		load: l, name: name, url: url, began: l.now(), got: make(chan struct{}), missing: make(chan missing, 64), tiles: map[string]tile{}, heard: map[string]bool{},
		layout: layouts[l.sc.Layout],
	}
	s.ctx, s.cancel = context.WithCancel(l.ctx)
	sig, err := dial(ctx, credentials{
		url: url, key: l.sc.Key, secret: l.sc.Secret, room: room, identity: name, autoSubscribe: s.layout == nil,
	})
	if err != nil {
		s.cancel()
		return nil, err
	}
	if err := s.start(ctx, sig, url); err != nil {
		if s.peer == nil {
			s.cancel()
			_ = sig.ws.CloseNow()
		} else {
			s.close()
		}
		return nil, fmt.Errorf("%w (subscriber %s)", err, name)
	}
	return s, nil
}

func (s *subscriber) start(ctx context.Context, sig *signalling, url string) error {
	local, err := localAddr(url)
	if err != nil {
		return err
	}
	s.socket, err = s.load.reader.open(local, s.media)
	if err != nil {
		return err
	}
	api, err := newAPI(s.socket)
	if err != nil {
		s.socket.close()
		return err
	}
	pc, err := api.NewPeerConnection(webrtc.Configuration{Certificates: s.load.certificates})
	if err != nil {
		s.socket.close()
		return fmt.Errorf("load: peer connection: %w", err)
	}
	s.peer = newPeer(sig, pc, livekit.SignalTarget_SUBSCRIBER)
	pc.OnTrack(func(t *webrtc.TrackRemote, _ *webrtc.RTPReceiver) { s.wg.Go(func() { s.read(t) }) })
	s.wg.Go(func() { s.sig.ping(s.ctx) })
	s.wg.Go(s.report)
	s.wg.Go(s.listen)
	if err := s.await(ctx, "connecting", s.connected); err != nil {
		return err
	}
	s.connectedAt = s.load.now()
	return s.await(ctx, "waiting for media", s.got)
}

// listen reads the signalling until it ends.
func (s *subscriber) listen() {
	for _, p := range s.sig.join.GetOtherParticipants() {
		s.show(p)
	}
	for {
		m, err := s.sig.receive(s.ctx)
		if err != nil {
			s.fail(err)
			return
		}
		switch m := m.GetMessage().(type) {
		case *livekit.SignalResponse_Offer:
			err = s.answer(m.Offer)
		case *livekit.SignalResponse_Trickle:
			err = s.trickle(m.Trickle)
		case *livekit.SignalResponse_Update:
			for _, p := range m.Update.GetParticipants() {
				s.show(p)
			}
		case *livekit.SignalResponse_Leave:
			err = fmt.Errorf("load: the server said goodbye: %s", m.Leave.GetReason())
		}
		if err != nil {
			s.fail(err)
		}
	}
}

func (s *subscriber) answer(offer *livekit.SessionDescription) error {
	s.learnPayloadTypes(offer.GetSdp())
	if err := s.setRemote(webrtc.SDPTypeOffer, offer.GetSdp()); err != nil {
		return err
	}
	answer, err := s.pc.CreateAnswer(nil)
	if err != nil {
		return fmt.Errorf("load: answer: %w", err)
	}
	d, err := s.local(answer)
	if err != nil {
		return err
	}
	d.Id = offer.GetId()
	return s.sig.send(s.ctx, &livekit.SignalRequest{Message: &livekit.SignalRequest_Answer{Answer: d}})
}

// learnPayloadTypes reads from an offer what its payload types carry.
func (s *subscriber) learnPayloadTypes(text string) {
	var d sdp.SessionDescription
	if d.UnmarshalString(text) != nil {
		return // Pion is about to say so
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range d.MediaDescriptions {
		for _, a := range m.Attributes {
			if a.Key != "rtpmap" {
				continue
			}
			number, codec, _ := strings.Cut(a.Value, " ")
			pt, err := strconv.Atoi(number)
			if err != nil || pt < 0 || pt >= len(s.kinds) {
				continue
			}
			s.kinds[pt] = kindOf(m.MediaName.Media, codec)
		}
	}
}

func kindOf(media, codec string) kind {
	name, _, _ := strings.Cut(strings.ToLower(codec), "/")
	switch {
	case name == "rtx" || name == "red" || name == "ulpfec" || name == "flexfec-03":
		return kindOther
	case media == "audio":
		return kindAudio
	case media == "video":
		return kindVideo
	}
	return kindUnknown
}

// show subscribes to what a participant publishes, as far as the layout has place.
func (s *subscriber) show(p *livekit.ParticipantInfo) {
	if layouts[s.load.sc.Layout] == nil || p.GetSid() == s.sig.join.GetParticipant().GetSid() {
		return
	}
	var fresh []string
	for _, t := range p.GetTracks() {
		sid := t.GetSid()
		_, shown := s.tiles[sid]
		switch {
		case shown || s.heard[sid]:
		case t.GetType() == livekit.TrackType_AUDIO:
			s.heard[sid] = true
			fresh = append(fresh, sid)
		case len(s.layout) > 0:
			s.tiles[sid], s.layout = s.layout[0], s.layout[1:]
			fresh = append(fresh, sid)
		}
	}
	if len(fresh) == 0 {
		return
	}
	_ = s.sig.send(s.ctx, &livekit.SignalRequest{Message: &livekit.SignalRequest_Subscription{Subscription: &livekit.UpdateSubscription{
		TrackSids: fresh, Subscribe: true,
		ParticipantTracks: []*livekit.ParticipantTracks{{ParticipantSid: p.GetSid(), TrackSids: fresh}},
	}}})
	for _, sid := range fresh {
		if t, ok := s.tiles[sid]; ok {
			_ = s.sig.send(s.ctx, &livekit.SignalRequest{Message: &livekit.SignalRequest_TrackSetting{TrackSetting: &livekit.UpdateTrackSettings{
				TrackSids: []string{sid}, Width: t.width, Height: t.height, Quality: livekit.VideoQuality_HIGH,
			}}})
		}
	}
}

// media takes every RTP and RTCP packet, and says which Pion shall decrypt. The reader calls it.
func (s *subscriber) media(b []byte, now time.Duration) bool {
	if !isRTP(b) {
		return false // sender reports are nothing we need
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.kinds[b[1]&0x7f]
	if k == kindOther {
		return false
	}
	x := s.stream(binary.BigEndian.Uint32(b[8:]), k)
	if x == nil {
		return false
	}
	if s.firstAt == 0 {
		s.firstAt = now
		close(s.got)
		if !s.load.sc.video() {
			s.frameAt = now
		}
	}
	decrypt := x.take(b, now, time.Duration(s.load.quiet.Load()), s.load.sc.Sample)
	if x.gap > 0 {
		select {
		case s.missing <- missing{x.ssrc, x.gapAt, x.gap}:
		default: // too many at once: the picture is asked for anew
		}
		x.gap = 0
	}
	return decrypt
}

// stream finds a stream or begins one, within reason.
func (s *subscriber) stream(ssrc uint32, k kind) *stream {
	for _, x := range s.streams {
		if x.ssrc == ssrc {
			return x
		}
	}
	if len(s.streams) >= 1024 {
		return nil
	}
	x := &stream{ssrc: ssrc, video: k == kindVideo}
	s.streams = append(s.streams, x)
	if x.video {
		time.AfterFunc(keyframePatience, func() { s.wantPicture(x) })
	}
	return x
}

// wantPicture asks for a keyframe as long as there was none.
func (s *subscriber) wantPicture(x *stream) {
	s.mu.Lock()
	ask := !x.decoded && s.ctx.Err() == nil
	if ask {
		s.pictures++
	}
	s.mu.Unlock()
	if ask {
		_ = s.pc.WriteRTCP([]rtcp.Packet{&rtcp.PictureLossIndication{MediaSSRC: x.ssrc}})
		time.AfterFunc(keyframePatience, func() { s.wantPicture(x) })
	}
}

// read takes what Pion decrypted of one source.
func (s *subscriber) read(t *webrtc.TrackRemote) {
	var hunt frameHunt
	b := make([]byte, 1500)
	for {
		n, _, err := t.Read(b)
		if err != nil {
			return
		}
		header := rtpHeader(b[:n])
		if header == 0 {
			continue
		}
		seq, timestamp, marker, payload := binary.BigEndian.Uint16(b[2:]), binary.BigEndian.Uint32(b[4:]), b[1]&0x80 != 0, b[header:n]
		whole := hunt.take(seq, timestamp, marker, keyframeStart(payload))
		stamp, stamped := readStamp(payload)
		s.mu.Lock()
		if x := s.find(binary.BigEndian.Uint32(b[8:])); x != nil {
			at, ok := x.arrivedAt(seq)
			if ok && stamped && stamp >= x.firstAt { // what is older came from a cache, and is late for a reason
				s.delays.add(at - stamp)
			}
			if x.video && whole {
				if !ok { // more came at once than arrivals holds
					at = s.load.now()
				}
				x.decoded = true
				if s.frameAt == 0 {
					s.frameAt, s.frameAge = at, at-stamp
				}
			}
		}
		s.mu.Unlock()
	}
}

func (s *subscriber) find(ssrc uint32) *stream {
	for _, x := range s.streams {
		if x.ssrc == ssrc {
			return x
		}
	}
	return nil
}

// rtpHeader is the length of a packet's RTP header, 0 when it makes no sense or is all there is.
func rtpHeader(b []byte) int {
	if len(b) < 12 {
		return 0
	}
	n := 12 + 4*int(b[0]&0x0f)
	if b[0]&0x10 != 0 {
		if len(b) < n+4 {
			return 0
		}
		n += 4 + 4*int(binary.BigEndian.Uint16(b[n+2:]))
	}
	if n >= len(b) {
		return 0
	}
	return n
}

// missing are packets of a first picture that did not come.
type missing struct {
	ssrc     uint32
	first, n uint16
}

// again asks for packets once more (RFC 4585 §6.2.1).
func (s *subscriber) again(m missing) {
	var seqs []uint16
	for i := range min(m.n, 128) {
		seqs = append(seqs, m.first+i)
	}
	_ = s.pc.WriteRTCP([]rtcp.Packet{&rtcp.TransportLayerNack{
		SenderSSRC: 1, MediaSSRC: m.ssrc, Nacks: rtcp.NackPairsFromSequenceNumbers(seqs),
	}})
}

// report sends receiver reports, without which servers take a client for dead or deaf, and asks for what is missing.
func (s *subscriber) report() {
	tick := time.NewTicker(reportEvery)
	defer tick.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case m := <-s.missing:
			s.again(m)
			continue
		case <-tick.C:
		}
		rr := &rtcp.ReceiverReport{SSRC: 1}
		s.mu.Lock()
		for _, x := range s.streams[:min(len(s.streams), 31)] {
			rr.Reports = append(rr.Reports, rtcp.ReceptionReport{
				SSRC: x.ssrc, LastSequenceNumber: uint32(x.highest), TotalLost: uint32(x.expected()-min(x.received, x.expected())) & 0x7fffff,
			})
		}
		s.mu.Unlock()
		if len(rr.Reports) > 0 {
			_ = s.pc.WriteRTCP([]rtcp.Packet{rr})
		}
	}
}

// close leaves. Its counters stay.
func (s *subscriber) close() {
	s.peer.close()
	s.cancel()
	s.socket.close()
	s.wg.Wait()
}
