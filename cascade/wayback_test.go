package cascade

import (
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

// handMoved is a source of node a with links to a and b, and no goroutine but the test's: it does the steps of the peers
// in the order it wants.
type handMoved struct {
	*Cascade
	cam    *camera
	remote *remote
}

func newHandMoved(t *testing.T) *handMoved {
	t.Helper()
	c, err := New(DefaultConfig(), Deps{
		Net: &fakeNet{hub: newHub(0), id: "self"}, Resolve: resolveAny,
		Local: func(mesh.NodeID, mesh.RoomName, mesh.SourceID) (*rtpstream.Source, bool) { return nil, false },
	}, quiet(), nil)
	require.NoError(t, err)
	h := &handMoved{Cascade: c, cam: newCamera("TR_1", false, 1)}
	h.remote = c.Remote(room, h.cam.mesh(), "a").remote
	h.remote.media.Subscribe(new(screen)).SetDemand(all(0))
	for _, id := range []mesh.NodeID{"a", "b"} {
		t.Cleanup(c.Keep(id))
		ours, theirs := net.Pipe()
		t.Cleanup(func() { _ = ours.Close() })
		p := c.peers[id]
		p.link = newLink(p, theirs, 1, false)
		t.Cleanup(p.link.abandon)
		c.mu.Lock()
		p.link.establishLocked(1, 1)
		c.mu.Unlock()
	}
	return h
}

// move does a step of a peer; what it opens is accepted.
func (h *handMoved) move(id mesh.NodeID) {
	h.peers[id].step(h.now())
	for pl := range h.peers[id].pulls {
		pl.accepted()
	}
}

// comes is a packet by a way, which the peer notices.
func (h *handMoved) comes(pl *pull) {
	p := h.cam.packet(0)
	pl.write(pl.media.Stream(0), p)
	p.Release()
	h.move(pl.peer.id)
}

// ways are where the source comes from, and where it came from until that has settled.
func (h *handMoved) ways() (via, old mesh.NodeID) {
	if h.remote.old != nil {
		old = h.remote.old.peer.id
	}
	return h.remote.via.peer.id, old
}

// detour makes it come from b, with a beside it, and lets some time pass.
func (h *handMoved) detour(t *testing.T, always bool) {
	t.Helper()
	h.move("a")
	h.comes(h.remote.via)
	h.remote.pullFrom("b")
	h.remote.beside("a", always)
	h.move("b")
	h.comes(h.remote.via)
	time.Sleep(switchOverlap)
	h.move("b")
	h.move("a")
	via, old := h.ways()
	require.Equal(t, [2]mesh.NodeID{"b", ""}, [2]mesh.NodeID{via, old})
	require.NotNil(t, h.remote.spare)
	time.Sleep(switchPatience + time.Second)
	h.move("a")
}

// settles checks that the way before ends once the new one has carried media for a while, and not before.
func (h *handMoved) settles(t *testing.T) {
	t.Helper()
	both := func() {
		t.Helper()
		via, old := h.ways()
		require.Equal(t, [2]mesh.NodeID{"a", "b"}, [2]mesh.NodeID{via, old}, "both ways run")
	}
	h.move("a")
	both()
	time.Sleep(2 * switchOverlap)
	h.move("a")
	both()
	h.comes(h.remote.via)
	time.Sleep(switchOverlap - time.Millisecond)
	h.move("a")
	both()
	time.Sleep(time.Millisecond)
	h.move("a")
	via, old := h.ways()
	require.Equal(t, [2]mesh.NodeID{"a", ""}, [2]mesh.NodeID{via, old}, "it has settled")
}

// The peer's goroutine has just read that a way waits when it becomes the way: what is asked of it then is not that of a
// way that was open and silent all the time.
func TestWayBackDuringAStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHandMoved(t)
		h.detour(t, false)
		p := h.peers["a"]
		l, _, _, _ := p.collect()
		require.Len(t, p.steps, 1)
		require.True(t, p.steps[0].idle, "it waits")
		h.remote.pullFrom("a")
		h.remote.beside("b", false)
		p.steps[0].pull.step(h.now(), l, p.steps[0])
		h.settles(t)
		require.Equal(t, mesh.NodeID("b"), h.remote.spare.peer.id)
	})
}

// A way that always runs beside the first, but has not carried anything lately, is no proof of itself.
func TestWayBackToASilentTwin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHandMoved(t)
		h.detour(t, true)
		h.remote.pullFrom("a")
		h.remote.beside("b", true)
		h.settles(t)
	})
}

// A way that stays silent is taken for that of a silent source, counted from when it became the way.
func TestWayBackIsPatient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHandMoved(t)
		h.detour(t, true)
		h.remote.pullFrom("a")
		h.move("a")
		time.Sleep(switchPatience - time.Millisecond)
		h.move("a")
		_, old := h.ways()
		require.Equal(t, mesh.NodeID("b"), old)
		time.Sleep(time.Millisecond)
		h.move("a")
		_, old = h.ways()
		require.Empty(t, old)
	})
}

// A step that decided when the way was another one, and is back again, ends nothing.
func TestWayBackAndForthDuringAStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHandMoved(t)
		h.detour(t, true)
		h.remote.pullFrom("a")
		h.move("a")
		h.comes(h.remote.via)
		time.Sleep(switchOverlap)
		p := h.peers["a"]
		l, _, _, _ := p.collect()
		h.remote.pullFrom("b")
		h.remote.pullFrom("a")
		p.steps[0].pull.step(h.now(), l, p.steps[0])
		h.settles(t)
	})
}
