package cascade

import (
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/meshnet"
	"github.com/meridian-sfu/meridian/internal/meshpb/cascadepb"
	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

// greetWith sends the first message on a control stream to b and returns the answer.
func greetWith(t *testing.T, s *station, from mesh.NodeID, m *cascadepb.LinkMessage) (*cascadepb.LinkMessage, net.Conn) {
	t.Helper()
	ours, theirs := net.Pipe()
	go s.acceptControl(from, theirs)
	require.NoError(t, meshnet.WriteMessage(ours, m))
	answer := new(cascadepb.LinkMessage)
	require.NoError(t, meshnet.ReadMessage(ours, maxControlBytes, answer))
	return answer, ours
}

func hello(version, minVersion, lanes uint32, instance uint64) *cascadepb.LinkMessage {
	return &cascadepb.LinkMessage{Version: 1, Body: &cascadepb.LinkMessage_Hello{Hello: &cascadepb.Hello{
		Version: version, MinVersion: minVersion, Session: 7, Instance: instance, Lanes: lanes,
	}}}
}

func TestGreetings(t *testing.T) {
	cases := []struct {
		name string
		from mesh.NodeID
		in   *cascadepb.LinkMessage
		want cascadepb.CloseReason // 0: welcome
	}{
		{"plain", "c", hello(1, 1, 2, 1), 0},
		{"of a later release that still speaks this version", "c", hello(9, 1, 2, 1), 0},
		{"many lanes", "c", hello(1, 1, 1<<31, 1), 0},
		{"too new", "c", hello(9, 2, 2, 1), cascadepb.CloseReason_CLOSE_REASON_VERSION},
		{"too old", "c", hello(0, 0, 2, 1), cascadepb.CloseReason_CLOSE_REASON_VERSION},
		{"no lanes", "c", hello(1, 1, 0, 1), cascadepb.CloseReason_CLOSE_REASON_PROTOCOL},
		{"from itself", "b", hello(1, 1, 2, 1), cascadepb.CloseReason_CLOSE_REASON_PROTOCOL},
		{"not a hello", "c", &cascadepb.LinkMessage{}, cascadepb.CloseReason_CLOSE_REASON_PROTOCOL},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := startStation(t, newHub(0), "b")
				answer, conn := greetWith(t, b, tc.from, tc.in)
				require.Equal(t, tc.want, answer.GetLinkClose().GetReason())
				if tc.want == 0 {
					require.EqualValues(t, min(tc.in.GetHello().GetLanes(), maxLanes), answer.GetWelcome().GetLanes())
				}
				_ = conn.Close()
				b.stop()
			})
		})
	}
}

func TestSecondHelloReplacesOrIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(time.Millisecond)
		a, b := startStation(t, h, "a"), startStation(t, h, "b")
		defer b.Keep("a")()
		time.Sleep(500 * time.Millisecond)

		answer, conn := greetWith(t, b, "a", hello(1, 1, 2, a.instance))
		require.Equal(t, cascadepb.CloseReason_CLOSE_REASON_DUPLICATE, answer.GetLinkClose().GetReason(),
			"b opened the link that is there, and it is up")
		_ = conn.Close()
		time.Sleep(100 * time.Millisecond)
		require.EqualValues(t, 1, b.status(t, "a").linksOpened)

		answer, conn = greetWith(t, b, "a", hello(1, 1, 2, a.instance+1))
		require.NotNil(t, answer.GetWelcome(), "a was started anew")
		_ = conn.Close()
		time.Sleep(2 * time.Second)
		alive, _ := b.Alive("a")
		require.True(t, alive)
	})
}

func TestLaneOfNoLinkIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(time.Millisecond)
		a, b := startStation(t, h, "a"), startStation(t, h, "b")
		defer a.Keep("b")()
		time.Sleep(500 * time.Millisecond)
		for name, write := range map[string]func(net.Conn){
			"another session": func(s net.Conn) {
				_ = meshnet.WriteMessage(s, &cascadepb.LaneHello{Version: 1, Session: 12345})
			},
			"garbage": func(s net.Conn) { _, _ = s.Write([]byte("\x00\x00\x00\x02\xff\xff")) },
			"silence": func(net.Conn) {},
		} {
			conn, err := a.net.DialMedia(t.Context(), [1]mesh.NodeInfo{}[0].MeshAddr, "b")
			require.NoError(t, err)
			s, err := conn.OpenStream(t.Context())
			require.NoError(t, err)
			write(s)
			time.Sleep(b.cfg.OpenTimeout + time.Second)
			select {
			case <-conn.Done():
			default:
				t.Fatalf("%s: connection left open", name)
			}
		}
		require.Equal(t, 2, b.status(t, "a").Lanes)
	})
}

// FuzzControl gives a link any control message: no panic, nothing served that was not asked for properly.
func FuzzControl(f *testing.F) {
	for _, m := range []*cascadepb.LinkMessage{
		hello(1, 1, 2, 1),
		{Body: &cascadepb.LinkMessage_FlowOpen{FlowOpen: &cascadepb.FlowOpen{FlowId: 3, Room: "r", Source: "s", Path: []string{"peer"}, Hops: 1, Demand: demandMessage(all(0), 0)}}},
		{Body: &cascadepb.LinkMessage_FlowDemand{FlowDemand: &cascadepb.FlowDemand{FlowId: 3, Path: []string{"peer"}, Hops: 2}}},
		{Body: &cascadepb.LinkMessage_KeyframeRequest{KeyframeRequest: &cascadepb.KeyframeRequest{FlowId: 3, Encoding: 9}}},
		{Body: &cascadepb.LinkMessage_ClockUpdate{ClockUpdate: &cascadepb.ClockUpdate{FlowId: 1, Encoding: 2}}},
		{Body: &cascadepb.LinkMessage_FlowRefuse{FlowRefuse: &cascadepb.FlowRefuse{FlowId: 1}}},
		{Body: &cascadepb.LinkMessage_FlowAccept{FlowAccept: &cascadepb.FlowAccept{FlowId: 1}}},
		{Body: &cascadepb.LinkMessage_FlowLimit{FlowLimit: &cascadepb.FlowLimit{FlowId: 1, Encodings: 1}}},
		{Body: &cascadepb.LinkMessage_FlowClose{FlowClose: &cascadepb.FlowClose{FlowId: 3}}},
		{Body: &cascadepb.LinkMessage_SourceEnded{SourceEnded: &cascadepb.SourceEnded{FlowId: 1}}},
		{Body: &cascadepb.LinkMessage_LanesWanted{LanesWanted: &cascadepb.LanesWanted{Lanes: 1 << 30}}},
		{Body: &cascadepb.LinkMessage_LinkUse{LinkUse: &cascadepb.LinkUse{Wanted: true}}},
		{Body: &cascadepb.LinkMessage_LinkState{LinkState: &cascadepb.LinkState{Links: []*cascadepb.NodeLink{
			{Node: "third", Rtt: 80_000, Jitter: 900, LossIn: 300, LossOut: 65535}, {Node: "fourth", Down: true}, {Node: "self", Rtt: 1 << 31},
		}}}},
		{Body: &cascadepb.LinkMessage_Ping{Ping: &cascadepb.Ping{Token: 9}}},
		{Body: &cascadepb.LinkMessage_Pong{Pong: &cascadepb.Pong{Token: 9}}},
		closeMessage(cascadepb.CloseReason_CLOSE_REASON_IDLE),
	} {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	cam := newCamera("s", false, 2)
	h := newHub(0)
	c, err := New(DefaultConfig(), Deps{
		Net: &fakeNet{hub: h, id: "self"}, Resolve: resolveAny,
		Local: func(mesh.NodeID, mesh.RoomName, mesh.SourceID) (*rtpstream.Source, bool) { return cam.Source, true },
	}, quiet(), nil)
	if err != nil {
		f.Fatal(err)
	}
	remote := c.Remote(room, newCamera("TR_r", false, 2).mesh(), "peer")
	remote.Media().Subscribe(new(atomicSink)).SetDemand(all(0, 1))
	f.Fuzz(func(t *testing.T, b []byte) {
		var m cascadepb.LinkMessage
		if proto.Unmarshal(b, &m) != nil {
			return
		}
		ours, theirs := net.Pipe()
		defer func() { _ = ours.Close() }()
		l := newLink(newPeer(c, "peer"), theirs, 1, false)
		defer l.abandon()
		l.features.Store(features)
		l.rx.setFlow(1, remote.remote.via)
		for range 2 {
			l.dispatch(&m)
		}
		for _, fl := range l.served() {
			require.Less(t, fl.id, uint32(maxFlowIDs))
			require.Equal(t, mesh.NodeID("peer"), fl.path[0])
		}
		l.endFlows()
		require.Zero(t, cam.Subscribers())
	})
}
