package trunk

import (
	"fmt"
	"net"
	"net/netip"
)

// socketBuffer is asked for by contestants who ask for nothing.
const socketBuffer = 4 << 20

// wire is a contestant's UDP socket on loopback, with all a socket can do. Its peer is the ocean, or without one the other node.
type wire struct {
	*net.UDPConn
	port uint16
	mark *net.UDPConn // for marks, to the ocean; nil without
}

func openWire() (*wire, error) {
	udp, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, fmt.Errorf("trunk: %w", err)
	}
	_ = udp.SetReadBuffer(socketBuffer) // the kernel gives what it allows; drops are reported
	_ = udp.SetWriteBuffer(socketBuffer)
	return &wire{UDPConn: udp, port: udp.LocalAddr().(*net.UDPAddr).AddrPort().Port()}, nil
}

// connect tells where the ocean is, which wants marks.
func (w *wire) connect(ocean netip.AddrPort) error {
	var err error
	if w.mark, err = net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(ocean)); err != nil {
		return fmt.Errorf("trunk: %w", err)
	}
	return nil
}

// say sends a mark behind all that was sent: over loopback nothing overtakes.
func (w *wire) say(mark int) {
	if w.mark != nil {
		_, _ = w.mark.Write(putMark(mark)) // a mark that is missed is reported
	}
}

// Close closes the socket. It is idempotent but for its error.
func (w *wire) Close() error {
	if w.mark != nil {
		_ = w.mark.Close()
	}
	return w.UDPConn.Close()
}
