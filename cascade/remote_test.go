package cascade

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

// relaying makes a station carry on what a third node produces.
func (s *station) relaying(t *testing.T) (asked func() []RelayRequest) {
	var mu sync.Mutex
	var requests []RelayRequest
	s.deps.Relay = func(q RelayRequest) (*rtpstream.Source, bool) {
		r := s.Remote(q.Room, q.Source, q.Origin)
		t.Cleanup(r.Close)
		mu.Lock()
		defer mu.Unlock()
		requests = append(requests, q)
		return r.Media(), true
	}
	return func() []RelayRequest {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(requests)
	}
}

// filmFor writes a packet every 10 ms, and waits for the last one to have come.
func filmFor(cam *camera, d time.Duration) {
	for range int(d / (10 * time.Millisecond)) {
		cam.write(0)
		time.Sleep(10 * time.Millisecond)
	}
	time.Sleep(200 * time.Millisecond)
}

// A source moves from the direct way to a relay and back, and nobody notices.
func TestPullFromChangesWithoutAGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(20 * time.Millisecond)
		a, b, c := startStation(t, h, "a"), startStation(t, h, "b"), startStation(t, h, "c")
		asked := b.relaying(t)
		cam := newCamera("TR_1", false, 2)
		a.offer("TR_1", cam.Source)
		r := c.Remote(room, cam.mesh(), "a")
		defer r.Close()
		tv := new(screen)
		r.Media().Subscribe(tv).SetDemand(all(0))
		time.Sleep(time.Second)
		filmFor(cam, time.Second)

		r.PullFrom("b")
		filmFor(cam, 2*time.Second)
		require.Equal(t, mesh.NodeID("b"), r.Status().From)
		require.True(t, r.Status().Flowing)
		require.Empty(t, c.status(t, "a").Flows, "the direct way is over")
		require.Zero(t, c.status(t, "b").keyframesOut, "who misses nothing needs no keyframe")
		require.Len(t, asked(), 1)
		require.Equal(t, mesh.NodeID("a"), asked()[0].Origin)
		require.Equal(t, mesh.NodeID("c"), asked()[0].Peer)
		require.Len(t, asked()[0].Source.Encodings, 2)
		require.Equal(t, "video/VP8", asked()[0].Source.MIMEType)
		require.Len(t, b.status(t, "a").Flows, 1)

		r.PullFrom("a")
		filmFor(cam, 2*time.Second)
		require.Empty(t, c.status(t, "b").Flows)
		require.Equal(t, 500, tv.count(), "everything once")
	})
}

// The node a source is pulled from dies; another one is chosen.
func TestPullFromAfterDeath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(20 * time.Millisecond)
		a, b, c := startStation(t, h, "a"), startStation(t, h, "b"), startStation(t, h, "c")
		b.relaying(t)
		cam := newCamera("TR_1", true, 1)
		a.offer("TR_1", cam.Source)
		r := c.Remote(room, cam.mesh(), "a")
		defer r.Close()
		r.PullFrom("b")
		tv := new(screen)
		r.Media().Subscribe(tv).SetDemand(all(0))
		time.Sleep(time.Second)
		filmFor(cam, time.Second)
		require.Equal(t, 100, tv.count())
		b.stop()
		r.PullFrom("a")
		time.Sleep(time.Second)
		filmFor(cam, time.Second)
		require.Equal(t, 200, tv.count())
		require.Equal(t, 1, cam.Subscribers())
	})
}

// A node that does not relay is a refusal to be seen.
func TestPullFromARefuser(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(20 * time.Millisecond)
		a, _, c := startStation(t, h, "a"), startStation(t, h, "b"), startStation(t, h, "c")
		cam := newCamera("TR_1", true, 1)
		a.offer("TR_1", cam.Source)
		r := c.Remote(room, cam.mesh(), "a")
		tv := new(screen)
		r.Media().Subscribe(tv).SetDemand(all(0))
		time.Sleep(time.Second)
		r.PullFrom("b")
		filmFor(cam, 10*time.Second)
		require.NotZero(t, r.Status().Refusals)
		require.False(t, r.Status().Flowing)
		require.Equal(t, 1000, tv.count(), "the old way is kept while the new one is refused")
		r.PullFrom("c") // itself: nothing happens
		r.PullFrom("a")
		filmFor(cam, 2*time.Second)
		require.Equal(t, 1200, tv.count())
		require.Zero(t, r.Status().Refusals)
		r.Close()
		time.Sleep(time.Second)
		require.Zero(t, cam.Subscribers())
		r.PullFrom("b")
		c.Cascade.mu.Lock()
		defer c.Cascade.mu.Unlock()
		require.Empty(t, c.remotes)
		require.Empty(t, c.byMedia)
	})
}

// A relay that cannot go on says so to who pulls from it, and serves again when it is asked again.
func TestShed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(20 * time.Millisecond)
		a, b, c := startStation(t, h, "a"), startStation(t, h, "b"), startStation(t, h, "c")
		b.relaying(t)
		cam := newCamera("TR_1", true, 1)
		a.offer("TR_1", cam.Source)
		r := c.Remote(room, cam.mesh(), "a")
		defer r.Close()
		r.PullFrom("b")
		tv := new(screen)
		r.Media().Subscribe(tv).SetDemand(all(0))
		time.Sleep(time.Second)
		filmFor(cam, time.Second)
		atB := b.Remote(room, cam.mesh(), "a")
		defer atB.Close()
		require.Equal(t, []mesh.NodeID{"c"}, atB.Status().To)
		atB.Shed()
		time.Sleep(50 * time.Millisecond)
		require.Equal(t, 1, r.Status().Refusals)
		require.Empty(t, atB.Status().To)
		time.Sleep(3 * time.Second)
		require.Zero(t, r.Status().Refusals)
		require.Equal(t, []mesh.NodeID{"c"}, atB.Status().To)
		filmFor(cam, time.Second)
		require.Equal(t, 200, tv.count())
	})
}

// Whoever names a wrong origin gets a source of its own, and nobody else does.
func TestRemoteOfAWrongOrigin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startStation(t, newHub(20*time.Millisecond), "c")
		cam := newCamera("TR_1", true, 1)
		right, wrong, again := c.Remote(room, cam.mesh(), "a"), c.Remote(room, cam.mesh(), "b"), c.Remote(room, cam.mesh(), "a")
		require.NotSame(t, right.Media(), wrong.Media())
		require.Same(t, right.Media(), again.Media())
		right.Close()
		wrong.Close()
		again.Close()
		time.Sleep(time.Second)
		c.Cascade.mu.Lock()
		defer c.Cascade.mu.Unlock()
		require.Empty(t, c.remotes)
		require.Empty(t, c.peers)
	})
}
