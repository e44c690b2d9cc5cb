package trunk

import (
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"

	"github.com/meridian-sfu/meridian/internal/testnet"
)

// socketBuffer is asked for by every contestant, so that none loses packets to a smaller one.
const socketBuffer = 4 << 20

// wire is a UDP socket on loopback with an ocean behind it. It counts what is sent, lost packets included. What it does
// not show of the connections below it (system calls for many packets) no contestant can use.
type wire struct {
	net.PacketConn // the emulated one, or the socket itself without emulation
	socket         *net.UDPConn
	wan            *testnet.DelayConn
	port           uint16
	packets, bytes atomic.Uint64
}

// openWire opens a socket. Without emulation packets pass at once.
func openWire(emulate bool, seed uint64) (*wire, error) {
	udp, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, fmt.Errorf("trunk: %w", err)
	}
	_ = udp.SetReadBuffer(socketBuffer) // the kernel gives what it allows; drops are reported
	_ = udp.SetWriteBuffer(socketBuffer)
	w := &wire{PacketConn: udp, socket: udp, port: udp.LocalAddr().(*net.UDPAddr).AddrPort().Port()}
	if emulate {
		w.wan = testnet.NewDelayConn(udp, seed)
		w.PacketConn = w.wan
	}
	return w, nil
}

// connect puts the ocean between this socket and a peer.
func (w *wire) connect(peer netip.AddrPort, l testnet.Link) error {
	if w.wan == nil {
		return nil
	}
	return w.wan.Set(peer, l)
}

// WriteTo counts and sends.
func (w *wire) WriteTo(b []byte, to net.Addr) (int, error) {
	w.packets.Add(1)
	w.bytes.Add(uint64(len(b)))
	return w.PacketConn.WriteTo(b, to)
}

// SetReadBuffer pretends: the buffer has its size already, the same for all.
func (w *wire) SetReadBuffer(int) error { return nil }

// SetWriteBuffer pretends: the buffer has its size already, the same for all.
func (w *wire) SetWriteBuffer(int) error { return nil }

// sent is what left so far.
type sent struct {
	Packets  uint64 `json:"packets"`
	Bytes    uint64 `json:"bytes"`    // UDP payload
	Lost     uint64 `json:"lost"`     // by the emulated path
	Overflow uint64 `json:"overflow"` // by its bottleneck, or by the emulator itself
}

func (w *wire) sent() sent {
	s := sent{Packets: w.packets.Load(), Bytes: w.bytes.Load()}
	if w.wan != nil {
		st := w.wan.Stats()
		s.Lost, s.Overflow = st.Lost, st.Overflow
	}
	return s
}

func (s sent) minus(o sent) sent {
	return sent{Packets: s.Packets - o.Packets, Bytes: s.Bytes - o.Bytes, Lost: s.Lost - o.Lost, Overflow: s.Overflow - o.Overflow}
}
