package wan

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/meridian-sfu/meridian/internal/testnet"
)

const headers = 28 // bytes of IPv4 and UDP, which a Link counts here

// trip is one received packet.
type trip struct {
	n    uint32
	took time.Duration
	at   time.Time // of arrival at the socket
}

// meter sends packets from one host to another and takes the kernel's word for when they arrive: a reader that has to
// wait for its turn would measure the machine, not the network.
type meter struct {
	net      *Net
	from, to string
	out, in  *net.UDPConn
}

func newMeter(t testing.TB, n *Net, from, to string) *meter {
	t.Helper()
	m := &meter{net: n, from: from, to: to}
	for _, end := range []struct {
		host string
		conn **net.UDPConn
	}{{from, &m.out}, {to, &m.in}} {
		c, err := n.Host(end.host).ListenUDP(0)
		require.NoError(t, err)
		t.Cleanup(func() { _ = c.Close() })
		*end.conn = c
	}
	_ = m.in.SetReadBuffer(4 << 20)
	raw, err := m.in.SyscallConn()
	require.NoError(t, err)
	var opt error
	require.NoError(t, raw.Control(func(fd uintptr) { opt = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1) }))
	require.NoError(t, opt)
	return m
}

// run sends that many packets of size bytes (with headers) and returns those that arrive, and what the router counted.
func (m *meter) run(packets, perSecond, size int) (got []trip, counted testnet.Stats) {
	before := m.net.Stats(m.from, m.to)
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		b := make([]byte, size-headers)
		start := time.Now()
		for i := range packets {
			wait := time.Until(start.Add(time.Duration(i) * time.Second / time.Duration(perSecond)))
			if wait > time.Millisecond || perSecond <= 1000 { // otherwise in groups of a millisecond
				time.Sleep(wait)
			}
			binary.BigEndian.PutUint32(b, uint32(i))
			binary.BigEndian.PutUint64(b[4:], uint64(time.Now().UnixNano()))
			_, _ = m.out.WriteTo(b, m.in.LocalAddr())
		}
	}()
	b, oob := make([]byte, 2000), make([]byte, 64)
	for quiet := 0; quiet < 40; {
		_ = m.in.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		_, _, _, _, err := m.in.ReadMsgUDPAddrPort(b, oob)
		if err == nil {
			// One control message: 16 bytes of header, then a timespec (socket(7), SO_TIMESTAMPNS).
			at := time.Unix(int64(binary.NativeEndian.Uint64(oob[16:])), int64(binary.NativeEndian.Uint64(oob[24:])))
			got = append(got, trip{binary.BigEndian.Uint32(b), at.Sub(time.Unix(0, int64(binary.BigEndian.Uint64(b[4:])))), at})
			quiet = 0
			continue
		}
		select {
		case <-sent:
			quiet++
			now := m.net.Stats(m.from, m.to)
			if now.Sent()-before.Sent() == uint64(packets) && now.Passed-before.Passed == uint64(len(got)) {
				quiet = 40
			}
		default:
		}
	}
	now := m.net.Stats(m.from, m.to)
	return got, testnet.Stats{
		Passed: now.Passed - before.Passed, Lost: now.Lost - before.Lost, Overflow: now.Overflow - before.Overflow,
		Blocked: now.Blocked - before.Blocked, Unreachable: now.Unreachable - before.Unreachable,
	}
}

// runsOf counts what is missing of so many packets, and in how many runs.
func runsOf(got []trip, packets int) (lost, runs int) {
	came := make([]bool, packets)
	for _, p := range got {
		came[p.n] = true
	}
	for i, here := range came {
		if here {
			continue
		}
		lost++
		if i == 0 || came[i-1] {
			runs++
		}
	}
	return lost, runs
}

// attempts lets a measurement fail twice: other work on the machine may hold up the sender, which no bound excuses.
func attempts(t *testing.T, measure func() error) {
	t.Helper()
	var err error
	for range 3 {
		if err = measure(); err == nil {
			return
		}
		t.Log(err)
	}
	t.Fatal(err)
}

func within(what string, got, low, high time.Duration) error {
	if got < low || got > high {
		return fmt.Errorf("%s is %v, want %v to %v", what, got, low, high)
	}
	return nil
}

func quantile(trips []trip, q float64) time.Duration {
	if len(trips) == 0 {
		return 0
	}
	took := make([]time.Duration, len(trips))
	for i, p := range trips {
		took[i] = p.took
	}
	slices.Sort(took)
	return took[int(q*float64(len(took)-1))]
}

// Configured against measured, by real sockets in real time. The bounds are wide enough for a busy machine; what it
// is when it is not, the benchmark tells.
func TestAccuracy(t *testing.T) {
	const ms = time.Millisecond
	links := map[string]testnet.Link{
		"delay":   {Delay: 75 * ms},
		"reorder": {Delay: 40 * ms, Jitter: 20 * ms, Reorder: true},
		"loss":    {Loss: 0.02},
		"bursts":  {Loss: 0.05, Burst: 4},
		"rate":    {Rate: 10_000_000, Queue: 50 * ms},
		"tcp":     {Delay: 5 * ms, Rate: 20_000_000, Queue: 50 * ms},
	}
	topology := Topology{Hosts: []string{"from"}, Seed: 1}
	for _, name := range slices.Sorted(maps.Keys(links)) {
		topology.Hosts = append(topology.Hosts, name)
		topology.Links = append(topology.Links, Pair{A: "from", B: name, There: links[name]})
	}
	n := up(t, topology)
	t.Run("delay", func(t *testing.T) {
		m, back := newMeter(t, n, "from", "delay"), newMeter(t, n, "delay", "from")
		attempts(t, func() error {
			require.NoError(t, n.Set("from", "delay", testnet.Link{Delay: 75 * ms}))
			got, _ := m.run(500, 500, 1228)
			require.Len(t, got, 500)
			t.Logf("configured 75 ms: least %v, median %v, p99 %v", quantile(got, 0), quantile(got, 0.5), quantile(got, 0.99))
			there := errors.Join(within("least delay", quantile(got, 0), 75*ms, 80*ms), within("median delay", quantile(got, 0.5), 75*ms, 80*ms))
			got, _ = back.run(200, 500, 1228)
			here := within("median delay of the other direction", quantile(got, 0.5), 0, 5*ms)
			require.NoError(t, n.Set("from", "delay", testnet.Link{Delay: 150 * ms}))
			got, _ = m.run(200, 500, 1228)
			return errors.Join(there, here, within("median delay after the change", quantile(got, 0.5), 150*ms, 155*ms))
		})
	})
	t.Run("reorder", func(t *testing.T) {
		m := newMeter(t, n, "from", "reorder")
		attempts(t, func() error {
			got, _ := m.run(1000, 1000, 200)
			require.Len(t, got, 1000)
			var late int
			for i := 1; i < len(got); i++ {
				if got[i].n < got[i-1].n {
					late++
				}
			}
			t.Logf("configured 40 to 60 ms: median %v, %d of 1000 overtaken", quantile(got, 0.5), late)
			require.Greater(t, late, 100)
			return errors.Join(within("least delay", quantile(got, 0), 40*ms, 45*ms), within("median delay", quantile(got, 0.5), 48*ms, 56*ms))
		})
	})
	for name, burst := range map[string]float64{"loss": 1, "bursts": 4} {
		t.Run(name, func(t *testing.T) {
			const packets = 10_000
			got, counted := newMeter(t, n, "from", name).run(packets, 5000, 100)
			want, share := links[name].Loss, 1-float64(len(got))/packets
			t.Logf("configured %.2f %%: measured %.2f %%", want*100, share*100)
			require.EqualValues(t, packets, counted.Passed+counted.Lost)
			require.EqualValues(t, len(got), counted.Passed, "none is lost that the router does not know of")
			require.InDelta(t, want, share, 4*math.Sqrt(want*(1-want)*(2*burst-1)/packets))
			lost, runs := runsOf(got, packets)
			run := float64(lost) / float64(runs)
			mean := max(burst, 1/(1-want)) // of those lost each for itself some follow one another
			t.Logf("%d losses in %d runs: %.2f in a row, configured %.2f", lost, runs, run, mean)
			require.InDelta(t, mean, run, 4*math.Sqrt(mean*(mean-1)/float64(runs)))
		})
	}
	t.Run("rate", func(t *testing.T) {
		m := newMeter(t, n, "from", "rate")
		attempts(t, func() error {
			got, counted := m.run(3000, 2000, 1250) // 20 Mbit/s offered
			require.EqualValues(t, 3000, counted.Passed+counted.Overflow)
			rate := float64(len(got)-1) * 1250 * 8 / got[len(got)-1].at.Sub(got[0].at).Seconds()
			t.Logf("configured 10 Mbit/s: measured %.2f Mbit/s; queue 50 ms: median delay %v", rate/1e6, quantile(got, 0.5))
			err := within("delay behind a full queue", quantile(got, 0.9), 45*ms, 60*ms)
			if math.Abs(rate/10e6-1) > 0.1 {
				err = fmt.Errorf("rate is %.0f, want 10 Mbit/s", rate)
			}
			return err
		})
	})
	t.Run("tcp", func(t *testing.T) {
		attempts(t, func() error {
			rate, want := tcpRate(t, n, "from", "tcp", 3_000_000), 20e6*1448/1500
			t.Logf("configured 20 Mbit/s of packets: %.2f Mbit/s of content", rate/1e6)
			if math.Abs(rate/want-1) > 0.1 {
				return fmt.Errorf("TCP reached %.0f, want %.0f bit/s", rate, want)
			}
			return nil
		})
	})
}

// tcpRate returns the goodput of one TCP connection that sends that many bytes.
func tcpRate(t *testing.T, n *Net, from, to string, bytes int) float64 {
	t.Helper()
	ln, err := n.Host(to).ListenTCP(0)
	require.NoError(t, err)
	defer func() { _ = ln.Close() }()
	go func() {
		c, err := n.Host(from).DialContext(t.Context(), "tcp", ln.Addr().String())
		if err == nil {
			_, _ = c.Write(make([]byte, bytes))
			_ = c.Close()
		}
	}()
	c, err := ln.Accept()
	require.NoError(t, err)
	defer func() { _ = c.Close() }()
	_, err = io.ReadFull(c, make([]byte, bytes/3)) // past slow start
	require.NoError(t, err)
	start := time.Now()
	rest, err := io.Copy(io.Discard, c)
	require.NoError(t, err)
	return float64(rest) * 8 / time.Since(start).Seconds()
}

// BenchmarkRouter prints what a packet costs the router's thread (with the kernel's part of both directions and the
// receiving stack) and how late it is, at several rates. One iteration is a packet of 1228 bytes.
func BenchmarkRouter(b *testing.B) {
	for _, perSecond := range []int{100, 1000, 5000, 10_000, 30_000} {
		b.Run(fmt.Sprintf("%d packets per s", perSecond), func(b *testing.B) {
			const delay = 40 * time.Millisecond
			n := up(b, Topology{Hosts: []string{"a", "b"}, Default: testnet.Link{Delay: delay}})
			m := newMeter(b, n, "a", "b")
			_, _ = m.run(100, 1000, 100) // until the first figure of CPU is there
			before := n.CPU()
			b.ResetTimer()
			start := time.Now()
			got, _ := m.run(b.N, perSecond, 1228)
			elapsed := time.Since(start)
			used := n.CPU() - before
			b.ReportMetric(used.Seconds()*1e6/float64(b.N), "cpu-µs/packet")
			b.ReportMetric(used.Seconds()/elapsed.Seconds()*100, "%core")
			b.ReportMetric((quantile(got, 0.5)-delay).Seconds()*1000, "p50-ms-late")
			b.ReportMetric((quantile(got, 0.99)-delay).Seconds()*1000, "p99-ms-late")
			b.ReportMetric(float64(b.N-len(got)), "lost")
			b.ReportMetric(float64(b.N)/elapsed.Seconds(), "packets/s")
			b.ReportMetric(0, "ns/op")
		})
	}
}
