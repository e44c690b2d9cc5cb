package meshnet

import (
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/internal/testnet"
)

// BenchmarkOcean offers 18.4 Mbit/s over 150 ms RTT and 0.1 % loss for five seconds, directly and in QUIC datagrams,
// and reports the share that arrived: QUIC's congestion control takes the loss for congestion, direct media does not.
func BenchmarkOcean(b *testing.B) {
	for _, direct := range []bool{true, false} {
		name := "datagram"
		if direct {
			name = "direct"
		}
		b.Run(name, func(b *testing.B) {
			var pcs [2]*testnet.DelayConn
			for i := range pcs {
				pc, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
				require.NoError(b, err)
				pcs[i] = testnet.NewDelayConn(pc, uint64(i))
			}
			for i, pc := range pcs {
				require.NoError(b, pc.Set(addrPort(pcs[1-i].LocalAddr()), testnet.Link{Delay: 75 * time.Millisecond, Loss: 0.001}))
			}
			x, y := pairOf(b, testConfig(), testConfig(), pcs[0], pcs[1])
			dx, dy := directOf(b, x, y)
			var n, sent atomic.Int64
			send, receive := x.SendDatagram, y.ReceiveDatagram
			if direct {
				send, receive = dx.Send, dy.Receive
			}
			go count(&n, receive)
			b.ResetTimer()
			for range b.N {
				queue := make(chan []byte, 64) // of a sender that drops rather than waits
				go func() {
					for p := range queue {
						_ = send(p)
					}
				}()
				packet := make([]byte, 1150)
				for began, due := time.Now(), 0; time.Since(began) < 5*time.Second; time.Sleep(time.Millisecond) {
					for ; due < int(time.Since(began)/(500*time.Microsecond)); due++ {
						sent.Add(1)
						select {
						case queue <- packet:
						default:
						}
					}
				}
				close(queue)
				time.Sleep(300 * time.Millisecond)
			}
			b.ReportMetric(float64(n.Load())/float64(sent.Load()), "arrived/offered")
		})
	}
}
