package testnet

import (
	"encoding/binary"
	"math"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// trip is one received packet: its number and how long it took.
type trip struct {
	n    uint32
	took time.Duration
}

// stream sends packets of size bytes every gap and returns those that arrive, in order of arrival.
func stream(t *testing.T, from net.PacketConn, to *Endpoint, packets, size int, gap time.Duration) (got []trip) {
	t.Helper()
	start := time.Now()
	go func() {
		b := make([]byte, size)
		for i := range packets {
			binary.BigEndian.PutUint32(b, uint32(i))
			_, _ = from.WriteTo(b, to.LocalAddr())
			time.Sleep(gap)
		}
	}()
	b := make([]byte, 2000)
	for {
		n, _, err := readBeforeInto(to, time.Now().Add(5*time.Second), b)
		if err != nil {
			return got
		}
		require.Equal(t, size, n)
		i := binary.BigEndian.Uint32(b)
		got = append(got, trip{i, time.Since(start.Add(time.Duration(i) * gap))})
	}
}

func readBeforeInto(e *Endpoint, t time.Time, b []byte) (int, net.Addr, error) {
	_ = e.SetReadDeadline(t)
	return e.ReadFrom(b)
}

// Configured against measured, in virtual time, for both doors: a Switch is exact, a DelayConn late by up to a tick.
func TestAccuracy(t *testing.T) {
	for _, door := range []struct {
		name string
		late time.Duration
	}{{"Switch", 0}, {"DelayConn", sendTick}} {
		over := func(t *testing.T, link Link, packets, size int, gap time.Duration) (got []trip, stats Stats) {
			synctest.Test(t, func(t *testing.T) {
				s := NewSwitch(5)
				defer func() { require.NoError(t, s.Close()) }()
				a, b := listen(t, s, hostA), listen(t, s, hostB)
				if door.late == 0 {
					require.NoError(t, s.Set(hostA, hostB, link))
					got = stream(t, a, b, packets, size, gap)
					stats = s.LinkStats(hostA, hostB)
					require.Zero(t, s.LinkStats(hostB, hostA))
					return
				}
				d := NewDelayConn(a, 5)
				defer func() { require.NoError(t, d.Close()) }()
				to := netip.AddrPortFrom(hostB, 7000)
				require.NoError(t, d.Set(to, link))
				got = stream(t, d, b, packets, size, gap)
				stats = d.LinkStats(to)
			})
			return got, stats
		}
		t.Run(door.name+"/delay", func(t *testing.T) {
			got, stats := over(t, Link{Delay: 75 * time.Millisecond}, 1000, 1200, 700*time.Microsecond)
			require.Equal(t, Stats{Passed: 1000}, stats)
			for i, p := range got {
				require.EqualValues(t, i, p.n)
				require.GreaterOrEqual(t, p.took, 75*time.Millisecond)
				require.LessOrEqual(t, p.took, 75*time.Millisecond+door.late)
			}
		})
		t.Run(door.name+"/loss", func(t *testing.T) {
			const packets, loss, burst = 40_000, 0.05, 4.0
			got, stats := over(t, Link{Delay: time.Millisecond, Loss: loss, Burst: burst}, packets, 100, time.Millisecond)
			require.EqualValues(t, len(got), stats.Passed)
			require.EqualValues(t, packets, stats.Sent())
			require.EqualValues(t, packets, stats.Passed+stats.Lost)
			runs, next := 0, uint32(0)
			for _, p := range got {
				if p.n != next {
					runs++
				}
				next = p.n + 1
			}
			require.InDelta(t, loss, float64(stats.Lost)/packets, 4*math.Sqrt(loss*(1-loss)*(2*burst-1)/packets))
			require.InEpsilon(t, burst, float64(stats.Lost)/float64(runs), 0.15)
		})
		t.Run(door.name+"/rate", func(t *testing.T) {
			// 1250 bytes at 10 Mbit/s take 1 ms: offered twice what fits, the queue of 40 ms is full and stays so.
			const packets = 4000
			got, stats := over(t, Link{Delay: 10 * time.Millisecond, Rate: 10_000_000, Queue: 40 * time.Millisecond},
				packets, 1250, 500*time.Microsecond)
			require.EqualValues(t, packets, stats.Passed+stats.Overflow)
			require.InDelta(t, packets/2, float64(len(got)), 42)
			for i, p := range got {
				arrived := time.Duration(p.n)*500*time.Microsecond + p.took
				due := 10*time.Millisecond + time.Duration(i+1)*time.Millisecond
				require.GreaterOrEqual(t, arrived, due)
				require.LessOrEqual(t, arrived, due+door.late)
				require.LessOrEqual(t, p.took, 51*time.Millisecond+door.late)
			}
		})
		t.Run(door.name+"/reordering", func(t *testing.T) {
			got, stats := over(t, Link{Delay: 30 * time.Millisecond, Jitter: 20 * time.Millisecond, Reorder: true}, 2000, 100, time.Millisecond)
			require.Equal(t, Stats{Passed: 2000}, stats)
			var late int
			var sum time.Duration
			for i, p := range got {
				if i > 0 && p.n < got[i-1].n {
					late++
				}
				sum += p.took
				require.GreaterOrEqual(t, p.took, 30*time.Millisecond)
				require.LessOrEqual(t, p.took, 50*time.Millisecond+door.late)
			}
			require.Greater(t, late, 500)
			require.InDelta(t, 40, (sum/2000).Seconds()*1000, 1)
		})
	}
}

// BenchmarkDelayConnPaced sends 10,000 packets a second to each of four destinations over loopback and reports what
// the emulation costs (CPU of the process, less that of the same traffic without it) and how late packets are.
func BenchmarkDelayConnPaced(b *testing.B) {
	for _, bc := range []struct {
		name string
		link Link
	}{
		{"bare", Link{}},
		{"delay", Link{Delay: 75 * time.Millisecond}},
		{"all", Link{Delay: 75 * time.Millisecond, Jitter: 10 * time.Millisecond, Reorder: true, Loss: 0.02, Burst: 4, Rate: 200_000_000}},
	} {
		b.Run(bc.name, func(b *testing.B) { paced(b, bc.link) })
	}
}

func paced(b *testing.B, link Link) {
	const destinations = 4
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(b, err)
	d := NewDelayConn(pc, 1)
	defer func() { _ = d.Close() }()
	var addrs [destinations]net.Addr
	start := time.Now()
	var sum, packets atomic.Int64 // late by that much, together
	for i := range addrs {
		sink, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		require.NoError(b, err)
		defer func() { _ = sink.Close() }()
		_ = sink.SetReadBuffer(4 << 20)
		addrs[i] = sink.LocalAddr()
		to, _ := addrPort(addrs[i])
		require.NoError(b, d.Set(to, link))
		go func() {
			buf := make([]byte, 2000)
			for {
				if _, _, err := sink.ReadFromUDPAddrPort(buf); err != nil {
					return
				}
				sum.Add(int64(time.Since(start)) - int64(binary.BigEndian.Uint64(buf)) - int64(link.Delay+link.Jitter/2))
				packets.Add(1)
			}
		}()
	}
	payload := make([]byte, 1200)
	before := cpu()
	for n := 0; b.Loop(); {
		for range destinations {
			for range 10 { // of one millisecond
				binary.BigEndian.PutUint64(payload, uint64(time.Since(start)))
				_, _ = d.WriteTo(payload, addrs[n%destinations])
				n++
			}
		}
		time.Sleep(time.Until(start.Add(time.Duration(n/destinations/10) * time.Millisecond)))
	}
	b.ReportMetric(float64((cpu()-before).Microseconds())/float64(b.N*destinations*10), "cpu-µs/packet")
	b.ReportMetric(float64(sum.Load())/1000/float64(max(packets.Load(), 1)), "µs-late")
	b.ReportMetric(0, "ns/op")
}

func cpu() time.Duration {
	var r syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
