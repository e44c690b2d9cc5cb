package cascade

import (
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/meshnet"
	"github.com/meridian-sfu/meridian/internal/meshpb/cascadepb"
)

// liar is a peer that speaks the protocol by hand.
type liar struct {
	control interface {
		Write([]byte) (int, error)
		Read([]byte) (int, error)
		Close() error
	}
	answers chan *cascadepb.LinkMessage
	net     *fakeNet
	deaf    atomic.Bool // it reads no control messages any more
}

func newLiar(t *testing.T, h *hub, peer mesh.NodeID) *liar {
	t.Helper()
	n := &fakeNet{hub: h, id: "liar"}
	n.media = func(c MediaConn) {
		go func() {
			for {
				s, err := c.AcceptStream(t.Context())
				if err != nil {
					return
				}
				_ = meshnet.ReadMessage(s, 64, new(cascadepb.LaneHello))
				_ = s.Close()
			}
		}()
	}
	n.control = func(mesh.NodeID, net.Conn) {}
	h.join(n)
	s, err := n.OpenControl(t.Context(), peer)
	require.NoError(t, err)
	l := &liar{control: s, answers: make(chan *cascadepb.LinkMessage, 100_000), net: n}
	l.say(t, &cascadepb.LinkMessage{Body: &cascadepb.LinkMessage_Hello{Hello: &cascadepb.Hello{
		Version: 1, MinVersion: 1, Session: 1, Lanes: 2,
	}}})
	go func() {
		defer close(l.answers)
		for {
			m := new(cascadepb.LinkMessage)
			if meshnet.ReadMessage(s, 1<<20, m) != nil || l.deaf.Load() {
				return
			}
			l.answers <- m
		}
	}()
	return l
}

func (l *liar) say(t *testing.T, m *cascadepb.LinkMessage) {
	t.Helper()
	m.Version = 1
	_ = meshnet.WriteMessage(l.control, m) // fails once the link is closed, which is what some want to see
}

func (l *liar) last() *cascadepb.LinkMessage {
	var last *cascadepb.LinkMessage
	for {
		select {
		case m, ok := <-l.answers:
			if !ok {
				return last
			}
			last = m
		default:
			return last
		}
	}
}

func TestLyingPeerIsBounded(t *testing.T) {
	open := func(id uint32, path ...string) *cascadepb.LinkMessage {
		return &cascadepb.LinkMessage{Body: &cascadepb.LinkMessage_FlowOpen{FlowOpen: &cascadepb.FlowOpen{
			FlowId: id, Room: string(room), Source: "TR_1", Path: path, Hops: 1,
			Demand: &cascadepb.Demand{Encodings: 0xffff, MaxTemporal: 1 << 20},
		}}}
	}
	cases := []struct {
		name string
		lie  func(t *testing.T, l *liar)
		want cascadepb.CloseReason // 0: the link stays
	}{
		{"path of another", func(t *testing.T, l *liar) { l.say(t, open(1, "c")) }, cascadepb.CloseReason_CLOSE_REASON_PROTOCOL},
		{"no path", func(t *testing.T, l *liar) { l.say(t, open(1)) }, cascadepb.CloseReason_CLOSE_REASON_PROTOCOL},
		{"path with nonsense", func(t *testing.T, l *liar) { l.say(t, open(1, "liar", "..")) }, cascadepb.CloseReason_CLOSE_REASON_PROTOCOL},
		{"huge flow ID", func(t *testing.T, l *liar) { l.say(t, open(1<<31, "liar")) }, cascadepb.CloseReason_CLOSE_REASON_PROTOCOL},
		{"same flow twice", func(t *testing.T, l *liar) {
			l.say(t, open(1, "liar"))
			l.say(t, open(1, "liar"))
		}, cascadepb.CloseReason_CLOSE_REASON_PROTOCOL},
		{"second hello", func(t *testing.T, l *liar) {
			l.say(t, &cascadepb.LinkMessage{Body: &cascadepb.LinkMessage_Hello{Hello: &cascadepb.Hello{}}})
		}, cascadepb.CloseReason_CLOSE_REASON_PROTOCOL},
		{"oversized message", func(t *testing.T, l *liar) {
			_, _ = l.control.Write([]byte{0x7f, 0xff, 0xff, 0xff})
		}, cascadepb.CloseReason_CLOSE_REASON_PROTOCOL},
		{"flood of unknown flows", func(t *testing.T, l *liar) {
			for i := range uint32(500) {
				l.say(t, &cascadepb.LinkMessage{Body: &cascadepb.LinkMessage_FlowClose{FlowClose: &cascadepb.FlowClose{FlowId: i}}})
			}
		}, cascadepb.CloseReason_CLOSE_REASON_GARBAGE},
		{"a few unknown flows", func(t *testing.T, l *liar) {
			l.say(t, &cascadepb.LinkMessage{Body: &cascadepb.LinkMessage_KeyframeRequest{KeyframeRequest: &cascadepb.KeyframeRequest{FlowId: 9}}})
			l.say(t, &cascadepb.LinkMessage{Body: &cascadepb.LinkMessage_ClockUpdate{ClockUpdate: &cascadepb.ClockUpdate{FlowId: 9}}})
			l.say(t, &cascadepb.LinkMessage{Body: &cascadepb.LinkMessage_SourceEnded{SourceEnded: &cascadepb.SourceEnded{FlowId: 1 << 31}}})
			l.say(t, &cascadepb.LinkMessage{})
		}, 0},
		{"too many flows", func(t *testing.T, l *liar) {
			for i := range uint32(100) {
				l.say(t, open(i, "liar"))
			}
		}, 0},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHub(time.Millisecond)
				few := func(c *Config) { c.MaxFlows = 50 }
				a, b := startStation(t, h, "a", few), startStation(t, h, "b")
				defer b.Keep("a")()
				cam := newCamera("TR_1", false, 2)
				a.offer("TR_1", cam.Source)
				l := newLiar(t, h, "a")
				time.Sleep(100 * time.Millisecond)
				tc.lie(t, l)
				time.Sleep(100 * time.Millisecond)
				require.LessOrEqual(t, cam.Subscribers(), 50)
				last := l.last()
				if tc.want != 0 {
					require.Equal(t, tc.want, last.GetLinkClose().GetReason())
					require.Zero(t, cam.Subscribers())
				} else {
					require.Nil(t, last.GetLinkClose())
				}
				alive, _ := b.Alive("a")
				require.True(t, alive, "other links do not notice")
				_ = l.control.Close()
				a.stop()
				b.stop()
			})
		})
	}
}

func TestGarbageOnALaneClosesTheLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(time.Millisecond)
		a, b := startStation(t, h, "a"), startStation(t, h, "b")
		defer a.Keep("b")()
		time.Sleep(500 * time.Millisecond)
		b.net.mu.Lock()
		lane := b.net.conns[0]
		b.net.mu.Unlock()
		for range 50 {
			require.NoError(t, lane.SendDatagram([]byte("garbage")))
		}
		time.Sleep(50 * time.Millisecond)
		require.EqualValues(t, 50, a.status(t, "b").Drops["garbage"])
		alive, _ := a.Alive("b")
		require.True(t, alive, "some garbage is only counted")
		for range 500 {
			_ = lane.SendDatagram([]byte{0x44, 0xff})
		}
		time.Sleep(50 * time.Millisecond)
		_, known := a.Alive("b")
		require.False(t, known)
		time.Sleep(10 * time.Second)
		alive, _ = a.Alive("b")
		require.True(t, alive, "another chance after a while")
	})
}
