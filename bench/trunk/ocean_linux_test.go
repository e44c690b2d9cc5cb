package trunk

import (
	"math"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// crossing is an ocean with a socket at each end; the test makes its passes.
type crossing struct {
	*ocean
	t        *testing.T
	from, to *net.UDPConn
	clock    clock
}

func newCrossing(t *testing.T, c Cell) *crossing {
	t.Helper()
	c.Rate = 2e6
	o, err := newOcean(&job{Cell: c, Emulate: true, Seed: 1}, nil)
	require.NoError(t, err)
	t.Cleanup(o.close)
	x := &crossing{ocean: o, t: t}
	for _, end := range []**net.UDPConn{&x.from, &x.to} {
		*end, err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		require.NoError(t, err)
		t.Cleanup(func() { _ = (*end).Close() })
		require.NoError(t, (*end).SetReadBuffer(4<<20))
	}
	o.sides[there].peer, o.sides[back].peer = local(x.from), local(x.to)
	x.clock, err = newClock()
	require.NoError(t, err)
	return x
}

func local(c *net.UDPConn) netip.AddrPort { return c.LocalAddr().(*net.UDPAddr).AddrPort() }

// send sends a datagram into the ocean.
func (x *crossing) send(b []byte) {
	_, err := x.from.WriteToUDPAddrPort(b, x.sides[there].addr)
	require.NoError(x.t, err)
}

// arrived is how many datagrams wait at the far end.
func (x *crossing) arrived() (n int) {
	b := make([]byte, 2048)
	raw, err := x.to.SyscallConn()
	require.NoError(x.t, err)
	require.NoError(x.t, raw.Control(func(fd uintptr) {
		for {
			if _, _, err := unix.Recvfrom(int(fd), b, unix.MSG_DONTWAIT); err != nil {
				return
			}
			n++
		}
	}))
	return n
}

// Delay counts from when the kernel took a datagram in, however late the pass was.
func TestOceanDelays(t *testing.T) {
	const delay = int64(75 * time.Millisecond)
	x := newCrossing(t, Cell{RTT: 2 * time.Duration(delay)})
	before := x.clock.now()
	x.send(make([]byte, 1200))
	after := x.clock.now()
	x.pass(before) // takes it in
	require.Equal(t, 1, x.line.Len())
	x.pass(before + delay - int64(time.Millisecond))
	require.Zero(t, x.arrived())
	x.pass(after + delay + int64(time.Millisecond))
	require.Equal(t, 1, x.arrived())
	require.Less(t, x.late, 3*time.Millisecond+time.Duration(after-before))
	require.Equal(t, sent{Packets: 1, Bytes: 1200}, x.sent[there])
	require.Zero(t, x.sent[back])
}

func TestOceanLoses(t *testing.T) {
	const packets, loss, burst = 20_000, 0.05, 4.0
	x := newCrossing(t, Cell{Loss: loss, Burst: burst})
	arrived, runs, lost := 0, 0, false
	for range packets {
		was := x.sent[there].Lost
		x.send(make([]byte, 100))
		x.pass(x.clock.now() + int64(time.Second))
		now := x.sent[there].Lost > was
		if now && !lost {
			runs++
		}
		lost = now
		arrived += x.arrived()
	}
	s := x.sent[there]
	require.EqualValues(t, packets, s.Packets)
	require.EqualValues(t, packets, uint64(arrived)+s.Lost)
	require.InDelta(t, loss, float64(s.Lost)/packets, 4*math.Sqrt(loss*(1-loss)*(2*burst-1)/packets))
	require.InEpsilon(t, burst, float64(s.Lost)/float64(runs), 0.15)
}

// 1250 bytes take a millisecond at 10 Mbit/s: at once 100 ms of them wait, and the rest finds the queue full.
func TestOceanIsNarrow(t *testing.T) {
	x := newCrossing(t, Cell{Bottleneck: 10e6})
	start := x.clock.now()
	for range 200 {
		x.send(make([]byte, 1250))
	}
	took := x.clock.now() - start
	x.pass(start)
	s := x.sent[there]
	require.EqualValues(t, 200, s.Packets)
	require.InDelta(t, 99, s.Overflow, 2+float64(took)/1e6)
	x.pass(start + int64(49500*time.Microsecond))
	require.LessOrEqual(t, x.arrived(), 49)
	x.pass(start + took + int64(101500*time.Microsecond))
	require.Zero(t, x.line.Len())
}

// Segments of one message (UDP GSO) are datagrams each for itself.
func TestOceanSeesDatagrams(t *testing.T) {
	x := newCrossing(t, Cell{})
	raw, err := x.from.SyscallConn()
	require.NoError(t, err)
	require.NoError(t, raw.Control(func(fd uintptr) {
		if os.NewSyscallError("setsockopt", unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_SEGMENT, 1000)) != nil {
			t.Skip("no UDP GSO here")
		}
	}))
	x.send(make([]byte, 10_500))
	x.pass(x.clock.now() + int64(time.Second))
	require.Equal(t, sent{Packets: 11, Bytes: 10_500}, x.sent[there])
	require.Equal(t, 11, x.arrived())
}

// What is counted is what was sent between the marks, and a stranger's datagrams go nowhere.
func TestOceanMarks(t *testing.T) {
	x := newCrossing(t, Cell{})
	w := &wire{UDPConn: x.from}
	require.NoError(t, w.connect(x.sides[there].addr))
	defer func() { _ = w.mark.Close() }()
	now := x.clock.now() + int64(time.Second)
	x.send(make([]byte, 10))
	w.say(markBegin)
	x.send(make([]byte, 20))
	_, err := w.mark.Write([]byte("who are you"))
	require.NoError(t, err)
	x.send(make([]byte, 30))
	x.pass(now)
	require.False(t, x.complete())
	w.say(markEnd)
	x.send(make([]byte, 40))
	x.sides[back], x.shapers[back] = nil, nil // nobody there
	x.sides[there].receive(func(p *parcel, from netip.AddrPort, came int64) { x.take(there, p, from, came) })
	require.True(t, x.complete())
	r := x.report(usage{})
	require.False(t, r.Ocean.Missed)
	require.Equal(t, sent{Packets: 2, Bytes: 50}, r.Ocean.Sent[there])
	require.Equal(t, 3, x.arrived())
}

func TestWatchdog(t *testing.T) {
	w, err := newWatchdog()
	require.NoError(t, err)
	w.close()
	w.stalls = nil
	for i := range int64(watchKeep) + 10 {
		w.note(stall{i * 1e9, i*1e9 + 5e6})
	}
	w.note(stall{100e9, 100e9 + 12e6})
	w.note(stall{101e9, 101e9 + 30e6})
	require.Len(t, w.stalls, watchKeep)
	longest, sum := w.stood(99e9, 102e9)
	require.Equal(t, 30*time.Millisecond, longest)
	require.Equal(t, 42*time.Millisecond, sum, "of those longer than 10 ms")
	longest, sum = w.stood(200e9+6e6, 200e9+7e6)
	require.Zero(t, longest)
	require.Zero(t, sum)
}

// Every packet has a beat at its place on the grid or after it, however late the ocean's passes are.
func TestOceanBeats(t *testing.T) {
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer func() { _, _ = r.Close(), w.Close() }()
	o, err := newOcean(&job{Cell: Cell{Rate: 20e6}, Seed: 1}, w)
	require.NoError(t, err)
	load, b := newWorkload(20e6, 1), make([]byte, 8)
	for pass := int64(0); pass < int64(time.Second); pass += int64(grid) {
		o.beat(pass + pass/7%400_000) // late
		beaten := load.peek() <= time.Duration(pass)
		for load.peek() <= time.Duration(pass) {
			load.take()
		}
		require.Equal(t, load.peek(), o.load.peek(), "the sender sends the same")
		if beaten {
			n, err := r.Read(b)
			require.NoError(t, err)
			require.Equal(t, 1, n)
		}
	}
}
