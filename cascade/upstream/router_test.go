package upstream

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/cascade"
	"github.com/meridian-sfu/meridian/cascade/route"
	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/meshnet"
	"github.com/meridian-sfu/meridian/internal/rtpstream"
	"github.com/meridian-sfu/meridian/internal/testnet"
)

const (
	ms                 = time.Millisecond
	room mesh.RoomName = "room"
)

// testMesh is a mesh in memory without gossip. Nodes are named as their region and a digit: "eu1".
type testMesh struct {
	net   *testnet.Switch
	all   []route.Node
	addrs map[mesh.NodeID]netip.AddrPort
	nodes map[mesh.NodeID]*testNode
	cam   *rtpstream.Source // of us1
}

type testNode struct {
	*Router
	cascade *cascade.Cascade
}

type nobody struct{}

func (nobody) RequestKeyframe(uint8, rtpstream.KeyframeReason) {}
func (nobody) DemandChanged()                                  {}

// startMesh runs nodes with round trips by "from to". Nobody knows distances but by measuring them.
func startMesh(t *testing.T, rtts map[[2]mesh.NodeID]time.Duration, names ...mesh.NodeID) *testMesh {
	t.Helper()
	m := &testMesh{
		net: testnet.NewSwitch(1), addrs: map[mesh.NodeID]netip.AddrPort{}, nodes: map[mesh.NodeID]*testNode{},
		cam: rtpstream.NewSource(rtpstream.SourceInfo{ID: "TR_1", Audio: true, MIMEType: "audio/opus", ClockRate: 48000, Encodings: 1}, nobody{}),
	}
	ca, err := meshnet.NewCA("test", time.Hour)
	require.NoError(t, err)
	for i, id := range names {
		m.all = append(m.all, route.Node{ID: id, Region: mesh.Region(id[:2])})
		m.addrs[id] = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)}), 7700)
	}
	for pair, rtt := range rtts {
		require.NoError(t, m.net.SetPair(m.addrs[pair[0]].Addr(), m.addrs[pair[1]].Addr(), testnet.Link{Delay: rtt / 2}))
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	t.Cleanup(func() {
		cancel()
		wg.Wait()
		_ = m.net.Close()
	})
	for _, n := range m.all {
		cert, key, err := ca.Issue(n.ID, time.Hour)
		require.NoError(t, err)
		id, err := meshnet.NewIdentity(ca.CertPEM(), cert, key)
		require.NoError(t, err)
		pc, err := m.net.Listen(m.addrs[n.ID])
		require.NoError(t, err)
		log := slog.New(slog.DiscardHandler)
		nw, err := meshnet.New(meshnet.DefaultConfig(), id, pc, log, nil)
		require.NoError(t, err)
		resolve := func(id mesh.NodeID) (netip.AddrPort, bool) { a, ok := m.addrs[id]; return a, ok }
		nw.SetResolver(resolve)
		r, err := New(Deps{
			Self: n.ID, Region: n.Region,
			Members: func() []route.Node { return m.all },
			RegionOf: func(id mesh.NodeID) (mesh.Region, bool) {
				_, ok := m.addrs[id]
				return mesh.Region(id[:2]), ok
			},
			Distance:  func(_, _ mesh.NodeID) (time.Duration, bool) { return 0, false },
			Subscribe: func(func()) func() { return func() {} },
		}, log)
		require.NoError(t, err)
		local := func(mesh.NodeID, mesh.RoomName, mesh.SourceID) (*rtpstream.Source, bool) { return m.cam, n.ID == "us1" }
		c, err := cascade.New(cascade.DefaultConfig(), cascade.Deps{Net: cascade.Over(nw), Resolve: resolve, Local: local, Relay: r.Relay}, log, nil)
		require.NoError(t, err)
		r.Use(c)
		m.nodes[n.ID] = &testNode{r, c}
		for _, run := range []func(context.Context) error{nw.Run, c.Run, r.Run} {
			wg.Go(func() { _ = run(ctx) })
		}
	}
	wg.Go(func() { m.film(ctx) })
	return m
}

// film produces 50 packets a second until ctx ends.
func (m *testMesh) film(ctx context.Context) {
	var pool rtpstream.Pool
	tick := time.NewTicker(20 * ms)
	defer tick.Stop()
	for seq := uint16(0); ; seq++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		p := pool.Get()
		b := p.Buffer()[:100]
		clear(b)
		b[0], b[1], b[2], b[3] = 0x80, 111, byte(seq>>8), byte(seq)
		if err := p.Parse(len(b)); err == nil {
			m.cam.Stream(0).Write(p)
		}
		p.Release()
	}
}

type counter struct{ atomic.Int64 }

func (c *counter) WritePacket(*rtpstream.Packet) { c.Add(1) }

// watch makes a node watch the source, and returns what it counts.
func (m *testMesh) watch(id mesh.NodeID) *counter {
	c := new(counter)
	m.nodes[id].Watch(room, mesh.Source{ID: "TR_1", Kind: mesh.Audio, MIMEType: "audio/opus", ClockRate: 48000, Encodings: make([]mesh.Encoding, 1)}, "us1").
		Subscribe(c).SetDemand(rtpstream.Everything(1))
	return c
}

func (m *testMesh) way(id mesh.NodeID) Way {
	w, _ := m.nodes[id].Way(Key{room, "TR_1", "us1"})
	return w
}

func (m *testMesh) keep(t *testing.T, at mesh.NodeID, to ...mesh.NodeID) {
	t.Helper()
	for _, id := range to {
		t.Cleanup(m.nodes[at].cascade.Keep(id))
	}
}

func (m *testMesh) cut(a, b mesh.NodeID) {
	m.net.Block(m.addrs[a].Addr(), m.addrs[b].Addr())
	m.net.Block(m.addrs[b].Addr(), m.addrs[a].Addr())
}

// The round trip of the far leg of a detour is known by what the detour says of its link.
func TestFarLegsAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := startMesh(t, map[[2]mesh.NodeID]time.Duration{
			{"us1", "eu1"}: 80 * ms, {"us1", "as1"}: 100 * ms, {"eu1", "as1"}: 40 * ms,
		}, "us1", "eu1", "as1")
		m.keep(t, "as1", "us1", "eu1")
		got := m.watch("eu1")
		time.Sleep(5 * time.Second)
		require.Equal(t, Way{From: "us1", Kind: route.Direct, Spare: "as1", Twin: true}, m.way("eu1"))
		require.Positive(t, got.Load())
		var told []cascade.Leg
		for _, l := range m.nodes["eu1"].cascade.Legs() {
			if l.From == "as1" && l.To == "us1" {
				told = append(told, l)
			}
		}
		require.Len(t, told, 1)
		require.InDelta(t, 100, told[0].RTT.Milliseconds(), 3)
		require.False(t, told[0].Down)

		m.cut("us1", "as1")
		time.Sleep(3 * time.Second)
		require.Empty(t, m.way("eu1").Spare, "a detour that cannot get it is none")
		m.net.Heal()
		time.Sleep(15 * time.Second)
		require.Equal(t, mesh.NodeID("as1"), m.way("eu1").Spare)
	})
}

// Over noisy measurements a gateway may seem to be nearer to the origin over the very node that pulls from it.
func TestGatewayDoesNotPullFromWhoComesToIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := startMesh(t, map[[2]mesh.NodeID]time.Duration{
			{"us1", "eu1"}: 60 * ms, {"us1", "eu2"}: 150 * ms, {"eu1", "eu2"}: ms,
		}, "us1", "eu1", "eu2")
		for _, id := range []mesh.NodeID{"eu1", "eu2"} { // both have measured all
			m.keep(t, id, "us1")
		}
		m.keep(t, "eu1", "eu2")
		time.Sleep(3 * time.Second)
		gateway, _ := m.nodes["eu1"].Snapshot().Gateway("TR_1", "eu")
		other := mesh.NodeID("eu1")
		if gateway == other {
			other = "eu2"
		}
		got := m.watch(other)
		time.Sleep(2 * time.Second)
		require.Positive(t, got.Load())
		require.Equal(t, gateway, m.way(other).From)
		require.Equal(t, mesh.NodeID("us1"), m.way(gateway).From)
		require.Equal(t, mesh.NodeID("us1"), m.way(other).Spare, "for when the gateway dies")
		require.Equal(t, 2, m.cam.Subscribers(), "one copy, and a flow that waits")
	})
}

// The second link of a detour dies: the detour says so, and the other detour carries on.
func TestDetourThatLosesItsOwnLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := startMesh(t, map[[2]mesh.NodeID]time.Duration{
			{"us1", "eu1"}: 80 * ms, {"us1", "as1"}: 100 * ms, {"eu1", "as1"}: 40 * ms, {"us1", "sa1"}: 120 * ms, {"eu1", "sa1"}: 60 * ms,
		}, "us1", "eu1", "as1", "sa1")
		m.keep(t, "as1", "us1", "eu1")
		m.keep(t, "sa1", "us1", "eu1")
		got := m.watch("eu1")
		time.Sleep(5 * time.Second)
		m.cut("us1", "eu1")
		time.Sleep(5 * time.Second)
		require.Equal(t, Way{From: "as1", Kind: route.ViaDetour, Spare: "sa1"}, m.way("eu1"))
		m.cut("us1", "as1")
		before := got.Load()
		time.Sleep(5 * time.Second)
		require.Equal(t, mesh.NodeID("sa1"), m.way("eu1").From)
		require.GreaterOrEqual(t, got.Load()-before, int64(200), "of 250, a second at most is missing")
	})
}

// Links for the case that others fail are few, however many nodes there are.
func TestSparesAreFew(t *testing.T) {
	r, err := New(Deps{
		Self: "eu1", Region: "eu", Members: func() []route.Node { return nil }, RegionOf: func(mesh.NodeID) (mesh.Region, bool) { return "", false },
		Distance: func(_, _ mesh.NodeID) (time.Duration, bool) { return 0, false }, Subscribe: func(func()) func() { return func() {} },
	}, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	for i := range 2 * maxSpares {
		id := mesh.NodeID([]byte{'n', byte('a' + i)})
		require.Equal(t, i < maxSpares, r.spareRoomLocked(id))
		if r.spareRoomLocked(id) {
			r.countSpareLocked(id, 1)
		}
	}
	require.True(t, r.spareRoomLocked("na"), "for another source")
	r.countSpareLocked("na", -1)
	require.True(t, r.spareRoomLocked("nz"))
	_, err = New(Deps{}, nil)
	require.Error(t, err)
}
