package signal

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

// Config says how the door behaves.
type Config struct {
	NodeID mesh.NodeID // told to clients
	Region mesh.Region // told to clients

	ServerVersion   string // semver SDKs gate features on; default "1.13.3"
	SoftwareVersion string // our own, told as debug information; may be empty

	// PublishCodecs are the codecs clients may publish, video first; default VP8, H.264, VP9 and Opus.
	PublishCodecs []Codec

	// ClientAddr resolves the address of a request's sender, through trusted proxies only. Default: the socket's.
	ClientAddr func(*http.Request) netip.Addr

	MaxMessageBytes int64 // of one message from a client; default 1 MiB: a large room's SDP fits
	QueueMessages   int   // waiting for a client; default 1024
	QueueBytes      int   // waiting for a client, beyond a first message of any size; default 4 MiB

	JoinTimeout     time.Duration // for Hall.Join and Hall.Check; default 10 s
	PingInterval    time.Duration // between WebSocket pings; default 10 s
	ReadTimeout     time.Duration // without any frame of a client it is gone; default 30 s
	WriteTimeout    time.Duration // for one message; default 10 s
	CloseTimeout    time.Duration // from Close to the end of the socket, including what is queued; default 5 s
	ShutdownTimeout time.Duration // for all connections when Run ends; default 8 s

	ClientPingInterval time.Duration // whole seconds between the client's pings; default 5 s
	ClientPingTimeout  time.Duration // whole seconds without an answer until the client resumes; default 15 s
}

// DefaultConfig returns the defaults. NodeID has none.
func DefaultConfig() Config {
	return Config{
		ServerVersion: "1.13.3",
		PublishCodecs: []Codec{
			{MIMEType: "video/VP8"}, {MIMEType: "video/H264"}, {MIMEType: "video/VP9"}, {MIMEType: "audio/opus"},
		},
		ClientAddr:         socketAddr,
		MaxMessageBytes:    1 << 20,
		QueueMessages:      1024,
		QueueBytes:         4 << 20,
		JoinTimeout:        10 * time.Second,
		PingInterval:       10 * time.Second,
		ReadTimeout:        30 * time.Second,
		WriteTimeout:       10 * time.Second,
		CloseTimeout:       5 * time.Second,
		ShutdownTimeout:    8 * time.Second,
		ClientPingInterval: 5 * time.Second,
		ClientPingTimeout:  15 * time.Second,
	}
}

// Validate returns all problems of the configuration.
func (c *Config) Validate() error {
	var problems []error
	add := func(bad bool, format string, args ...any) {
		if bad {
			problems = append(problems, fmt.Errorf("signal: "+format, args...))
		}
	}
	_, err := mesh.ParseNodeID(string(c.NodeID))
	add(err != nil, "NodeID: %w", err)
	add(c.ServerVersion == "", "ServerVersion is empty: clients refuse a server without one")
	add(len(c.PublishCodecs) == 0, "PublishCodecs is empty")
	add(c.ClientAddr == nil, "ClientAddr is nil")
	add(c.MaxMessageBytes < 16<<10, "MaxMessageBytes is %d, at least 16384 are needed", c.MaxMessageBytes)
	add(c.QueueMessages < 1, "QueueMessages is %d, must be positive", c.QueueMessages)
	add(c.QueueBytes < 1, "QueueBytes is %d, must be positive", c.QueueBytes)
	for _, d := range []struct {
		name string
		d    time.Duration
	}{
		{"JoinTimeout", c.JoinTimeout},
		{"PingInterval", c.PingInterval},
		{"ReadTimeout", c.ReadTimeout},
		{"WriteTimeout", c.WriteTimeout},
		{"CloseTimeout", c.CloseTimeout},
		{"ShutdownTimeout", c.ShutdownTimeout},
	} {
		add(d.d <= 0, "%s is %v, must be positive", d.name, d.d)
	}
	add(c.PingInterval >= c.ReadTimeout, "PingInterval %v must be shorter than ReadTimeout %v", c.PingInterval, c.ReadTimeout)
	add(c.ClientPingInterval < time.Second, "ClientPingInterval is %v, at least 1s is needed", c.ClientPingInterval)
	add(c.ClientPingTimeout <= c.ClientPingInterval, "ClientPingTimeout %v must be longer than ClientPingInterval %v", c.ClientPingTimeout, c.ClientPingInterval)
	return errors.Join(problems...)
}

func socketAddr(r *http.Request) netip.Addr {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	addr, _ := netip.ParseAddr(host) // the zero Addr says unknown
	return addr.Unmap()
}
