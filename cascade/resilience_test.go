package cascade

import (
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

func TestKeepMakesOneLinkWithLiveness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(30 * time.Millisecond)
		a, b := startStation(t, h, "a"), startStation(t, h, "b")
		_, known := a.Alive("b")
		require.False(t, known)
		releaseA, releaseB := a.Keep("b"), b.Keep("a") // both open at once
		time.Sleep(time.Second)
		for _, s := range []struct {
			*station
			peer mesh.NodeID
		}{{a, "b"}, {b, "a"}} {
			alive, known := s.Alive(s.peer)
			require.True(t, alive && known)
			st := s.status(t, s.peer)
			require.Equal(t, 2, st.Lanes)
			require.InDelta(t, 60, st.RTT.Milliseconds(), 5)
			require.Equal(t, []linkEvent{{s.peer, true}}, s.linkEvents())
			require.EqualValues(t, 1, st.linksOpened)
		}
		releaseA()
		releaseA()
		time.Sleep(2 * time.Minute)
		alive, _ := a.Alive("b")
		require.True(t, alive, "the other side keeps it")
		releaseB()
		time.Sleep(2 * time.Minute)
		_, known = b.Alive("a")
		require.False(t, known, "idle: closed")
		require.Empty(t, a.Links())
	})
}

func TestBlackHoleIsNoticedAndHeals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(20 * time.Millisecond)
		a, b := startStation(t, h, "a"), startStation(t, h, "b")
		defer a.Keep("b")()
		cam := newCamera("TR_1", false, 1)
		a.offer("TR_1", cam.Source)
		r := b.Remote(room, cam.mesh(), "a")
		defer r.Close()
		tv := new(screen)
		r.Media().Subscribe(tv).SetDemand(all(0))
		time.Sleep(time.Second)

		h.setDrop(func(_, _ mesh.NodeID, _ *fakeConn, _ []byte) bool { return true })
		time.Sleep(200 * time.Millisecond)
		alive, _ := a.Alive("b")
		require.True(t, alive, "a hiccup is not a death")
		time.Sleep(600 * time.Millisecond)
		alive, known := a.Alive("b")
		require.True(t, !alive && known)
		alive, _ = b.Alive("a")
		require.False(t, alive)

		h.setDrop(nil)
		time.Sleep(500 * time.Millisecond)
		alive, _ = a.Alive("b")
		require.True(t, alive)
		require.Equal(t, []linkEvent{{"b", true}, {"b", false}, {"b", true}}, a.linkEvents())
		film(cam, 0, 10)
		time.Sleep(100 * time.Millisecond)
		require.Equal(t, 10, tv.count(), "the flow goes on")

		h.setDrop(func(_, _ mesh.NodeID, _ *fakeConn, _ []byte) bool { return true })
		time.Sleep(10 * time.Second)
		h.setDrop(nil)
		time.Sleep(5 * time.Second)
		film(cam, 0, 10)
		time.Sleep(100 * time.Millisecond)
		require.Equal(t, 20, tv.count(), "after a long outage by a new link")
	})
}

func TestOneSilentLaneIsAvoided(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(20 * time.Millisecond)
		a, b := startStation(t, h, "a"), startStation(t, h, "b")
		cam := newCamera("TR_1", false, 1)
		a.offer("TR_1", cam.Source)
		r := b.Remote(room, cam.mesh(), "a")
		defer r.Close()
		tv := new(screen)
		r.Media().Subscribe(tv).SetDemand(all(0))
		time.Sleep(time.Second)
		var dead *fakeConn
		dropped := 0
		h.setDrop(func(from, _ mesh.NodeID, c *fakeConn, b []byte) bool {
			if dead == nil && from == "a" {
				dead = c
			}
			if c == dead && len(b) > 100 {
				dropped++
			}
			return c == dead || c.other == dead
		})
		time.Sleep(500 * time.Millisecond) // silent by now
		film(cam, 0, 50)
		time.Sleep(300 * time.Millisecond)
		alive, _ := b.Alive("a")
		require.True(t, alive)
		require.Zero(t, dropped)
		require.Equal(t, 50, tv.count())
	})
}

func TestLanesAndLinkComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(10 * time.Millisecond)
		a, b := startStation(t, h, "a"), startStation(t, h, "b")
		cam := newCamera("TR_1", false, 1)
		a.offer("TR_1", cam.Source)
		r := b.Remote(room, cam.mesh(), "a")
		defer r.Close()
		tv := new(screen)
		r.Media().Subscribe(tv).SetDemand(all(0))
		time.Sleep(500 * time.Millisecond)

		a.net.breakLanes()
		time.Sleep(500 * time.Millisecond)
		require.Equal(t, 2, b.status(t, "a").Lanes, "dialled again")
		film(cam, 0, 5)
		time.Sleep(100 * time.Millisecond)
		require.Equal(t, 5, tv.count())

		b.net.breakControl()
		time.Sleep(time.Second)
		film(cam, 0, 5)
		time.Sleep(100 * time.Millisecond)
		require.Equal(t, 10, tv.count(), "a new link, a new flow")
		require.EqualValues(t, 2, b.status(t, "a").linksOpened)

		asked := cam.asked(0)
		a.stop()
		time.Sleep(2 * time.Second)
		_, known := b.Alive("a")
		require.False(t, known)
		a = startStation(t, h, "a") // the same node, another run
		a.offer("TR_1", cam.Source)
		time.Sleep(4 * time.Second)
		film(cam, 0, 5)
		time.Sleep(100 * time.Millisecond)
		require.Equal(t, 15, tv.count())
		require.Greater(t, cam.asked(0), asked, "a flow that comes back asks for a keyframe")
	})
}

func TestRelayOverThreeNodesAndLoopRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(10 * time.Millisecond)
		a, b, c := startStation(t, h, "a"), startStation(t, h, "b"), startStation(t, h, "c")
		cam := newCamera("TR_1", false, 1)
		a.offer("TR_1", cam.Source)
		atB := b.Remote(room, cam.mesh(), "a")
		defer atB.Close()
		b.offer("TR_1", atB.Media()) // b hands on what it receives
		atC := c.Remote(room, cam.mesh(), "b")
		defer atC.Close()
		tv := new(screen)
		atC.Media().Subscribe(tv).SetDemand(all(0))
		time.Sleep(time.Second)
		cam.Stream(0).SetClock(rtpstream.SenderClock{NTP: 5})
		film(cam, 0, 10)
		time.Sleep(300 * time.Millisecond)
		require.Equal(t, 10, tv.count(), "the cascade recurses")
		require.EqualValues(t, 5, atC.Media().Stream(0).Clock().NTP)

		// A ring: b receives from c what c receives from b.
		ringB := b.Remote(room, mesh.Source{ID: "TR_ring", Kind: mesh.Video, Encodings: make([]mesh.Encoding, 1)}, "c")
		defer ringB.Close()
		ringC := c.Remote(room, mesh.Source{ID: "TR_ring", Kind: mesh.Video, Encodings: make([]mesh.Encoding, 1)}, "b")
		defer ringC.Close()
		b.offer("TR_ring", ringB.Media())
		c.offer("TR_ring", ringC.Media())
		ringB.Media().Subscribe(new(screen)).SetDemand(all(0))
		ringC.Media().Subscribe(new(screen)).SetDemand(all(0))
		time.Sleep(time.Second)
		require.NotZero(t, b.status(t, "c").flowsRefused+c.status(t, "b").flowsRefused)
		for _, f := range b.status(t, "c").Flows {
			require.NotEqual(t, mesh.SourceID("TR_ring"), f.Source)
		}
	})
}

func TestLongRingIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(10 * time.Millisecond)
		names := []mesh.NodeID{"a", "b", "c"}
		var stations []*station
		for _, n := range names {
			stations = append(stations, startStation(t, h, n))
		}
		src := mesh.Source{ID: "TR_ring", Kind: mesh.Video, Encodings: make([]mesh.Encoding, 1)}
		for i, s := range stations { // a pulls from b, b from c, c from a, all at once
			r := s.Remote(room, src, names[(i+1)%3])
			defer r.Close()
			s.offer("TR_ring", r.Media())
			r.Media().Subscribe(new(screen)).SetDemand(all(0))
		}
		time.Sleep(time.Second)
		var refused uint64
		for i, s := range stations {
			refused += s.status(t, names[(i+1)%3]).flowsRefused
		}
		require.NotZero(t, refused)
	})
}

func TestManyFlowsSurviveANewLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const flows = 1500
		h := newHub(10 * time.Millisecond)
		a, b := startStation(t, h, "a"), startStation(t, h, "b")
		cam := newCamera("TR_1", true, 1) // one source under many names
		for i := range flows {
			id := mesh.SourceID("TR_" + strconv.Itoa(i))
			a.offer(id, cam.Source)
			src := cam.mesh()
			src.ID = id
			r := b.Remote(room, src, "a")
			defer r.Close()
			r.Media().Subscribe(new(screen)).SetDemand(all(0))
		}
		time.Sleep(5 * time.Second)
		require.Equal(t, flows, cam.Subscribers())
		b.net.breakControl()
		time.Sleep(5 * time.Second)
		require.Equal(t, flows, cam.Subscribers())
		require.EqualValues(t, 2, b.status(t, "a").linksOpened, "no link was lost to the crowd")
	})
}
