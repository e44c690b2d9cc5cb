package node

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"time"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/token"
)

// Config is everything a node is told. Only cmd reads it from a file.
type Config struct {
	// ID names this node; its certificate must carry the same name. Required.
	ID mesh.NodeID
	// Region is where the node stands, as clients see it. Required.
	Region mesh.Region
	// Zone is the failure domain inside the region. Optional.
	Zone string
	// Latitude and Longitude of the node in degrees. Needed unless Region is one of the known region names.
	Latitude, Longitude float64
	// DataDir holds the ownership log and snapshots. Required.
	DataDir string
	// Keys are the API keys and secrets that sign access tokens. At least one.
	Keys token.Keys
	// Version of the software, told to other nodes.
	Version string

	Mesh  MeshConfig
	HTTP  HTTPConfig
	Media MediaConfig
	Geo   GeoConfig
	Rooms RoomsConfig
}

// MeshConfig is how the node meets the others.
type MeshConfig struct {
	// Listen is the UDP address and port for other nodes.
	Listen netip.AddrPort
	// Advertise is the UDP address and port other nodes reach it by. Default: Listen.
	Advertise netip.AddrPort
	// Seeds are host:port of nodes to join by; any live member will do.
	Seeds []string
	// Bootstrap lets this node begin a new mesh when it finds none.
	Bootstrap bool
	// CAFile, CertFile and KeyFile are PEM files made by 'meridian ca'.
	CAFile, CertFile, KeyFile string
	// Linger is how long an unwatched flow from another node stays open.
	Linger time.Duration
	// Lanes is the number of media connections of a link.
	Lanes int
	// Direct carries media beside QUIC, sealed with keys of its handshake, where the other node does too. It is cheaper and
	// stands loss over oceans, but nothing yet slows it down on a congested path. Off, media is carried in QUIC DATAGRAMs.
	Direct bool
	// Delays are emulated one-way delays to other nodes by their mesh address, for trying things out on one machine.
	Delays map[netip.AddrPort]time.Duration
	// Profile chooses the gossip timings: "wan" (default), "lan" or "dev".
	Profile string
}

// HTTPConfig is the door for clients, applications and scrapers.
type HTTPConfig struct {
	// Listen is the TCP address and port of HTTP and WebSocket.
	Listen netip.AddrPort
	// ClientURL is the base URL clients connect to: ws://… or wss://…. Default: ws:// and Listen.
	ClientURL string
	// TrustedProxies may say for whom they forward (X-Forwarded-For).
	TrustedProxies []netip.Prefix
	// AdminToken opens /v1/status and /debug. Empty keeps them shut unless OpenStatus.
	AdminToken string
	// OpenStatus lets anyone read /v1/status and /debug. For dev.
	OpenStatus bool
	// OpenTokens lets anyone have an access token from /v1/edge. For dev.
	OpenTokens bool
	// AllowFakeAddress lets a caller say where it stands (client_ip, X-Meridian-Client-IP). For dev.
	AllowFakeAddress bool
	// Metrics serves /metrics.
	Metrics bool
}

// MediaConfig is the door for media.
type MediaConfig struct {
	// UDPPort carries all media over UDP.
	UDPPort int
	// TCPPort takes ICE-TCP from clients whose network blocks UDP; 0 turns it off.
	TCPPort int
	// Addresses are told to clients instead of the interfaces' own: the public address behind a 1:1 NAT.
	Addresses []netip.Addr
	// IncludeLoopback offers 127.0.0.1 to clients. For dev.
	IncludeLoopback bool
}

// GeoConfig says where clients are looked up.
type GeoConfig struct {
	// Database is the path of a GeoIP2 or GeoLite2 City file; empty uses the small embedded one.
	Database string
}

// RoomsConfig are defaults of rooms that do not say otherwise.
type RoomsConfig struct {
	// EmptyTimeout ends a room nobody ever came to.
	EmptyTimeout time.Duration
	// DepartureTimeout ends a room after its last participant left.
	DepartureTimeout time.Duration
	// MaxParticipants is the limit of a room; 0 is none.
	MaxParticipants uint32
	// Speakers is how many are heard at once, 1 to 50. A room of no more microphones hears them all; in a larger one only those
	// cross to other nodes and clients who speak or may begin to. Default 5.
	Speakers int
}

// DefaultConfig returns what holds for everything a configuration leaves out.
func DefaultConfig() Config {
	return Config{
		Version: "dev",
		Mesh: MeshConfig{
			Listen:  netip.AddrPortFrom(netip.IPv4Unspecified(), 7946),
			Linger:  3 * time.Second,
			Lanes:   2,
			Direct:  true,
			Profile: "wan",
		},
		HTTP:  HTTPConfig{Listen: netip.AddrPortFrom(netip.IPv4Unspecified(), 7880), Metrics: true},
		Media: MediaConfig{UDPPort: 7882, TCPPort: 7881},
		Rooms: RoomsConfig{EmptyTimeout: 5 * time.Minute, DepartureTimeout: 20 * time.Second, Speakers: 5},
	}
}

// Validate returns all problems of the configuration, each naming its field, or nil.
func (c *Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if _, err := mesh.ParseNodeID(string(c.ID)); err != nil {
		bad("node.id: %w", err)
	}
	if _, err := mesh.ParseRegion(string(c.Region)); err != nil {
		bad("node.region: %w", err)
	}
	if c.Latitude < -90 || c.Latitude > 90 || c.Longitude < -180 || c.Longitude > 180 {
		bad("node.latitude, node.longitude: %g, %g is no place on Earth", c.Latitude, c.Longitude)
	} else if _, known := PlaceOfRegion(c.Region); c.Latitude == 0 && c.Longitude == 0 && !known {
		bad("node.latitude, node.longitude: say where region %q is (it is not one of the known regions)", c.Region)
	}
	if c.DataDir == "" {
		bad("data_dir: say where the node may keep its data")
	}
	if err := c.Keys.Validate(); err != nil {
		bad("keys: %w", err)
	}
	errs = append(errs, c.Mesh.validate(), c.HTTP.validate(), c.Media.validate())
	if c.Rooms.EmptyTimeout <= 0 || c.Rooms.DepartureTimeout <= 0 {
		bad("rooms: empty_timeout and departure_timeout must be positive")
	}
	if c.Rooms.Speakers < 1 || c.Rooms.Speakers > 50 {
		bad("rooms.speakers: must be 1 to 50, not %d", c.Rooms.Speakers)
	}
	return errors.Join(errs...)
}

func (c *MeshConfig) validate() error {
	var errs []error
	if !c.Listen.IsValid() {
		errs = append(errs, errors.New("mesh.listen: say an address and port, as 0.0.0.0:7946"))
	}
	if advertise := c.advertise(); !advertise.IsValid() || advertise.Addr().IsUnspecified() || advertise.Port() == 0 {
		errs = append(errs, errors.New("mesh.advertise: say the address and port other nodes reach this one by (mesh.listen names no single address)"))
	}
	for _, f := range []struct{ key, value string }{{"mesh.ca", c.CAFile}, {"mesh.cert", c.CertFile}, {"mesh.key", c.KeyFile}} {
		if f.value == "" {
			errs = append(errs, fmt.Errorf("%s: name the file ('meridian ca init' and 'meridian ca issue' make it)", f.key))
		}
	}
	if len(c.Seeds) == 0 && !c.Bootstrap {
		errs = append(errs, errors.New("mesh.seeds: name a node to join by, or set mesh.bootstrap: true on the first node of a new mesh"))
	}
	if c.Lanes < 2 || c.Lanes > 128 {
		errs = append(errs, fmt.Errorf("mesh.lanes: must be 2 to 128, not %d", c.Lanes))
	}
	if c.Linger <= 0 {
		errs = append(errs, errors.New("mesh.linger: must be positive"))
	}
	switch c.Profile {
	case "wan", "lan", "dev":
	default:
		errs = append(errs, fmt.Errorf("mesh.profile: %q is none of wan, lan, dev", c.Profile))
	}
	return errors.Join(errs...)
}

func (c *MeshConfig) advertise() netip.AddrPort {
	if c.Advertise.IsValid() {
		return c.Advertise
	}
	return c.Listen
}

func (c *HTTPConfig) validate() error {
	var errs []error
	if !c.Listen.IsValid() {
		errs = append(errs, errors.New("http.listen: say an address and port, as 0.0.0.0:7880"))
	}
	u, err := url.Parse(c.clientURL())
	switch {
	case err != nil:
		errs = append(errs, fmt.Errorf("http.url: %w", err))
	case u.Scheme != "ws" && u.Scheme != "wss":
		errs = append(errs, fmt.Errorf("http.url: must begin with wss:// or ws://, not %q", c.ClientURL))
	case u.Hostname() == "" || u.Hostname() == "0.0.0.0" || u.Hostname() == "::":
		errs = append(errs, errors.New("http.url: say the URL clients reach this node by, as wss://fra1.example.org"))
	}
	return errors.Join(errs...)
}

func (c *HTTPConfig) clientURL() string {
	if c.ClientURL != "" {
		return c.ClientURL
	}
	return "ws://" + c.Listen.String()
}

func (c *MediaConfig) validate() error {
	var errs []error
	for _, p := range []struct {
		key  string
		port int
	}{{"media.udp_port", c.UDPPort}, {"media.tcp_port", c.TCPPort}} {
		if p.port < 0 || p.port > 65535 {
			errs = append(errs, fmt.Errorf("%s: %d is no port", p.key, p.port))
		}
	}
	return errors.Join(errs...)
}
