package cascade

import (
	"fmt"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/internal/meshnet"
	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

// trunk is a link between two nodes of this process over loopback, with one camera on it.
type trunk struct {
	from, to *realNode
	cam      *camera
	n        int
	lost     int // given up
	got      atomicSink
}

// newTrunk opens a link that carries media directly or in QUIC DATAGRAMs.
func newTrunk(t testing.TB, direct bool) *trunk {
	t.Helper()
	m := newRealMesh(t)
	carriage := func(c *meshnet.Config) { c.Direct = direct }
	x := &trunk{from: m.start(t, "a", nil, carriage), to: m.start(t, "b", nil, carriage), cam: newCamera("TR_1", false, 1)}
	x.cam.size = 1150
	x.from.mu.Lock()
	x.from.headlong = true // a busy machine's queues are no path's
	x.from.mu.Unlock()
	x.from.src.Store(x.cam.Source)
	r := x.to.Remote(room, x.cam.mesh(), "a")
	t.Cleanup(r.Close)
	r.Media().Subscribe(&x.got).SetDemand(all(0))
	require.Eventually(t, func() bool {
		l := x.from.Links()
		return x.cam.Subscribers() == 1 && len(l) == 1 && l[0].Up && l[0].Lanes > 0
	}, 30*time.Second, time.Millisecond)
	return x
}

// frame writes ten packets, the last with a marker.
func (x *trunk) frame() {
	for i := range 10 {
		p := x.cam.pool.Get()
		b := p.Buffer()[:x.cam.size]
		seq := uint16(x.n)
		x.n++
		b[0], b[1], b[2], b[3] = 0x80, 96, byte(seq>>8), byte(seq)
		if i == 9 {
			b[1] |= 0x80
		}
		ts := uint32(x.n/10) * 3000
		b[4], b[5], b[6], b[7] = byte(ts>>24), byte(ts>>16), byte(ts>>8), byte(ts)
		if p.Parse(len(b)) != nil {
			panic("not RTP")
		}
		x.cam.Stream(0).Write(p)
		p.Release()
	}
}

// settle waits until at most so many packets are on the way. What has not come after a while, on a machine that stalls, is
// waited for once only.
func (x *trunk) settle(onTheWay int) {
	for waited := 0; x.n-x.lost-int(x.got.n.Load()) > onTheWay; waited++ {
		if waited == 1000 {
			x.lost = x.n - int(x.got.n.Load())
			return
		}
		time.Sleep(20 * time.Microsecond)
	}
}

// BenchmarkTrunk carries frames of ten packets of 1150 bytes between two nodes of one process over loopback, one frame
// a millisecond (92 Mbit/s) and flat out with at most 512 packets on the way. It reports the processor time of both
// sides with the kernel's, and how often a thread gave up the processor. BenchmarkPace in internal/meshnet is what the
// pace costs by itself; BenchmarkDirect there the same without a cascade.
func BenchmarkTrunk(b *testing.B) {
	for _, direct := range []bool{true, false} {
		for _, paced := range []bool{true, false} {
			b.Run(fmt.Sprintf("direct=%t/paced=%t", direct, paced), func(b *testing.B) {
				x := newTrunk(b, direct)
				for range 500 {
					x.frame()
					x.settle(100)
				}
				x.settle(0)
				sent, got := x.n, x.got.n.Load()
				b.ReportAllocs()
				before := processor(b)
				for b.Loop() {
					x.frame()
					if paced {
						time.Sleep(time.Millisecond)
					} else {
						x.settle(512)
					}
				}
				x.settle(0)
				used := processor(b)
				n := float64(x.n - sent)
				b.ReportMetric(float64((used.time-before.time).Nanoseconds())/1000/n, "cpu-µs/packet")
				b.ReportMetric(float64(used.switches-before.switches)/n, "switches/packet")
				b.ReportMetric(float64(x.got.n.Load()-got)/n, "arrived/sent")
			})
		}
	}
}

// processorUse is what a process has used so far.
type processorUse struct {
	time     time.Duration // user and system
	switches int64         // voluntary
}

func processor(t testing.TB) processorUse {
	t.Helper()
	var u syscall.Rusage
	require.NoError(t, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return processorUse{time.Duration(u.Utime.Nano() + u.Stime.Nano()), u.Nvcsw}
}

type atomicSink struct{ n atomic.Uint64 }

func (s *atomicSink) WritePacket(*rtpstream.Packet) { s.n.Add(1) }
