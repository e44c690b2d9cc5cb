package testnet

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

var (
	hostA = netip.MustParseAddr("10.0.0.1")
	hostB = netip.MustParseAddr("10.0.0.2")
	hostC = netip.MustParseAddr("fd00::3")
)

func listen(t *testing.T, s *Switch, host netip.Addr) *Endpoint {
	t.Helper()
	e, err := s.Listen(netip.AddrPortFrom(host, 7000))
	require.NoError(t, err)
	return e
}

func send(t *testing.T, from, to *Endpoint, n uint32) {
	t.Helper()
	_, err := from.WriteTo(binary.BigEndian.AppendUint32(nil, n), to.LocalAddr())
	require.NoError(t, err)
}

// receive returns what arrives within the time given.
func receive(t *testing.T, e *Endpoint, within time.Duration) (got []uint32) {
	t.Helper()
	require.NoError(t, e.SetReadDeadline(time.Now().Add(within)))
	b := make([]byte, 1500)
	for {
		n, _, err := e.ReadFrom(b)
		if err != nil {
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
			return got
		}
		require.Equal(t, 4, n)
		got = append(got, binary.BigEndian.Uint32(b))
	}
}

func TestSwitchDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewSwitch(1)
		defer func() { require.NoError(t, s.Close()) }()
		a, b := listen(t, s, hostA), listen(t, s, hostB)
		require.NoError(t, s.Set(hostA, hostB, Link{Delay: 80 * time.Millisecond}))
		start := time.Now()
		send(t, a, b, 1)
		buf := make([]byte, 10)
		n, from, err := b.ReadFrom(buf)
		require.NoError(t, err)
		require.Equal(t, 4, n)
		require.Equal(t, a.LocalAddr().String(), from.String())
		require.Equal(t, 80*time.Millisecond, time.Since(start))
		send(t, b, a, 2) // the other direction has no delay
		_, _, err = a.ReadFrom(buf)
		require.NoError(t, err)
		require.Equal(t, 80*time.Millisecond, time.Since(start))
	})
}

func TestSwitchLossIsRepeatable(t *testing.T) {
	run := func(seed uint64) (got []uint32) {
		synctest.Test(t, func(t *testing.T) {
			s := NewSwitch(seed)
			defer func() { require.NoError(t, s.Close()) }()
			require.NoError(t, s.SetDefault(Link{Delay: 5 * time.Millisecond, Jitter: 5 * time.Millisecond, Loss: 0.2, Burst: 2}))
			a, b := listen(t, s, hostA), listen(t, s, hostB)
			for i := range uint32(500) {
				send(t, a, b, i)
			}
			got = receive(t, b, time.Second)
			stats := s.Stats()
			require.EqualValues(t, len(got), stats.Passed)
			require.EqualValues(t, 500, stats.Passed+stats.Lost)
		})
		return got
	}
	first := run(42)
	require.IsIncreasing(t, first)
	require.InDelta(t, 400, len(first), 50)
	require.Equal(t, first, run(42))
	require.NotEqual(t, first, run(43))
}

func TestSwitchPartitionBlockHeal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewSwitch(1)
		defer func() { require.NoError(t, s.Close()) }()
		require.NoError(t, s.SetDefault(Link{Delay: 10 * time.Millisecond}))
		a, b, c := listen(t, s, hostA), listen(t, s, hostB), listen(t, s, hostC)

		send(t, a, b, 1) // in flight when the partition comes
		s.Partition([]netip.Addr{hostA}, []netip.Addr{hostB})
		send(t, a, b, 2)
		send(t, c, a, 3)
		require.Empty(t, receive(t, b, time.Second))
		require.Empty(t, receive(t, a, time.Second))
		require.EqualValues(t, 3, s.Stats().Blocked)

		s.Partition([]netip.Addr{hostA, hostC}) // b alone is the rest
		send(t, c, a, 4)
		send(t, b, a, 5)
		require.Equal(t, []uint32{4}, receive(t, a, time.Second))

		s.Heal()
		s.Block(hostA, hostB)
		send(t, a, b, 6)
		send(t, b, a, 7)
		require.Empty(t, receive(t, b, time.Second))
		require.Equal(t, []uint32{7}, receive(t, a, time.Second))
		s.Unblock(hostA, hostB)
		send(t, a, b, 8)
		require.Equal(t, []uint32{8}, receive(t, b, time.Second))
	})
}

func TestSwitchLinkChangesWhileRunning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewSwitch(1)
		defer func() { require.NoError(t, s.Close()) }()
		a, b := listen(t, s, hostA), listen(t, s, hostB)
		require.NoError(t, s.SetPair(hostA, hostB, Link{Delay: 100 * time.Millisecond}))
		send(t, a, b, 1)
		require.NoError(t, s.SetPair(hostA, hostB, Link{}))
		send(t, a, b, 2) // must not overtake
		require.Empty(t, receive(t, b, 99*time.Millisecond))
		require.Equal(t, []uint32{1, 2}, receive(t, b, 2*time.Millisecond))
	})
}

func TestSwitchListen(t *testing.T) {
	s := NewSwitch(1)
	a := listen(t, s, hostA)
	_, err := s.Listen(netip.AddrPortFrom(hostA, 7000))
	require.ErrorIs(t, err, ErrAddrInUse)
	_, err = s.Listen(netip.MustParseAddrPort("0.0.0.0:1"))
	require.ErrorContains(t, err, "address of its own")
	p1, err := s.Listen(netip.AddrPortFrom(hostA, 0))
	require.NoError(t, err)
	p2, err := s.Listen(netip.AddrPortFrom(hostA, 0))
	require.NoError(t, err)
	require.NotEqual(t, p1.LocalAddr(), p2.LocalAddr())

	require.NoError(t, a.Close())
	require.NoError(t, a.Close())
	again := listen(t, s, hostA)
	require.NoError(t, a.Close()) // a late Close of the old one leaves the new one alone
	send(t, p1, again, 1)
	require.Equal(t, []uint32{1}, receive(t, again, 10*time.Millisecond))

	_, err = p1.WriteTo([]byte("x"), net.UDPAddrFromAddrPort(netip.AddrPortFrom(hostB, 9)))
	require.NoError(t, err)
	require.Eventually(t, func() bool { return s.Stats().Unreachable == 1 }, 5*time.Second, time.Millisecond)
	_, err = p1.WriteTo([]byte("x"), &net.TCPAddr{})
	require.Error(t, err)

	require.NoError(t, s.Close())
	require.NoError(t, s.Close())
	_, err = s.Listen(netip.AddrPortFrom(hostA, 0))
	require.ErrorIs(t, err, net.ErrClosed)
	_, _, err = again.ReadFrom(make([]byte, 1))
	require.ErrorIs(t, err, net.ErrClosed)
	_, err = again.WriteTo([]byte("x"), p1.LocalAddr())
	require.ErrorIs(t, err, net.ErrClosed)
}

func TestEndpointInboxIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewSwitch(1)
		defer func() { require.NoError(t, s.Close()) }()
		a, b := listen(t, s, hostA), listen(t, s, hostB)
		for i := range uint32(InboxPackets + 10) {
			send(t, a, b, i)
		}
		synctest.Wait()
		require.EqualValues(t, 10, s.Stats().Overflow)
		require.Len(t, receive(t, b, time.Millisecond), InboxPackets)
	})
}

func TestEndpointDeadlineMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewSwitch(1)
		defer func() { require.NoError(t, s.Close()) }()
		a := listen(t, s, hostA)
		start := time.Now()
		require.NoError(t, a.SetDeadline(start.Add(time.Hour)))
		go func() {
			time.Sleep(time.Second)
			_ = a.SetReadDeadline(start.Add(2 * time.Second))
		}()
		_, _, err := a.ReadFrom(make([]byte, 1))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		require.Equal(t, 2*time.Second, time.Since(start))
		require.NoError(t, a.SetReadDeadline(time.Time{}))
		require.NoError(t, a.SetWriteDeadline(time.Time{}))
		go func() {
			time.Sleep(time.Second)
			_ = a.Close()
		}()
		_, _, err = a.ReadFrom(make([]byte, 1))
		require.ErrorIs(t, err, net.ErrClosed)
	})
}
