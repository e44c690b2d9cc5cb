package cascade

import (
	"context"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/meshnet"
)

// mediaPair returns both ends of a media connection between two nodes that do or do not offer direct media.
func mediaPair(t *testing.T, dialDirect, acceptDirect bool) (dialled, accepted MediaConn) {
	t.Helper()
	ca, err := meshnet.NewCA("test", time.Hour)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	t.Cleanup(func() { cancel(); wg.Wait() })
	start := func(id mesh.NodeID, direct bool, setup func(Network)) (*meshnet.Network, Network) {
		cert, key, err := ca.Issue(id, time.Hour)
		require.NoError(t, err)
		identity, err := meshnet.NewIdentity(ca.CertPEM(), cert, key)
		require.NoError(t, err)
		cfg := meshnet.DefaultConfig()
		cfg.Listen = netip.MustParseAddrPort("127.0.0.1:0")
		cfg.Direct = direct
		nw, err := meshnet.New(cfg, identity, nil, quiet(), nil)
		require.NoError(t, err)
		over := Over(nw)
		setup(over)
		wg.Go(func() { _ = nw.Run(ctx) })
		return nw, over
	}
	got := make(chan MediaConn, 1)
	b, _ := start("b", acceptDirect, func(n Network) {
		n.HandleMedia(func(c MediaConn) { got <- c; <-c.Done() })
	})
	_, a := start("a", dialDirect, func(Network) {})
	limit, stop := context.WithTimeout(ctx, 10*time.Second)
	defer stop()
	dialled, err = a.DialMedia(limit, b.LocalAddr(), "b")
	require.NoError(t, err)
	select {
	case accepted = <-got:
	case <-limit.Done():
		t.Fatal("not accepted")
	}
	return dialled, accepted
}

// Media travels directly only where both nodes offer it; a node of the release before gets QUIC datagrams.
func TestMediaCarriage(t *testing.T) {
	for _, tc := range []struct{ dial, accept bool }{{true, true}, {true, false}, {false, true}, {false, false}} {
		x, y := mediaPair(t, tc.dial, tc.accept)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		for _, pair := range [][2]MediaConn{{x, y}, {y, x}} {
			from, to := pair[0], pair[1]
			u, ok := from.(interface{ Unlimited() bool })
			require.Equal(t, tc.dial && tc.accept, ok && u.Unlimited(), "%+v", tc)
			require.GreaterOrEqual(t, from.MaxDatagramBytes(), safeDatagram)
			require.NoError(t, from.SendDatagram([]byte("media")))
			b, err := to.ReceiveDatagram(ctx)
			require.NoError(t, err)
			require.Equal(t, "media", string(b))
			require.ErrorIs(t, from.SendDatagram(make([]byte, 9000)), meshnet.ErrDatagramTooLarge)
		}
		s, err := x.OpenStream(ctx)
		require.NoError(t, err)
		_, err = s.Write([]byte("stream"))
		require.NoError(t, err)
		_, err = y.AcceptStream(ctx)
		require.NoError(t, err, "streams stay QUIC's")
		require.NoError(t, x.Close(codeOK, "done"))
		_, err = y.ReceiveDatagram(ctx)
		require.Error(t, err)
		cancel()
	}
}
