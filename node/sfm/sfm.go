package sfm

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/pion/webrtc/v4"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

// certificateLife is how long one DTLS certificate is used for new connections, well within its validity of a month.
const certificateLife = 7 * 24 * time.Hour

// ErrFull is returned when MaxEndpoints clients are connected.
var ErrFull = errors.New("sfm: no room for another endpoint")

// SFM is the Selective Forwarding Middlebox of a node. It is safe for concurrent use.
type SFM struct {
	cfg     Config
	log     *slog.Logger
	metrics *metrics
	sockets *sockets
	apis    apis
	pool    rtpstream.Pool
	start   time.Time

	mu        sync.Mutex
	endpoints map[*Endpoint]struct{} // guarded by mu
	closed    bool                   // guarded by mu
	cert      webrtc.Certificate     // guarded by mu
	certUntil time.Time              // guarded by mu
}

// New binds the media ports. An address in use is an error here. Nothing is started but the readers of the ports.
func New(cfg Config, log *slog.Logger, reg prometheus.Registerer) (*SFM, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	factory := pionLog{log}
	sockets, err := bind(cfg, factory)
	if err != nil {
		return nil, err
	}
	apis, err := newAPIs(cfg, sockets, factory)
	if err != nil {
		return nil, errors.Join(err, sockets.Close())
	}
	return &SFM{
		cfg: cfg, log: log, metrics: newMetrics(reg), sockets: sockets, apis: apis,
		start: time.Now(), endpoints: map[*Endpoint]struct{}{},
	}, nil
}

// UDPPort is the port media is taken on.
func (s *SFM) UDPPort() int { return s.sockets.udpPort }

// TCPPort is the port media is taken on over TCP; 0 when that is switched off.
func (s *SFM) TCPPort() int { return s.sockets.tcpPort }

// Run waits for ctx to end, closes every endpoint and gives the ports back.
func (s *SFM) Run(ctx context.Context) error {
	<-ctx.Done()
	s.mu.Lock()
	s.closed = true
	var all []*Endpoint
	for e := range s.endpoints {
		all = append(all, e)
	}
	s.mu.Unlock()
	for _, e := range all {
		e.Close()
	}
	for _, e := range all {
		<-e.Done()
	}
	return s.sockets.Close()
}

// NewEndpoint opens the end of one client. Its Handler is called from now on. It returns ErrFull or ErrClosed when no
// endpoint can be had.
func (s *SFM) NewEndpoint(cfg EndpointConfig, h Handler) (*Endpoint, error) {
	e := newEndpoint(s, cfg, h)
	s.mu.Lock()
	switch {
	case s.closed:
		s.mu.Unlock()
		return nil, ErrClosed
	case len(s.endpoints) >= s.cfg.MaxEndpoints:
		s.mu.Unlock()
		return nil, ErrFull
	}
	s.endpoints[e] = struct{}{}
	s.mu.Unlock()
	s.metrics.endpoints.Inc()
	e.run()
	return e, nil
}

// ended is called by an endpoint's last goroutine.
func (s *SFM) ended(e *Endpoint) {
	s.mu.Lock()
	delete(s.endpoints, e)
	s.mu.Unlock()
	s.metrics.endpoints.Dec()
}

// now is the time since this SFM was made: the clock of Packet.Arrival.
func (s *SFM) now() time.Duration { return time.Since(s.start) }

// certificate returns the DTLS certificate for a new connection. Connections share one: making it is the most expensive
// part of a join.
func (s *SFM) certificate() (webrtc.Certificate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Now().Before(s.certUntil) {
		return s.cert, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return webrtc.Certificate{}, fmt.Errorf("sfm: generate key: %w", err)
	}
	cert, err := webrtc.GenerateCertificate(key)
	if err != nil {
		return webrtc.Certificate{}, fmt.Errorf("sfm: generate certificate: %w", err)
	}
	s.cert, s.certUntil = *cert, time.Now().Add(certificateLife)
	return s.cert, nil
}

func (s *SFM) newPeerConnection(api *webrtc.API) (*webrtc.PeerConnection, error) {
	cert, err := s.certificate()
	if err != nil {
		return nil, err
	}
	pc, err := api.NewPeerConnection(webrtc.Configuration{
		Certificates: []webrtc.Certificate{cert}, BundlePolicy: webrtc.BundlePolicyMaxBundle,
	})
	if err != nil {
		return nil, fmt.Errorf("sfm: new peer connection: %w", err)
	}
	return pc, nil
}
