package trunk

import (
	"context"
	"net/netip"
	"sync"
)

// udpSending sends every packet as a datagram.
type udpSending struct {
	wire  *wire
	peer  netip.AddrPort
	count counters
}

func newUDPSending(w *wire, peer netip.AddrPort) *udpSending {
	return &udpSending{wire: w, peer: peer}
}

func (s *udpSending) ready(context.Context) error { return nil }

func (s *udpSending) send(_ *event, raw []byte) {
	if _, err := s.wire.WriteToUDPAddrPort(raw, s.peer); err == nil {
		s.count.Packets++
		s.count.Bytes += uint64(len(raw))
	}
}

func (s *udpSending) counters() counters { return s.count }
func (s *udpSending) close()             { _ = s.wire.Close() }

type udpReceiving struct {
	wire *wire
	wg   sync.WaitGroup
}

func newUDPReceiving(w *wire, m *meter, c clock) *udpReceiving {
	r := &udpReceiving{wire: w}
	r.wg.Go(func() {
		b := make([]byte, 2048)
		for {
			n, _, err := w.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			m.packet(b[:n], c.now())
		}
	})
	return r
}

func (r *udpReceiving) ready(context.Context) error { return nil }
func (r *udpReceiving) counters() counters          { return counters{} }

func (r *udpReceiving) close() {
	_ = r.wire.Close()
	r.wg.Wait()
}
