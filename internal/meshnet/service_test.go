package meshnet

import (
	"context"
	"io"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

// echoService answers each message with the asker's name before it.
func echoService(peer mesh.NodeID, s *Stream) {
	defer s.Close()
	for {
		var m wrapperspb.StringValue
		if ReadMessage(s, 1<<16, &m) != nil {
			return
		}
		m.Value = string(peer) + ":" + m.Value
		if WriteMessage(s, &m) != nil {
			return
		}
	}
}

func exchange(t *testing.T, n *Network, peer mesh.NodeID, say string) string {
	t.Helper()
	s, err := n.OpenService(testCtx(t), peer, "echo")
	require.NoError(t, err)
	defer s.Close()
	require.Equal(t, peer, s.Peer())
	require.NoError(t, s.SetDeadline(time.Now().Add(patience)))
	require.NoError(t, WriteMessage(s, wrapperspb.String(say)))
	var m wrapperspb.StringValue
	require.NoError(t, ReadMessage(s, 1<<16, &m))
	return m.Value
}

// pair makes two nodes that know each other and serve "echo" and "hang".
func pair(t *testing.T) (a, b *Network, hung chan *Stream) {
	t.Helper()
	ca := testCA(t)
	hung = make(chan *Stream, 1024)
	var mu sync.Mutex
	addrs := map[mesh.NodeID]netip.AddrPort{}
	setup := func(n *Network) {
		n.HandleService("echo", echoService)
		n.HandleService("hang", func(_ mesh.NodeID, s *Stream) { hung <- s })
		n.SetResolver(func(id mesh.NodeID) (netip.AddrPort, bool) {
			mu.Lock()
			defer mu.Unlock()
			ap, ok := addrs[id]
			return ap, ok
		})
	}
	a, b = testNet(t, ca, "a", setup), testNet(t, ca, "b", setup)
	mu.Lock()
	addrs["a"], addrs["b"] = a.LocalAddr(), b.LocalAddr()
	mu.Unlock()
	return a, b, hung
}

func TestServicesBothWaysOverOneConnection(t *testing.T) {
	a, b, _ := pair(t)
	require.Equal(t, "a:one", exchange(t, a, "b", "one"))
	require.Equal(t, "b:two", exchange(t, b, "a", "two"))
	require.Equal(t, "a:three", exchange(t, a, "b", "three"))
	require.Equal(t, 1, dialled(a, ALPNControl))
	require.Equal(t, 0, dialled(b, ALPNControl))
}

func TestServiceOnItself(t *testing.T) {
	a, _, _ := pair(t)
	require.Equal(t, "a:me", exchange(t, a, "a", "me"))
	require.Equal(t, "a:again", exchange(t, a, "a", "again"))
	require.Equal(t, 1, dialled(a, ALPNControl))
}

func TestServiceOnItselfUnspecifiedAddress(t *testing.T) {
	for _, listen := range []string{"0.0.0.0:0", "[::]:0"} {
		cfg := testConfig()
		cfg.Listen = netip.MustParseAddrPort(listen)
		n := runNet(t, cfg, testIdentity(t, testCA(t), "a"), func(n *Network) { n.HandleService("echo", echoService) })
		require.Equal(t, "a:me", exchange(t, n, "a", "me"))
	}
}

func TestUnknownServiceAndNode(t *testing.T) {
	a, b, _ := pair(t)
	s, err := a.OpenService(testCtx(t), "b", "nothing")
	require.NoError(t, err)
	require.NoError(t, s.SetDeadline(time.Now().Add(patience)))
	_, err = s.Read(make([]byte, 1))
	require.ErrorIs(t, err, ErrUnknownService)
	require.Equal(t, "a:x", exchange(t, a, "b", "x"), "nobody else notices")
	_, err = a.OpenService(testCtx(t), "nobody", "echo")
	require.ErrorIs(t, err, ErrUnknownNode)
	_, err = a.OpenService(testCtx(t), "b", "")
	require.Error(t, err)

	// A header that is none.
	c, err := a.pool.get(testCtx(t), "b")
	require.NoError(t, err)
	s, err = c.OpenStream(testCtx(t))
	require.NoError(t, err)
	_, err = s.Write([]byte{9, 9, 9})
	require.NoError(t, err)
	_, err = s.Read(make([]byte, 1))
	var re *ResetError
	require.ErrorAs(t, err, &re)
	require.Equal(t, uint64(CodeBadHeader), re.Code)
	require.True(t, re.Remote)
	_ = b
}

func TestHungStreamsBlockNobody(t *testing.T) {
	a, _, hung := pair(t)
	for range 50 {
		s, err := a.OpenService(testCtx(t), "b", "hang")
		require.NoError(t, err)
		_, err = s.Write(make([]byte, 1000)) // nobody reads it
		require.NoError(t, err)
	}
	require.Equal(t, "a:alive", exchange(t, a, "b", "alive"))
	for range 50 {
		(<-hung).Reset(17)
	}
}

func TestConcurrentOpensShareOneDial(t *testing.T) {
	a, _, _ := pair(t)
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() { require.NoError(t, openClose(a, "b")) })
	}
	wg.Wait()
	require.Equal(t, 1, dialled(a, ALPNControl))
}

func openClose(n *Network, peer mesh.NodeID) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	s, err := n.OpenService(ctx, peer, "echo")
	if err != nil {
		return err
	}
	return s.Close()
}

func TestSimultaneousDials(t *testing.T) {
	a, b, _ := pair(t)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() { require.NoError(t, openClose(a, "b")) })
		wg.Go(func() { require.NoError(t, openClose(b, "a")) })
	}
	wg.Wait()
	require.Equal(t, "a:x", exchange(t, a, "b", "x"))
	require.Equal(t, "b:y", exchange(t, b, "a", "y"))
	require.LessOrEqual(t, dialled(a, ALPNControl)+dialled(b, ALPNControl), 2)
}

func TestRedialWhenDead(t *testing.T) {
	a, _, _ := pair(t)
	require.Equal(t, "a:1", exchange(t, a, "b", "1"))
	c, err := a.pool.get(testCtx(t), "b")
	require.NoError(t, err)
	require.NoError(t, c.Close(CodeOK, "test"))
	<-c.Done()
	require.Equal(t, "a:2", exchange(t, a, "b", "2"))
	require.Equal(t, 2, dialled(a, ALPNControl))
}

// A peer that moved is dialled anew, although its old connection still seems to live.
func TestPeerMoves(t *testing.T) {
	ca := testCA(t)
	serve := func(n *Network) { n.HandleService("echo", echoService) }
	old, moved := testNet(t, ca, "b", serve), testNet(t, ca, "b", serve)
	var at atomic.Pointer[Network]
	at.Store(old)
	a := testNet(t, ca, "a", func(n *Network) {
		n.SetResolver(func(mesh.NodeID) (netip.AddrPort, bool) { return at.Load().LocalAddr(), true })
	})
	require.Equal(t, "a:1", exchange(t, a, "b", "1"))
	at.Store(moved)
	require.Equal(t, "a:2", exchange(t, a, "b", "2"))
	require.Equal(t, 1, accepted(moved, ALPNControl))
}

func TestStreamEnds(t *testing.T) {
	a, _, hung := pair(t)
	s, err := a.OpenService(testCtx(t), "b", "hang")
	require.NoError(t, err)
	far := <-hung
	_, err = s.Write([]byte("abc"))
	require.NoError(t, err)
	require.NoError(t, s.CloseWrite())
	got, err := io.ReadAll(far)
	require.NoError(t, err)
	require.Equal(t, "abc", string(got))
	_, err = far.Write([]byte("def"))
	require.NoError(t, err)
	require.NoError(t, far.Close())
	require.NoError(t, far.Close())
	got, err = io.ReadAll(s)
	require.NoError(t, err)
	require.Equal(t, "def", string(got))
	require.NoError(t, s.Close())
	_, err = s.Read(make([]byte, 1))
	require.Error(t, err)

	// Deadlines, as net.Conn has them.
	s, err = a.OpenService(testCtx(t), "b", "hang")
	require.NoError(t, err)
	far = <-hung
	require.NoError(t, s.SetReadDeadline(time.Now().Add(-time.Second)))
	_, err = s.Read(make([]byte, 1))
	var to interface{ Timeout() bool }
	require.ErrorAs(t, err, &to)
	require.True(t, to.Timeout())

	// Close aborts a Write that nobody drains.
	blocked := make(chan error, 1)
	go func() { _, err := s.Write(make([]byte, 64<<20)); blocked <- err }()
	_, err = io.ReadFull(far, make([]byte, 10))
	require.NoError(t, err)
	require.NoError(t, s.Close())
	require.ErrorIs(t, <-blocked, ErrClosed)
	far.Reset(20)
}

// Streams that were closed give their credit back: more than Config.MaxStreams can be opened one after the other.
func TestClosedStreamsGiveCreditBack(t *testing.T) {
	ca := testCA(t)
	cfg := testConfig()
	cfg.MaxStreams = 4
	b := runNet(t, cfg, testIdentity(t, ca, "b"), func(n *Network) {
		n.HandleService("echo", func(_ mesh.NodeID, s *Stream) { _ = s.Close() })
		n.HandleService("nothing-read", func(_ mesh.NodeID, s *Stream) { s.Reset(16) })
	})
	a := testNet(t, ca, "a", func(n *Network) {
		n.SetResolver(resolver(map[mesh.NodeID]netip.AddrPort{"b": b.LocalAddr()}))
	})
	ctx := testCtx(t)
	for range 20 {
		for _, name := range []string{"echo", "nothing-read", "unknown"} {
			s, err := a.OpenService(ctx, "b", name)
			require.NoError(t, err)
			require.NoError(t, s.Close())
		}
	}
}

func TestPoolEvicts(t *testing.T) {
	a, b, _ := pair(t)
	ctx := testCtx(t)
	var conns []*Conn
	for range controlsPerPeer + 1 {
		c, err := a.Dial(ctx, b.LocalAddr(), "b", ALPNControl)
		require.NoError(t, err)
		conns = append(conns, c)
	}
	ended := make(chan int, len(conns))
	for i, c := range conns {
		go func() { <-c.Done(); ended <- i }()
	}
	select {
	case <-ended:
	case <-ctx.Done():
		t.Fatal("a peer may pile up control connections")
	}
}
