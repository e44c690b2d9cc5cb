package sfm

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"

	"github.com/pion/ice/v4"
	"github.com/pion/logging"
)

// sockets are the ports all clients share.
type sockets struct {
	udp     ice.UDPMux
	tcp     ice.TCPMux                  // nil when switched off
	media   map[netip.Addr]*mediaSocket // by local address
	udpPort int
	tcpPort int
	close   []func() error
}

// tcpReadPackets is how many packets of one ICE-TCP connection wait to be read.
const tcpReadPackets = 64

// bind opens the sockets. Each address gets its own UDP socket on the same port, so that answers leave with the address
// they were asked at.
func bind(cfg Config, factory logging.LoggerFactory) (*sockets, error) {
	addrs := cfg.Listen
	if len(addrs) == 0 {
		var err error
		if addrs, err = localAddrs(cfg.IncludeLoopback); err != nil {
			return nil, err
		}
	}
	if len(addrs) == 0 {
		return nil, errors.New("sfm: no address to listen on: none configured and none on the interfaces")
	}
	s := &sockets{udpPort: cfg.UDPPort, media: map[netip.Addr]*mediaSocket{}}
	var muxes []ice.UDPMux
	for _, a := range addrs {
		conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, uint16(s.udpPort))))
		if err != nil {
			_ = s.Close()
			return nil, fmt.Errorf("sfm: listen for media on UDP %s: %w", netip.AddrPortFrom(a, uint16(s.udpPort)), err)
		}
		// Bursts of keyframes to many clients; the kernel clamps to its own limits, which is fine.
		_ = conn.SetReadBuffer(4 << 20)
		_ = conn.SetWriteBuffer(4 << 20)
		if local, ok := conn.LocalAddr().(*net.UDPAddr); ok {
			s.udpPort = local.Port
		}
		socket := newMediaSocket(conn)
		s.media[a.Unmap()] = socket
		mux := ice.NewUDPMuxDefault(ice.UDPMuxParams{UDPConn: socket, Logger: factory.NewLogger("ice")})
		muxes = append(muxes, mux)
		s.close = append(s.close, mux.Close, conn.Close)
	}
	s.udp = ice.NewMultiUDPMuxDefault(muxes...)
	if cfg.TCPPort < 0 {
		return s, nil
	}
	host := ""
	if len(cfg.Listen) == 1 {
		host = cfg.Listen[0].String()
	}
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", net.JoinHostPort(host, strconv.Itoa(cfg.TCPPort)))
	if err != nil {
		_ = s.Close()
		return nil, fmt.Errorf("sfm: listen for media on TCP port %d: %w", cfg.TCPPort, err)
	}
	if local, ok := listener.Addr().(*net.TCPAddr); ok {
		s.tcpPort = local.Port
	}
	tcp := ice.NewTCPMuxDefault(ice.TCPMuxParams{
		Listener: listener, Logger: factory.NewLogger("ice"), ReadBufferSize: tcpReadPackets,
		WriteBufferSize: 4 << 20,
	})
	s.tcp = tcp
	s.close = append(s.close, tcp.Close)
	return s, nil
}

// Close gives the ports back.
func (s *sockets) Close() error {
	var errs []error
	for _, f := range s.close {
		if err := f(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	s.close = nil
	return errors.Join(errs...)
}

// localAddrs returns the addresses of all interfaces that clients could reach.
func localAddrs(loopback bool) ([]netip.Addr, error) {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("sfm: list interface addresses: %w", err)
	}
	var out []netip.Addr
	for _, a := range list {
		prefix, ok := a.(*net.IPNet)
		if !ok {
			continue
		}
		addr, ok := netip.AddrFromSlice(prefix.IP)
		if !ok {
			continue
		}
		addr = addr.Unmap()
		if addr.IsGlobalUnicast() || loopback && addr.IsLoopback() {
			out = append(out, addr)
		}
	}
	return out, nil
}
