package cascade

import (
	"bytes"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/meshnet"
	"github.com/meridian-sfu/meridian/internal/meshpb/cascadepb"
	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

// said is a stream on which a peer said everything already; what is written to it is kept.
type said struct {
	net.Conn
	in  *bytes.Reader
	out bytes.Buffer
}

func sayAll(b []byte) *said { return &said{in: bytes.NewReader(b)} }

func (s *said) Read(b []byte) (int, error)  { return s.in.Read(b) }
func (s *said) Write(b []byte) (int, error) { return s.out.Write(b) }
func (s *said) Close() error                { return nil }
func (s *said) SetDeadline(time.Time) error { return nil }

// stream is what messages look like on one.
func stream(messages ...proto.Message) []byte {
	var b bytes.Buffer
	for _, m := range messages {
		if err := meshnet.WriteMessage(&b, m); err != nil {
			panic(err)
		}
	}
	return b.Bytes()
}

func fuzzCascade(f *testing.F, self mesh.NodeID) *Cascade {
	c, err := New(DefaultConfig(), Deps{
		Net: &fakeNet{hub: newHub(0), id: self}, Resolve: resolveAny,
		Local: func(mesh.NodeID, mesh.RoomName, mesh.SourceID) (*rtpstream.Source, bool) { return nil, false },
	}, quiet(), nil)
	if err != nil {
		f.Fatal(err)
	}
	c.state = stateRunning
	return c
}

// FuzzGreeting says any Hellos, one after the other, to a node that has no link, one that is up, or one of its own
// making: each is refused with a reason, or there is one link, of which nothing is beyond what both sides can do.
func FuzzGreeting(f *testing.F) {
	all := &cascadepb.LinkMessage{Version: 1, Body: &cascadepb.LinkMessage_Hello{Hello: &cascadepb.Hello{
		Version: 1, MinVersion: 1, Session: 7, Instance: 1, Lanes: 8, Features: features | 1<<20,
	}}}
	for how := range uint8(16) {
		f.Add(how, stream(all, hello(1, 1, 2, 1)))
	}
	f.Add(uint8(0), stream(hello(9, 1, 1<<31, 1), hello(9, 2, 2, 1), hello(0, 0, 2, 1), hello(1, 1, 0, 1), hello(1, 1, 1, 9)))
	f.Add(uint8(0), stream(&cascadepb.LinkMessage{}, &cascadepb.LinkMessage{Body: &cascadepb.LinkMessage_Welcome{Welcome: &cascadepb.Welcome{Version: 1, Lanes: 2}}}))
	f.Add(uint8(0), []byte("\x00\x00\x00\x02\xff\xff"))
	c := fuzzCascade(f, "self")
	f.Fuzz(func(t *testing.T, how uint8, b []byte) {
		from := []mesh.NodeID{"peer", "zoe"}[how&1] // ours is the higher ID, or the lower
		p := newPeer(c, from)
		c.peers = map[mesh.NodeID]*peer{from: p}
		if how&2 != 0 {
			p.link = newLink(p, sayAll(nil), 3, how&4 != 0)
			if how&8 != 0 {
				p.link.establishLocked(1, 2)
				p.link.up.Store(true)
			}
		}
		s := sayAll(b)
		for range 8 {
			var m cascadepb.LinkMessage
			if meshnet.ReadMessage(s, maxControlBytes, &m) != nil {
				break
			}
			before := p.link
			l, reason := c.admit(from, s, m.GetHello())
			if l == nil {
				require.NotZero(t, reason)
				require.Same(t, before, p.link)
				continue
			}
			require.Same(t, l, p.link)
			require.True(t, before == nil || before.ctx.Err() != nil, "two links")
			require.True(t, l.lanes >= 2 && l.lanes <= min(maxLanes, c.cfg.MaxLanes))
			require.Zero(t, l.features.Load()&^c.features)
			require.Equal(t, m.GetHello().GetSession(), l.session)
		}
		if p.link != nil {
			p.link.abandon()
		}
	})
}

// FuzzWelcome answers a Hello with anything.
func FuzzWelcome(f *testing.F) {
	welcome := func(version, lanes uint32) []byte {
		return stream(&cascadepb.LinkMessage{Version: 1, Body: &cascadepb.LinkMessage_Welcome{
			Welcome: &cascadepb.Welcome{Version: version, Instance: 5, Lanes: lanes, Features: features},
		}})
	}
	f.Add(welcome(1, 2))
	f.Add(welcome(1, 128))
	f.Add(welcome(1, 129))
	f.Add(welcome(2, 4))
	f.Add(stream(closeMessage(cascadepb.CloseReason_CLOSE_REASON_VERSION)))
	f.Add(stream(hello(1, 1, 2, 1)))
	f.Add([]byte{0, 1, 0, 0, 8})
	f.Fuzz(func(t *testing.T, b []byte) {
		s := sayAll(b)
		w, err := exchange(s, hello(1, 1, 2, 1))
		require.NotZero(t, s.out.Len())
		if err == nil {
			require.EqualValues(t, protocolVersion, w.GetVersion())
			require.True(t, w.GetLanes() >= 2 && w.GetLanes() <= maxLanes)
		} else {
			require.Nil(t, w)
		}
	})
}

// FuzzLaneHello begins a media connection with anything: it belongs to the one link there is, as one of its lanes, or
// to none.
func FuzzLaneHello(f *testing.F) {
	for _, h := range []*cascadepb.LaneHello{
		{Version: 1, Session: 7},
		{Version: 1, Session: 7, Index: 3},
		{Version: 1, Session: 7, Index: 4},
		{Version: 2, Session: 7},
		{Version: 1, Session: 8},
		{},
	} {
		f.Add(stream(h))
	}
	f.Add([]byte("\x00\x00\x00\x41"))
	f.Add([]byte("\x00\x00\x00\x02\xff\xff"))
	c := fuzzCascade(f, "self")
	p := newPeer(c, "peer")
	p.link = newLink(p, sayAll(nil), 7, false)
	p.link.establishLocked(1, 4)
	c.peers = map[mesh.NodeID]*peer{"peer": p}
	f.Fuzz(func(t *testing.T, b []byte) {
		conn := &fakeConn{streams: make(chan net.Conn, 1), done: make(chan struct{}), peer: "peer"}
		conn.streams <- sayAll(b)
		h, err := readLaneHello(t.Context(), conn)
		if err != nil {
			require.Nil(t, h)
			return
		}
		require.Nil(t, c.linkOf("other", h))
		l := c.linkOf("peer", h)
		ours := h.GetVersion() == protocolVersion && h.GetSession() == 7 && h.GetIndex() < 4
		require.Equal(t, ours, l != nil)
	})
}
