package load

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/livekit/protocol/livekit"
	"github.com/pion/dtls/v3"
	"github.com/pion/ice/v4"
	"github.com/pion/interceptor"
	"github.com/pion/interceptor/pkg/nack"
	"github.com/pion/interceptor/pkg/report"
	"github.com/pion/sdp/v3"
	"github.com/pion/webrtc/v4"
)

// Payload types in our offers.
const (
	vp8PayloadType  = 96
	opusPayloadType = 111
)

// newAPI makes Pion's factory. A subscriber brings its socket; a publisher without one gets Pion's own, retransmissions and
// sender reports.
func newAPI(s *socket) (*webrtc.API, error) {
	m := &webrtc.MediaEngine{}
	feedback := []webrtc.RTCPFeedback{{Type: "nack"}, {Type: "nack", Parameter: "pli"}, {Type: "ccm", Parameter: "fir"}}
	video := webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeVP8, ClockRate: 90000, RTCPFeedback: feedback}
	audio := webrtc.RTPCodecCapability{
		MimeType: webrtc.MimeTypeOpus, ClockRate: 48000, Channels: 2, SDPFmtpLine: "minptime=10;useinbandfec=1",
	}
	if err := m.RegisterCodec(webrtc.RTPCodecParameters{RTPCodecCapability: video, PayloadType: vp8PayloadType}, webrtc.RTPCodecTypeVideo); err != nil {
		return nil, fmt.Errorf("load: codec: %w", err)
	}
	if err := m.RegisterCodec(webrtc.RTPCodecParameters{RTPCodecCapability: audio, PayloadType: opusPayloadType}, webrtc.RTPCodecTypeAudio); err != nil {
		return nil, fmt.Errorf("load: codec: %w", err)
	}
	extensions := map[string][]webrtc.RTPCodecType{
		sdp.SDESMidURI:         {webrtc.RTPCodecTypeAudio, webrtc.RTPCodecTypeVideo},
		sdp.SDESRTPStreamIDURI: {webrtc.RTPCodecTypeVideo},
		sdp.AudioLevelURI:      {webrtc.RTPCodecTypeAudio},
	}
	for _, uri := range []string{sdp.SDESMidURI, sdp.SDESRTPStreamIDURI, sdp.AudioLevelURI} {
		for _, kind := range extensions[uri] {
			if err := m.RegisterHeaderExtension(webrtc.RTPHeaderExtensionCapability{URI: uri}, kind); err != nil {
				return nil, fmt.Errorf("load: header extension: %w", err)
			}
		}
	}
	settings := webrtc.SettingEngine{LoggerFactory: silence{}}
	settings.SetIncludeLoopbackCandidate(true)
	settings.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	settings.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4, webrtc.NetworkTypeUDP6})
	settings.SetSRTPProtectionProfiles(dtls.SRTP_AEAD_AES_128_GCM, dtls.SRTP_AES128_CM_HMAC_SHA1_80)
	settings.DisableSRTPReplayProtection(true) // only a sample of the packets is decrypted
	registry := &interceptor.Registry{}
	if s != nil {
		settings.SetICEUDPMux(s)
		settings.SetFireOnTrackBeforeFirstRTP(true)
	} else {
		responder, err := nack.NewResponderInterceptor(nack.WithResponderLoggerFactory(silence{}))
		if err != nil {
			return nil, fmt.Errorf("load: retransmissions: %w", err)
		}
		reports, err := report.NewSenderInterceptor()
		if err != nil {
			return nil, fmt.Errorf("load: sender reports: %w", err)
		}
		registry.Add(responder)
		registry.Add(reports)
	}
	return webrtc.NewAPI(webrtc.WithMediaEngine(m), webrtc.WithSettingEngine(settings), webrtc.WithInterceptorRegistry(registry)), nil
}

// peer is one client: its signalling and its one peer connection.
type peer struct {
	sig       *signalling
	pc        *webrtc.PeerConnection
	target    livekit.SignalTarget
	pending   []webrtc.ICECandidateInit // owned by the signalling reader
	connected chan struct{}             // closed when media is up
	failed    chan error                // capacity 1
}

func newPeer(sig *signalling, pc *webrtc.PeerConnection, target livekit.SignalTarget) *peer {
	p := &peer{sig: sig, pc: pc, target: target, connected: make(chan struct{}), failed: make(chan error, 1)}
	up := false // Pion calls one at a time
	pc.OnConnectionStateChange(func(s webrtc.PeerConnectionState) {
		switch {
		case s == webrtc.PeerConnectionStateConnected && !up:
			up = true
			close(p.connected)
		case s == webrtc.PeerConnectionStateFailed:
			p.fail(fmt.Errorf("load: media connection failed"))
		}
	})
	return p
}

func (p *peer) fail(err error) {
	select {
	case p.failed <- err:
	default:
	}
}

// await waits for a step of joining.
func (p *peer) await(ctx context.Context, what string, done <-chan struct{}) error {
	select {
	case <-done:
		return nil
	case err := <-p.failed:
		return fmt.Errorf("load: %s: %w", what, err)
	case <-ctx.Done():
		return fmt.Errorf("load: %s: %w", what, ctx.Err())
	}
}

// trickle takes a candidate of the server.
func (p *peer) trickle(t *livekit.TrickleRequest) error {
	if t.GetTarget() != p.target || t.GetCandidateInit() == "" {
		return nil
	}
	var c webrtc.ICECandidateInit
	if err := json.Unmarshal([]byte(t.GetCandidateInit()), &c); err != nil {
		return fmt.Errorf("load: candidate: %w", err)
	}
	if p.pc.RemoteDescription() == nil {
		p.pending = append(p.pending, c)
		return nil
	}
	_ = p.pc.AddICECandidate(c) // one of an older session, or of a kind we do not use
	return nil
}

func (p *peer) setRemote(typ webrtc.SDPType, text string) error {
	if err := p.pc.SetRemoteDescription(webrtc.SessionDescription{Type: typ, SDP: text}); err != nil {
		return fmt.Errorf("load: %s: %w", typ, err)
	}
	for _, c := range p.pending {
		_ = p.pc.AddICECandidate(c)
	}
	p.pending = nil
	return nil
}

// local sets an offer or answer of ours and returns it with all our candidates, which are known at once.
func (p *peer) local(d webrtc.SessionDescription) (*livekit.SessionDescription, error) {
	gathered := webrtc.GatheringCompletePromise(p.pc)
	if err := p.pc.SetLocalDescription(d); err != nil {
		return nil, fmt.Errorf("load: %s: %w", d.Type, err)
	}
	select {
	case <-gathered:
	case <-time.After(2 * time.Second):
	}
	return &livekit.SessionDescription{Type: d.Type.String(), Sdp: p.pc.LocalDescription().SDP}, nil
}

// close says goodbye and ends the connection.
func (p *peer) close() {
	p.sig.leave()
	_ = p.pc.GracefulClose()
}
