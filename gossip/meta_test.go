package gossip

import (
	"math"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/meshpb/gossippb"
)

func TestMetaRoundTrip(t *testing.T) {
	for _, n := range []mesh.NodeInfo{
		info("a"),
		{ID: "b", Region: "x"},
		{
			ID: "c", Region: "ap-south", Latitude: -90, Longitude: 180, Draining: true, RaftCluster: "r",
			Load: mesh.Load{CPU: 1, EgressBitrate: math.MaxUint64, Participants: math.MaxUint32, Capacity: math.MaxUint32},
		},
	} {
		b, err := encodeMeta(n)
		require.NoError(t, err)
		require.LessOrEqual(t, len(b), MaxMetaBytes)
		got, err := decodeMeta(b)
		require.NoError(t, err)
		require.Equal(t, n, got)
	}
}

func TestMetaLimits(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*mesh.NodeInfo)
		says   string
	}{
		"no ID":           {func(n *mesh.NodeInfo) { n.ID = "" }, "node ID"},
		"no region":       {func(n *mesh.NodeInfo) { n.Region = "" }, "region"},
		"zone":            {func(n *mesh.NodeInfo) { n.Zone = strings.Repeat("z", 64) }, "zone"},
		"URL scheme":      {func(n *mesh.NodeInfo) { n.ClientURL = "http://x" }, "client URL"},
		"URL too long":    {func(n *mesh.NodeInfo) { n.ClientURL = "wss://" + strings.Repeat("x", 200) }, "client URL"},
		"URL of no host":  {func(n *mesh.NodeInfo) { n.ClientURL = "wss://" }, "client URL"},
		"version":         {func(n *mesh.NodeInfo) { n.Version = strings.Repeat("1", 49) }, "software version is too long: 49 bytes, at most 48"},
		"version control": {func(n *mesh.NodeInfo) { n.Version = "1\n2" }, "software version"},
		"cluster":         {func(n *mesh.NodeInfo) { n.RaftCluster = strings.Repeat("r", 65) }, "Raft cluster is too long"},
		"latitude":        {func(n *mesh.NodeInfo) { n.Latitude = 91 }, "not on Earth"},
		"longitude":       {func(n *mesh.NodeInfo) { n.Longitude = math.NaN() }, "not on Earth"},
		"CPU":             {func(n *mesh.NodeInfo) { n.Load.CPU = 1.5 }, "CPU"},
		"together": {func(n *mesh.NodeInfo) {
			n.ID, n.Region = mesh.NodeID(strings.Repeat("i", 63)), mesh.Region(strings.Repeat("r", 63))
			n.Zone, n.ClientURL = strings.Repeat("z", 63), "wss://"+strings.Repeat("x", 154)
			n.Version, n.RaftCluster = strings.Repeat("1", 48), strings.Repeat("r", 64)
			n.Load = mesh.Load{CPU: 1, EgressBitrate: math.MaxUint64, Participants: math.MaxUint32, Capacity: math.MaxUint32}
		}, "shorten client URL (160 bytes)"},
	} {
		t.Run(name, func(t *testing.T) {
			n := info("a")
			tc.change(&n)
			_, err := encodeMeta(n)
			require.ErrorIs(t, err, ErrMetadata)
			require.ErrorContains(t, err, tc.says)
		})
	}
}

func TestDecodeMetaRefuses(t *testing.T) {
	_, err := decodeMeta(make([]byte, MaxMetaBytes+1))
	require.ErrorIs(t, err, ErrMetadata)
	_, err = decodeMeta([]byte{0xff})
	require.ErrorIs(t, err, ErrMetadata)
	b, err := proto.Marshal(&gossippb.NodeMeta{NodeId: "a", Region: "b"})
	require.NoError(t, err)
	_, err = decodeMeta(b)
	require.ErrorContains(t, err, "no version")
	// A release to come may add fields and count on.
	b, err = proto.Marshal(&gossippb.NodeMeta{Version: 2, NodeId: "a", Region: "b"})
	require.NoError(t, err)
	_, err = decodeMeta(append(b, 0xfa, 0x07, 0x01, 'x'))
	require.NoError(t, err)
}

// A node may speak only for itself.
func TestNotifyAliveRefusesImpostors(t *testing.T) {
	m, err := newMetrics(nil)
	require.NoError(t, err)
	d := delegate{&Gossip{metrics: m}}
	meta, err := encodeMeta(info("a"))
	require.NoError(t, err)
	ip := net.IPv4(10, 0, 0, 1)
	require.NoError(t, d.NotifyAlive(&memberlist.Node{Name: "a", Addr: ip, Port: 7, Meta: meta}))
	for name, n := range map[string]*memberlist.Node{
		"other name":  {Name: "b", Addr: ip, Port: 7, Meta: meta},
		"no metadata": {Name: "a", Addr: ip, Port: 7},
		"no address":  {Name: "a", Port: 7, Meta: meta},
		"no port":     {Name: "a", Addr: ip, Meta: meta},
		"unspecified": {Name: "a", Addr: net.IPv4zero, Port: 7, Meta: meta},
	} {
		require.ErrorIs(t, d.NotifyAlive(n), ErrMetadata, name)
	}
}

func TestNotice(t *testing.T) {
	id, err := decodeNotice(notice{"a"}.Message())
	require.NoError(t, err)
	require.Equal(t, mesh.NodeID("a"), id)
	for _, b := range [][]byte{nil, {0xff}, make([]byte, 1000), notice{"Not A Label"}.Message()} {
		_, err := decodeNotice(b)
		require.Error(t, err)
	}
}

func TestCoordinates(t *testing.T) {
	c, err := newCoordinates("a", func(id mesh.NodeID) bool { return id != "stranger" })
	require.NoError(t, err)
	far, err := newCoordinates("b", func(mesh.NodeID) bool { return true })
	require.NoError(t, err)
	for range 50 {
		c.observe("b", 80*time.Millisecond, far.AckPayload())
		c.observe("c", 10*time.Millisecond, far.AckPayload())
	}
	c.observe("b", 3*time.Second, nil) // a ping that waited for a dial, and no coordinate
	rtt, ok := c.rtt("b")
	require.True(t, ok)
	require.Equal(t, 80*time.Millisecond, rtt)
	rtt, ok = c.distance("b", "a")
	require.True(t, ok)
	require.Equal(t, 80*time.Millisecond, rtt)
	_, ok = c.distance("b", "c")
	require.True(t, ok)
	c.observe("stranger", time.Millisecond, nil)
	_, ok = c.rtt("stranger")
	require.False(t, ok)
	c.forget("b")
	_, ok = c.rtt("b")
	require.False(t, ok)

	for name, m := range map[string]*gossippb.Coordinate{
		"no version": {Vector: make([]float64, 8)},
		"dimensions": {Version: 1, Vector: make([]float64, 3)},
		"NaN":        {Version: 1, Vector: make([]float64, 8), Height: math.NaN()},
		"too far":    {Version: 1, Vector: append(make([]float64, 7), 1e9)},
	} {
		b, err := proto.Marshal(m)
		require.NoError(t, err)
		_, err = decodeCoordinate(b)
		require.Error(t, err, name)
	}
}

func FuzzDecodeMeta(f *testing.F) {
	b, err := encodeMeta(info("a"))
	require.NoError(f, err)
	f.Add(b)
	f.Add([]byte{8, 1, 18, 1, 'a', 26, 1, 'b'})
	f.Add([]byte{0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := decodeMeta(b)
		if err != nil {
			return
		}
		again, err := encodeMeta(n)
		if err != nil {
			t.Fatalf("accepted what we would not say: %+v: %v", n, err)
		}
		if back, err := decodeMeta(again); err != nil || back != n {
			t.Fatalf("%+v became %+v: %v", n, back, err)
		}
	})
}

func FuzzDecodeCoordinate(f *testing.F) {
	c, err := newCoordinates("a", nil)
	require.NoError(f, err)
	f.Add(c.AckPayload())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if coord, err := decodeCoordinate(b); err == nil {
			coord.DistanceTo(coord) // panics unless usable
		}
	})
}

func FuzzDecodeNotice(f *testing.F) {
	f.Add(notice{"a"}.Message())
	f.Fuzz(func(t *testing.T, b []byte) {
		if id, err := decodeNotice(b); err == nil {
			if _, err := mesh.ParseNodeID(string(id)); err != nil {
				t.Fatal(err)
			}
		}
	})
}
