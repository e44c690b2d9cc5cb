package testnet

import (
	"encoding/binary"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// A DelayConn over an Endpoint runs on the bubble's clock.
func TestDelayConn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewSwitch(1)
		defer func() { require.NoError(t, s.Close()) }()
		a, b, c := listen(t, s, hostA), listen(t, s, hostB), listen(t, s, hostC)
		d := NewDelayConn(a, 1)
		defer func() { require.NoError(t, d.Close()) }()
		toB := netip.AddrPortFrom(netip.AddrFrom16(hostB.As16()), 7000) // IPv4-mapped is the same destination
		require.NoError(t, d.Set(toB, Link{Delay: 40 * time.Millisecond}))
		require.Error(t, d.Set(toB, Link{Loss: 2}))

		write := func(to *Endpoint, n uint32) {
			_, err := d.WriteTo(binary.BigEndian.AppendUint32(nil, n), to.LocalAddr())
			require.NoError(t, err)
		}
		start := time.Now()
		write(b, 1)
		write(c, 2) // no setting: at once
		require.Equal(t, []uint32{2}, receive(t, c, 0+time.Millisecond))
		_, _, err := readBefore(b, start.Add(time.Second))
		require.NoError(t, err)
		require.GreaterOrEqual(t, time.Since(start), 40*time.Millisecond)
		require.LessOrEqual(t, time.Since(start), 41*time.Millisecond)

		write(b, 3)
		require.NoError(t, d.Set(toB, Link{}))
		write(b, 4) // must not overtake
		require.Equal(t, []uint32{3, 4}, receive(t, b, 50*time.Millisecond))

		d.Block(toB)
		write(b, 5)
		require.Empty(t, receive(t, b, 50*time.Millisecond))
		d.Unblock(toB)
		write(b, 6)
		require.Equal(t, []uint32{6}, receive(t, b, time.Millisecond))

		require.NoError(t, d.Set(toB, Link{Loss: 1}))
		write(b, 7)
		require.Equal(t, Stats{Passed: 5, Blocked: 1, Lost: 1}, d.Stats())
	})
}

func readBefore(e *Endpoint, t time.Time) (int, net.Addr, error) {
	_ = e.SetReadDeadline(t)
	return e.ReadFrom(make([]byte, 1500))
}

func TestDelayConnIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewSwitch(1)
		defer func() { require.NoError(t, s.Close()) }()
		a, b := listen(t, s, hostA), listen(t, s, hostB)
		d := NewDelayConn(a, 1)
		require.NoError(t, d.Set(netip.AddrPortFrom(hostB, 7000), Link{Delay: time.Hour}))
		for range MaxInFlight + 5 {
			_, err := d.WriteTo([]byte{1}, b.LocalAddr())
			require.NoError(t, err)
		}
		require.EqualValues(t, 5, d.Stats().Overflow)
		require.NoError(t, d.Close())
		require.NoError(t, d.Close())
		_, err := d.WriteTo([]byte{1}, b.LocalAddr())
		require.ErrorIs(t, err, net.ErrClosed)
	})
}

func TestDelayConnBuffers(t *testing.T) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	d := NewDelayConn(pc, 1)
	require.NoError(t, d.SetReadBuffer(1<<16))
	require.NoError(t, d.SetWriteBuffer(1<<16))
	require.NoError(t, d.Close())
	bare := NewDelayConn(struct{ net.PacketConn }{pc}, 1)
	require.Error(t, bare.SetReadBuffer(1))
	require.Error(t, bare.SetWriteBuffer(1))
	_ = bare.Close() // pc is closed already
}

func BenchmarkDelayConn(b *testing.B) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(b, err)
	d := NewDelayConn(pc, 1)
	defer func() { _ = d.Close() }()
	dst := netip.MustParseAddrPort("127.0.0.1:9")
	require.NoError(b, d.Set(dst, Link{Delay: time.Millisecond}))
	addr, payload := net.UDPAddrFromAddrPort(dst), make([]byte, 1200)
	b.ReportAllocs()
	for b.Loop() {
		_, _ = d.WriteTo(payload, addr)
	}
}

// A black hole swallows what is in flight too, and one destination only.
func TestDelayConnBlackHole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewSwitch(1)
		defer func() { require.NoError(t, s.Close()) }()
		a, b, c := listen(t, s, hostA), listen(t, s, hostB), listen(t, s, hostC)
		d := NewDelayConn(a, 1)
		defer func() { require.NoError(t, d.Close()) }()
		toB, toC := netip.AddrPortFrom(hostB, 7000), netip.AddrPortFrom(hostC, 7000)
		require.NoError(t, d.Set(toB, Link{Delay: 40 * time.Millisecond}))
		write := func(to *Endpoint, n uint32) {
			_, err := d.WriteTo(binary.BigEndian.AppendUint32(nil, n), to.LocalAddr())
			require.NoError(t, err)
		}
		write(b, 1)
		d.Block(toB)
		d.Unblock(toC) // was not blocked
		write(b, 2)
		write(c, 3)
		require.Empty(t, receive(t, b, time.Second))
		require.Equal(t, []uint32{3}, receive(t, c, time.Millisecond))
		require.Equal(t, Stats{Blocked: 2}, d.LinkStats(toB))
		require.Zero(t, d.LinkStats(toC), "no setting")
		d.Block(toC)
		d.Heal()
		write(b, 4)
		write(c, 5)
		require.Equal(t, []uint32{4}, receive(t, b, time.Second))
		require.Equal(t, []uint32{5}, receive(t, c, time.Second))
		require.Equal(t, Stats{Passed: 3, Blocked: 2}, d.Stats())
	})
}
