package ownership

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/meshnet"
	"github.com/meridian-sfu/meridian/internal/meshpb/ownershippb"
)

// said is a stream on which a peer said everything already; what is written to it is kept.
type said struct {
	net.Conn
	in     *bytes.Reader
	out    bytes.Buffer
	closed bool
}

func sayAll(b []byte) *said { return &said{in: bytes.NewReader(b)} }

func (s *said) Read(b []byte) (int, error)       { return s.in.Read(b) }
func (s *said) Write(b []byte) (int, error)      { return s.out.Write(b) }
func (s *said) Close() error                     { s.closed = true; return nil }
func (s *said) SetReadDeadline(time.Time) error  { return nil }
func (s *said) SetWriteDeadline(time.Time) error { return nil }

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

// FuzzRaftHello begins a stream of Raft with anything: Raft gets it, with every octet that follows the hello, when the
// hello is of this group, and nothing otherwise.
func FuzzRaftHello(f *testing.F) {
	right := stream(&ownershippb.RaftHello{Version: 1, ClusterId: "RC_x"})
	f.Add(append(right, "and Raft"...))
	f.Add(stream(&ownershippb.RaftHello{Version: 9, ClusterId: "RC_x"}))
	f.Add(stream(&ownershippb.RaftHello{ClusterId: "RC_x"}))
	f.Add(stream(&ownershippb.RaftHello{Version: 1, ClusterId: "RC_y"}))
	f.Add([]byte("\x00\x00\x04\x01"))
	f.Add([]byte("\x00\x00\x00\x02\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		l := newStreamLayer(nil, nil)
		refused := 0
		l.cluster = func() string { return "RC_x" }
		l.join = func(string) error { return nil }
		l.refused = func(string) { refused++ }
		s := sayAll(b)
		l.greet("peer", s)

		var hello ownershippb.RaftHello
		in := bytes.NewReader(b)
		err := meshnet.ReadMessage(in, maxHelloBytes, &hello)
		select {
		case c := <-l.accept:
			require.NoError(t, err)
			require.True(t, hello.GetVersion() > 0 && hello.GetClusterId() == "RC_x")
			rest, err := io.ReadAll(c)
			require.NoError(t, err)
			require.Len(t, rest, in.Len())
			require.Equal(t, "peer", c.RemoteAddr().String())
			require.Zero(t, refused)
			require.NoError(t, c.Close())
		default:
			require.True(t, err != nil || hello.GetVersion() == 0 || hello.GetClusterId() != "RC_x")
			require.Equal(t, 1, refused)
		}
		require.True(t, s.closed)
		require.NoError(t, l.Close())
	})
}

// FuzzRequest says anything to a member of the group that has no leader: one answer with a code that fits, or none.
func FuzzRequest(f *testing.F) {
	for _, c := range []command{claim("r", "a"), release("r", 9), reassign("r", 9, "b"), claim("", "a")} {
		f.Add(stream(&ownershippb.Request{Version: 1, ClusterId: "RC_x", Body: &ownershippb.Request_Command{Command: commandToProto(c)}}))
	}
	f.Add(stream(&ownershippb.Request{Version: 1, ClusterId: "RC_y", Body: &ownershippb.Request_Command{Command: commandToProto(claim("r", "a"))}}))
	for _, id := range []string{"RC_x", "RC_y", ""} {
		f.Add(stream(&ownershippb.Request{Version: 1, ClusterId: id, Body: &ownershippb.Request_Watch{Watch: &ownershippb.Watch{}}}))
		f.Add(stream(&ownershippb.Request{Version: 9, ClusterId: id, Body: &ownershippb.Request_Probe{Probe: &ownershippb.Probe{}}}))
	}
	f.Add(stream(&ownershippb.Request{Version: 1, ClusterId: "RC_x"}))
	f.Add([]byte("\x00\x00\x20\x01"))

	cfg := DefaultConfig()
	cfg.DataDir = f.TempDir()
	o, err := New(cfg, Deps{
		Net:     newMemMesh().join("self", "us"),
		Members: func() []mesh.NodeInfo { return nil }, Alive: func(mesh.NodeID) bool { return false }, AnnounceCluster: func(string) {},
	}, testLog(), prometheus.NewRegistry())
	require.NoError(f, err)
	_, transport := raft.NewInmemTransport("self")
	store := raft.NewInmemStore()
	r, err := raft.NewRaft(o.raftConfig(), o.fsm, store, store, raft.NewDiscardSnapshotStore(), transport)
	require.NoError(f, err)
	f.Cleanup(func() {
		require.NoError(f, r.Shutdown().Error())
		require.NoError(f, o.Close())
	})
	o.raft, o.ctx, o.cluster = r, f.Context(), "RC_x"
	f.Fuzz(func(t *testing.T, b []byte) {
		s := sayAll(b)
		o.serve("peer", s)
		require.True(t, s.closed)
		var req ownershippb.Request
		if meshnet.ReadMessage(bytes.NewReader(b), maxRequestBytes, &req) != nil || req.GetVersion() == 0 {
			require.Zero(t, s.out.Len())
			return
		}
		var resp *ownershippb.Response
		if req.GetWatch() != nil {
			var fr ownershippb.WatchFrame
			require.NoError(t, meshnet.ReadMessage(&s.out, maxFrameBytes, &fr))
			resp = fr.GetRefusal()
		} else {
			resp, err = readResponse(&s.out)
			require.NoError(t, err)
		}
		require.Zero(t, s.out.Len(), "one answer")
		want := ownershippb.Code_CODE_INVALID
		_, broken := commandFromProto(req.GetCommand())
		switch {
		case req.GetProbe() != nil:
			want = ownershippb.Code_CODE_OK
		case req.GetBody() == nil:
		case req.GetClusterId() != "RC_x":
			want = ownershippb.Code_CODE_FOREIGN_CLUSTER
		case req.GetWatch() != nil:
			want = ownershippb.Code_CODE_NOT_VOTER
		case broken == nil:
			want = ownershippb.Code_CODE_NOT_LEADER
		}
		require.Equal(t, want, resp.GetCode())
		require.Equal(t, "RC_x", resp.GetGroup().GetClusterId())
	})
}

// FuzzResponse answers a command with anything: it ends the call only with an entry of its own room or a reason.
func FuzzResponse(f *testing.F) {
	entry := entryToProto(sample(1).entries["room-0"])
	for code := range ownershippb.Code_name {
		f.Add(stream(&ownershippb.Response{Version: 1, Code: ownershippb.Code(code), Entry: entry, Existing: true, Index: 4}))
		f.Add(stream(&ownershippb.Response{Version: 1, Code: ownershippb.Code(code), Group: &ownershippb.Group{Leader: "b", Voters: []string{"a", "B!"}, Term: 3}}))
	}
	f.Add(stream(&ownershippb.Response{Version: 1, Code: 1, Entry: &ownershippb.Entry{Room: "room-0", RoomId: "RM_1", Owner: "a"}}))
	f.Add(stream(&ownershippb.Response{Code: 1}))
	f.Add([]byte("\x00\x00\x20\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		resp, err := readResponse(bytes.NewReader(b))
		if err != nil {
			return
		}
		require.NotZero(t, resp.GetVersion())
		require.LessOrEqual(t, len(groupFromProto(resp.GetGroup()).voters), 2*maxVoters)
		a, err := answerFromProto(resp)
		if err != nil {
			return
		}
		c := claim("room-0", "a")
		if done, err := conclude(c, a); done && err == nil {
			require.Equal(t, c.room, a.entry.Room)
			require.NotZero(t, a.entry.Epoch)
		}
	})
}
