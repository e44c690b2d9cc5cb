package gossip

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/meshnet"
	"github.com/meridian-sfu/meridian/internal/testnet"
)

// ocean is a mesh in memory, in a bubble of its own time.
type ocean struct {
	sw    *testnet.Switch
	nodes []*node
	hosts []netip.Addr
}

func sail(t *testing.T, profile string, link testnet.Link, names []mesh.NodeID, story func(*ocean)) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		o := &ocean{sw: testnet.NewSwitch(1)}
		defer func() { _ = o.sw.Close() }()
		require.NoError(t, o.sw.SetDefault(link))
		ca := testCA(t)
		var nets, gossips sync.WaitGroup
		netCtx, stopNets := context.WithCancel(context.Background())
		defer func() {
			cancel()
			gossips.Wait()
			stopNets()
			nets.Wait()
			time.Sleep(time.Minute) // memberlist finishes the probe it was in
		}()
		for i, id := range names {
			addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)}), 7700)
			pc, err := o.sw.Listen(addr)
			require.NoError(t, err)
			cert, key, err := ca.Issue(id, time.Hour)
			require.NoError(t, err)
			identity, err := meshnet.NewIdentity(ca.CertPEM(), cert, key)
			require.NoError(t, err)
			n := &node{addr: addr}
			n.net, err = meshnet.New(meshnet.DefaultConfig(), identity, pc, slog.New(slog.DiscardHandler), nil)
			require.NoError(t, err)
			cfg := DefaultConfig()
			cfg.Profile, cfg.Seeds = profile, []string{"10.0.0.1:7700"}
			n.Gossip, err = New(cfg, n.net, info(id), slog.New(slog.DiscardHandler), prometheus.NewRegistry())
			require.NoError(t, err)
			n.Subscribe(func(e Event) {
				n.mu.Lock()
				defer n.mu.Unlock()
				n.events = append(n.events, e)
			})
			nets.Go(func() { _ = n.net.Run(netCtx) })
			ctx, stop := context.WithCancel(ctx)
			n.stop = stop
			gossips.Go(func() { _ = n.Run(ctx) })
			o.nodes, o.hosts = append(o.nodes, n), append(o.hosts, addr.Addr())
		}
		story(o)
	})
}

func (o *ocean) whole(names []mesh.NodeID) bool {
	return !slices.ContainsFunc(o.nodes, func(n *node) bool { return !slices.Equal(names, ids(n.Members())) })
}

// Round trips of 200 ms and 2 % loss are no failure, in any profile.
func TestOceanIsNoFailure(t *testing.T) {
	names := []mesh.NodeID{"a", "b", "c"}
	for profile := range profiles {
		t.Run(profile, func(t *testing.T) {
			link := testnet.Link{Delay: 100 * time.Millisecond, Jitter: 10 * time.Millisecond, Loss: 0.02}
			sail(t, profile, link, names, func(o *ocean) {
				time.Sleep(time.Minute)
				require.True(t, o.whole(names))
				for _, n := range o.nodes {
					for _, id := range names {
						require.False(t, n.seen(Failed, id)(), "%s at %s", id, n.net.NodeID())
					}
				}
				rtt, ok := o.nodes[0].RTT("b")
				require.True(t, ok)
				require.InDelta(t, 200, rtt.Milliseconds(), 25)
				rtt, ok = o.nodes[0].Distance("b", "c")
				require.True(t, ok)
				require.InDelta(t, 200, rtt.Milliseconds(), 100)
			})
		})
	}
}

// Halves that lost each other for long are one mesh again soon after the partition heals.
func TestPartitionHeals(t *testing.T) {
	names := []mesh.NodeID{"a", "b", "c", "d"}
	sail(t, ProfileLAN, testnet.Link{Delay: 20 * time.Millisecond}, names, func(o *ocean) {
		time.Sleep(30 * time.Second)
		require.True(t, o.whole(names))
		o.sw.Partition(o.hosts[:2], o.hosts[2:])
		time.Sleep(3 * time.Minute)
		require.Equal(t, names[:2], ids(o.nodes[0].Members()))
		require.Equal(t, names[2:], ids(o.nodes[3].Members()))
		o.sw.Heal()
		time.Sleep(2 * time.Minute)
		require.True(t, o.whole(names))
	})
}

// A goodbye is not taken for a failure, and is heard within seconds, also over a lossy ocean.
func TestLeaveOverOcean(t *testing.T) {
	names := []mesh.NodeID{"a", "b", "c"}
	link := testnet.Link{Delay: 100 * time.Millisecond, Loss: 0.02}
	for profile := range profiles {
		t.Run(profile, func(t *testing.T) {
			sail(t, profile, link, names, func(o *ocean) {
				time.Sleep(30 * time.Second)
				require.True(t, o.whole(names))
				o.nodes[2].stop()
				time.Sleep(3 * time.Second) // of the bubble's time
				for _, n := range o.nodes[:2] {
					require.Equal(t, names[:2], ids(n.Members()))
					require.True(t, n.seen(Left, "c")())
					require.False(t, n.seen(Failed, "c")())
				}
			})
		})
	}
}
