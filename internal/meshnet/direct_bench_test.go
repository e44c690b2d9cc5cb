package meshnet

import (
	"context"
	"fmt"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// carriage sends bursts and tells of each datagram that arrived.
type carriage struct {
	burst   func(bs [][]byte) error
	arrived *atomic.Int64
}

// BenchmarkDirect and BenchmarkDatagram carry bursts of ten over loopback, both nodes in this process: paced, ten a
// millisecond, and flat out with at most 512 on the way. They report the processor time of both sides together with
// the kernel's, and how many packets a second arrived.
func BenchmarkDirect(b *testing.B) {
	benchCarriage(b, func(x, y *Conn) carriage {
		dx, err := x.Direct()
		require.NoError(b, err)
		dy, err := y.Direct()
		require.NoError(b, err)
		var n atomic.Int64
		dy.Handle(Handler{Each: func([]byte, time.Time) { n.Add(1) }})
		return carriage{burst: dx.SendBatch, arrived: &n}
	})
}

// BenchmarkDirectSend is BenchmarkDirect with Send, which leaves it to the scheduler when a batch leaves.
func BenchmarkDirectSend(b *testing.B) {
	benchCarriage(b, func(x, y *Conn) carriage {
		dx, err := x.Direct()
		require.NoError(b, err)
		dy, err := y.Direct()
		require.NoError(b, err)
		var n atomic.Int64
		dy.Handle(Handler{Each: func([]byte, time.Time) { n.Add(1) }})
		return carriage{arrived: &n, burst: func(bs [][]byte) error {
			for _, p := range bs {
				if err := dx.Send(p); err != nil {
					return err
				}
			}
			return nil
		}}
	})
}

// BenchmarkDirectReceive is BenchmarkDirect with Receive, which copies, in place of Handle.
func BenchmarkDirectReceive(b *testing.B) {
	benchCarriage(b, func(x, y *Conn) carriage {
		dx, err := x.Direct()
		require.NoError(b, err)
		dy, err := y.Direct()
		require.NoError(b, err)
		var n atomic.Int64
		go count(&n, dy.Receive)
		return carriage{burst: dx.SendBatch, arrived: &n}
	})
}

// BenchmarkDatagram carries the same in QUIC datagrams.
func BenchmarkDatagram(b *testing.B) {
	benchCarriage(b, func(x, y *Conn) carriage {
		var n atomic.Int64
		go count(&n, y.ReceiveDatagram)
		return carriage{arrived: &n, burst: func(bs [][]byte) error {
			for _, p := range bs {
				if err := x.SendDatagram(p); err != nil {
					return err
				}
			}
			return nil
		}}
	})
}

// BenchmarkPace is what the pace of the others costs by itself, as if it were of ten packets.
func BenchmarkPace(b *testing.B) {
	before := processorTime(b)
	for b.Loop() {
		time.Sleep(time.Millisecond)
	}
	b.ReportMetric(float64((processorTime(b)-before).Nanoseconds())/1000/float64(10*b.N), "cpu-µs/packet")
}

func count(n *atomic.Int64, receive func(context.Context) ([]byte, error)) {
	for {
		if _, err := receive(context.Background()); err != nil {
			return
		}
		n.Add(1)
	}
}

func benchCarriage(b *testing.B, open func(x, y *Conn) carriage) {
	for _, size := range []int{1150, 200} {
		for _, paced := range []bool{true, false} {
			b.Run(fmt.Sprintf("bytes=%d/paced=%t", size, paced), func(b *testing.B) {
				x, y := testPair(b)
				c := open(x, y)
				bs := make([][]byte, 10)
				for i := range bs {
					bs[i] = make([]byte, size)
				}
				b.ReportAllocs()
				before, began := processorTime(b), time.Now()
				sent := int64(0)
				for b.Loop() {
					require.NoError(b, c.burst(bs))
					sent += int64(len(bs))
					if paced {
						time.Sleep(time.Millisecond)
					}
					for waited := 0; sent-c.arrived.Load() > 512 && waited < 100; waited++ {
						time.Sleep(20 * time.Microsecond)
						if waited == 99 {
							sent = c.arrived.Load() + int64(len(bs)) // the rest is lost: start over
						}
					}
				}
				spent, took := processorTime(b)-before, time.Since(began)
				n := float64(c.arrived.Load())
				b.ReportMetric(float64(spent.Nanoseconds())/1000/n, "cpu-µs/packet")
				b.ReportMetric(n/took.Seconds(), "packets/s")
				b.ReportMetric(n/float64(10*b.N), "arrived/sent")
			})
		}
	}
}

func processorTime(t testing.TB) time.Duration {
	t.Helper()
	var u syscall.Rusage
	require.NoError(t, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
