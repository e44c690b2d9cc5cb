package sfm

import (
	"fmt"

	"github.com/pion/dtls/v3"
	"github.com/pion/ice/v4"
	"github.com/pion/interceptor"
	"github.com/pion/interceptor/pkg/nack"
	"github.com/pion/interceptor/pkg/report"
	"github.com/pion/interceptor/pkg/twcc"
	"github.com/pion/logging"
	"github.com/pion/sdp/v3"
	"github.com/pion/webrtc/v4"

	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

// opusPayloadType is that of our own offers; answers take the client's.
const opusPayloadType = 111

// Header extensions (RFC 8285).
const (
	uriAudioLevel     = sdp.AudioLevelURI
	uriAbsCaptureTime = "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time"
)

// apis are Pion's factories, one for each use of a peer connection.
type apis struct{ publisher, subscriber, single *webrtc.API }

func newAPIs(cfg Config, s *sockets, factory logging.LoggerFactory) (apis, error) {
	settings, err := newSettings(cfg, s, factory)
	if err != nil {
		return apis{}, err
	}
	var out apis
	for _, a := range []struct {
		api           **webrtc.API
		receive, send bool
	}{{&out.publisher, true, false}, {&out.subscriber, false, true}, {&out.single, true, true}} {
		engine, err := newMediaEngine(a.receive)
		if err != nil {
			return apis{}, err
		}
		registry := &interceptor.Registry{}
		if a.receive {
			if err := addReceiveInterceptors(registry, factory); err != nil {
				return apis{}, err
			}
		}
		*a.api = webrtc.NewAPI(
			webrtc.WithMediaEngine(engine), webrtc.WithInterceptorRegistry(registry), webrtc.WithSettingEngine(settings),
		)
	}
	return out, nil
}

func newSettings(cfg Config, s *sockets, factory logging.LoggerFactory) (webrtc.SettingEngine, error) {
	e := webrtc.SettingEngine{LoggerFactory: factory}
	e.SetICEUDPMux(s.udp)
	networks := []webrtc.NetworkType{webrtc.NetworkTypeUDP4, webrtc.NetworkTypeUDP6}
	if s.tcp != nil {
		e.SetICETCPMux(s.tcp)
		networks = append(networks, webrtc.NetworkTypeTCP4, webrtc.NetworkTypeTCP6)
	}
	e.SetNetworkTypes(networks)
	e.DisableActiveTCP(true)
	e.SetIncludeLoopbackCandidate(cfg.IncludeLoopback)
	e.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	e.SetICETimeouts(cfg.ICEDisconnectedTimeout, cfg.ICEFailedTimeout, cfg.ICEKeepalive)
	e.SetReceiveMTU(rtpstream.MaxPacketBytes)
	e.SetSCTPMaxMessageSize(maxMessageBytes)
	// The DTLS server chooses the SRTP profile (RFC 5764 §4.1.2). Chromium as the server prefers AES-CM, which costs us
	// several times as much per packet as GCM.
	if err := e.SetAnsweringDTLSRole(webrtc.DTLSRoleServer); err != nil {
		return e, fmt.Errorf("sfm: DTLS role: %w", err)
	}
	e.SetFireOnTrackBeforeFirstRTP(true)
	e.SetSRTPProtectionProfiles(dtls.SRTP_AEAD_AES_128_GCM, dtls.SRTP_AES128_CM_HMAC_SHA1_80)
	if len(cfg.Advertised) == 0 {
		return e, nil
	}
	rule := webrtc.ICEAddressRewriteRule{AsCandidateType: webrtc.ICECandidateTypeHost, Mode: webrtc.ICEAddressRewriteReplace}
	for _, a := range cfg.Advertised {
		rule.External = append(rule.External, a.String())
	}
	if err := e.SetICEAddressRewriteRules(rule); err != nil {
		return e, fmt.Errorf("sfm: advertised addresses: %w", err)
	}
	return e, nil
}

// newMediaEngine names the codecs and header extensions we take part in. There is no RED: it is left out of answers.
func newMediaEngine(receive bool) (*webrtc.MediaEngine, error) {
	m := &webrtc.MediaEngine{}
	feedback := []webrtc.RTCPFeedback{{Type: "nack"}, {Type: "nack", Parameter: "pli"}, {Type: "ccm", Parameter: "fir"}}
	if receive {
		feedback = append(feedback, webrtc.RTCPFeedback{Type: webrtc.TypeRTCPFBTransportCC})
	}
	opus := webrtc.RTPCodecParameters{
		PayloadType: opusPayloadType,
		RTPCodecCapability: webrtc.RTPCodecCapability{
			MimeType: webrtc.MimeTypeOpus, ClockRate: 48000, Channels: 2, SDPFmtpLine: "minptime=10;useinbandfec=1;usedtx=1",
		},
	}
	if err := m.RegisterCodec(opus, webrtc.RTPCodecTypeAudio); err != nil {
		return nil, fmt.Errorf("sfm: register %s: %w", opus.MimeType, err)
	}
	if err := registerVideo(m, feedback); err != nil {
		return nil, err
	}
	both := []webrtc.RTPTransceiverDirection{webrtc.RTPTransceiverDirectionRecvonly, webrtc.RTPTransceiverDirectionSendonly}
	in := both[:1]
	extensions := []struct {
		uri        string
		kind       webrtc.RTPCodecType
		directions []webrtc.RTPTransceiverDirection
	}{
		{sdp.SDESMidURI, webrtc.RTPCodecTypeAudio, both},
		{sdp.SDESMidURI, webrtc.RTPCodecTypeVideo, both},
		{uriAudioLevel, webrtc.RTPCodecTypeAudio, both},
		{uriAbsCaptureTime, webrtc.RTPCodecTypeAudio, both},
		{uriAbsCaptureTime, webrtc.RTPCodecTypeVideo, both},
		{rtpstream.DependencyDescriptorURI, webrtc.RTPCodecTypeVideo, both},
	}
	if receive {
		extensions = append(extensions, []struct {
			uri        string
			kind       webrtc.RTPCodecType
			directions []webrtc.RTPTransceiverDirection
		}{
			{sdp.SDESRTPStreamIDURI, webrtc.RTPCodecTypeVideo, in},
			{sdp.SDESRepairRTPStreamIDURI, webrtc.RTPCodecTypeVideo, in},
			{sdp.TransportCCURI, webrtc.RTPCodecTypeVideo, in},
		}...)
	}
	for _, x := range extensions {
		if err := m.RegisterHeaderExtension(webrtc.RTPHeaderExtensionCapability{URI: x.uri}, x.kind, x.directions...); err != nil {
			return nil, fmt.Errorf("sfm: register %s: %w", x.uri, err)
		}
	}
	return m, nil
}

// addReceiveInterceptors asks for lost packets, reports what arrived and when. Sending has no interceptors: senders do
// their own retransmissions and reports.
func addReceiveInterceptors(registry *interceptor.Registry, factory logging.LoggerFactory) error {
	generator, err := nack.NewGeneratorInterceptor(nack.WithGeneratorLoggerFactory(factory))
	if err != nil {
		return fmt.Errorf("sfm: nack generator: %w", err)
	}
	congestion, err := twcc.NewSenderInterceptor()
	if err != nil {
		return fmt.Errorf("sfm: transport feedback: %w", err)
	}
	reports, err := report.NewReceiverInterceptor()
	if err != nil {
		return fmt.Errorf("sfm: receiver reports: %w", err)
	}
	registry.Add(generator)
	registry.Add(congestion)
	registry.Add(reports)
	return nil
}
