package cascade

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/meshpb/cascadepb"
)

// between drops everything on lanes between two nodes.
func between(a, b mesh.NodeID) func(from, to mesh.NodeID, _ *fakeConn, _ []byte) bool {
	return func(from, to mesh.NodeID, _ *fakeConn, _ []byte) bool {
		return from == a && to == b || from == b && to == a
	}
}

// stopwatch films, and measures for how long nothing comes.
type stopwatch struct {
	*screen
	cam *camera
}

// filmGap writes a packet every 10 ms and returns the longest time nothing came.
func (w stopwatch) filmGap(d time.Duration) (longest time.Duration) {
	last, n := time.Now(), w.count()
	for range int(d / (10 * time.Millisecond)) {
		w.cam.write(0, keyframe)
		time.Sleep(10 * time.Millisecond)
		if now := w.count(); now != n {
			longest = max(longest, time.Since(last)-10*time.Millisecond)
			last, n = time.Now(), now
		}
	}
	return max(longest, time.Since(last)-10*time.Millisecond)
}

// The way beside waits without media until the first is in doubt, carries it then, and waits again.
func TestBesideWaitsForADoubt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(20 * time.Millisecond)
		a, b, c := startStation(t, h, "a"), startStation(t, h, "b"), startStation(t, h, "c")
		b.relaying(t)
		cam := newCamera("TR_1", false, 1)
		a.offer("TR_1", cam.Source)
		r := c.Remote(room, cam.mesh(), "a")
		defer r.Close()
		r.Beside("b", false)
		tv := stopwatch{new(screen), cam}
		r.Media().Subscribe(tv.screen).SetDemand(all(0))
		time.Sleep(time.Second)
		tv.filmGap(time.Second)
		require.Zero(t, c.status(t, "b").In.VideoPackets, "it waits")
		require.Len(t, c.status(t, "b").Flows, 1)
		require.Zero(t, c.status(t, "b").Flows[0].Encodings)
		alive, known := b.Alive("a")
		require.True(t, alive && known, "the link behind is warm")
		require.Equal(t, mesh.NodeID("b"), r.Status().Beside)

		h.setDrop(between("a", "c"))
		gap := tv.filmGap(2 * time.Second)
		require.Greater(t, gap, 150*time.Millisecond)
		require.LessOrEqual(t, gap, 250*time.Millisecond, "doubt, and a round trip over two links")
		require.Equal(t, mesh.NodeID("a"), r.Status().From, "nobody said otherwise yet")
		require.NotZero(t, cam.asked(0), "the missing must be made good")

		r.PullFrom("b") // what is beside becomes the way
		r.Beside("a", false)
		require.LessOrEqual(t, tv.filmGap(time.Second), 20*time.Millisecond)
		require.Len(t, c.status(t, "b").Flows, 1)

		h.setDrop(nil)
		require.LessOrEqual(t, tv.filmGap(3*time.Second), 20*time.Millisecond)
		asked := cam.asked(0)
		r.PullFrom("a")
		r.Beside("b", false)
		require.LessOrEqual(t, tv.filmGap(3*time.Second), 20*time.Millisecond, "back without a gap")
		require.Equal(t, asked, cam.asked(0), "and without a keyframe")
		carried := c.status(t, "b").In.VideoPackets
		tv.filmGap(time.Second)
		require.Equal(t, carried, c.status(t, "b").In.VideoPackets, "it waits again")
		require.Len(t, c.status(t, "b").Flows, 1)
		r.Beside("", false)
		time.Sleep(time.Second)
		require.Empty(t, c.status(t, "b").Flows)
	})
}

// Audio by two ways at once: the first dies, and nothing is missing.
func TestBesideAlways(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(20 * time.Millisecond)
		a, b, c := startStation(t, h, "a"), startStation(t, h, "b"), startStation(t, h, "c")
		b.relaying(t)
		mic := newCamera("TR_1", true, 1)
		a.offer("TR_1", mic.Source)
		r := c.Remote(room, mic.mesh(), "a")
		defer r.Close()
		r.Beside("b", true)
		ear := stopwatch{new(screen), mic}
		r.Media().Subscribe(ear.screen).SetDemand(all(0))
		time.Sleep(time.Second)
		ear.filmGap(time.Second)
		h.setDrop(between("a", "c"))
		require.LessOrEqual(t, ear.filmGap(time.Second), 40*time.Millisecond)
		h.setDrop(nil)
		require.LessOrEqual(t, ear.filmGap(time.Second), 40*time.Millisecond)
		time.Sleep(time.Second)
		require.Equal(t, 300, ear.count(), "every packet, once")
	})
}

// Two nodes that would be each other's spare way: who needs it, gets it.
func TestBesideGivesWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(20 * time.Millisecond)
		a, b, c := startStation(t, h, "a"), startStation(t, h, "b"), startStation(t, h, "c")
		b.relaying(t)
		c.relaying(t)
		cam := newCamera("TR_1", true, 1)
		a.offer("TR_1", cam.Source)
		atB, atC := b.Remote(room, cam.mesh(), "a"), c.Remote(room, cam.mesh(), "a")
		defer atB.Close()
		defer atC.Close()
		tv := stopwatch{new(screen), cam}
		atB.Media().Subscribe(new(screen)).SetDemand(all(0))
		atC.Media().Subscribe(tv.screen).SetDemand(all(0))
		atB.Beside("c", false)
		time.Sleep(time.Second)
		require.Len(t, b.status(t, "c").Flows, 1)
		h.setDrop(between("a", "c"))
		atC.PullFrom("b")
		time.Sleep(time.Second)
		tv.filmGap(time.Second)
		require.True(t, atC.Status().Flowing)
		require.Empty(t, atB.Status().Beside)
	})
}

// A node that hears nobody does not call anybody dead; the others call it so.
func TestCutOffFromEverybody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(20 * time.Millisecond)
		a, b, c := startStation(t, h, "a"), startStation(t, h, "b"), startStation(t, h, "c")
		for _, s := range []*station{a, b, c} {
			for _, id := range []mesh.NodeID{"a", "b", "c"} {
				defer s.Keep(id)()
			}
		}
		time.Sleep(2 * time.Second)
		alive := func(s *station, of mesh.NodeID) bool {
			up, known := s.Alive(of)
			return up && known
		}
		h.setDrop(func(from, to mesh.NodeID, _ *fakeConn, _ []byte) bool { return from == "a" || to == "a" })
		time.Sleep(2 * time.Second)
		require.True(t, alive(a, "b") && alive(a, "c"), "it is we who are cut off")
		require.False(t, alive(b, "a") || alive(c, "a"))
		require.True(t, alive(b, "c"))
		h.setDrop(nil)
		time.Sleep(5 * time.Second)
		require.True(t, alive(a, "b") && alive(a, "c") && alive(b, "a") && alive(c, "a"))
		require.Len(t, a.linkEvents(), 2, "up, and never down")
	})
}

// Five packets in a hundred lost in bursts, and jitter: hardly ever a reason to doubt a link, with audio alone on it.
func TestLossIsNoDoubt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(40 * time.Millisecond)
		paths := map[mesh.NodeID]*gilbert{"a": newGilbert(1, 0.05, 4), "b": newGilbert(2, 0.05, 4), "c": newGilbert(3, 0.05, 4)}
		h.setDrop(func(from, _ mesh.NodeID, _ *fakeConn, _ []byte) bool { return paths[from].lost() })
		n := time.Duration(0)
		h.jitter = func(*fakeConn) time.Duration {
			n = (n*7 + 13*time.Millisecond) % (30 * time.Millisecond)
			return n
		}
		a, b, c := startStation(t, h, "a"), startStation(t, h, "b"), startStation(t, h, "c")
		b.relaying(t)
		mic := newCamera("TR_1", true, 1)
		a.offer("TR_1", mic.Source)
		r := c.Remote(room, mic.mesh(), "a")
		defer r.Close()
		r.Beside("b", false)
		r.Media().Subscribe(new(screen)).SetDemand(all(0))
		time.Sleep(time.Second)
		for range 60 * 50 {
			mic.write(0)
			time.Sleep(20 * time.Millisecond)
		}
		require.Equal(t, mesh.NodeID("b"), r.Status().Beside)
		require.LessOrEqual(t, c.status(t, "b").In.AudioPackets, uint64(150), "of 3000")
	})
}

// Nodes say how their other links are, and what they say is bounded.
func TestLinkState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(20 * time.Millisecond)
		a, b := startStation(t, h, "a"), startStation(t, h, "b")
		startStation(t, h, "c")
		defer a.Keep("b")()
		defer b.Keep("c")()
		defer a.Keep("c")()
		leg := func() (l Leg) {
			for _, l = range a.Legs() {
				if l.From == "b" && l.To == "c" {
					return l
				}
			}
			return Leg{}
		}
		time.Sleep(3 * time.Second)
		require.InDelta(t, 40, leg().RTT.Milliseconds(), 3)
		require.False(t, leg().Down)
		h.setDrop(between("b", "c"))
		time.Sleep(time.Second)
		require.True(t, leg().Down)
		h.setDrop(nil)
		time.Sleep(2 * time.Second)
		require.False(t, leg().Down)
		time.Sleep(10 * time.Second)
		require.LessOrEqual(t, leg().Age, tellAnyway+100*time.Millisecond)

		l := a.link("b")
		require.False(t, l.hear(&cascadepb.LinkState{Links: make([]*cascadepb.NodeLink, maxTold+1)}))
		require.False(t, l.hear(&cascadepb.LinkState{Links: []*cascadepb.NodeLink{{Node: "not a node!"}}}))
		require.True(t, l.hear(&cascadepb.LinkState{Links: []*cascadepb.NodeLink{{Node: "z", LossIn: 1 << 31, Rtt: 1 << 31}}}))
		for _, l := range a.Legs() {
			require.LessOrEqual(t, l.LossIn, 1.0)
		}
	})
}

func (s *station) link(to mesh.NodeID) *link {
	s.Cascade.mu.Lock()
	defer s.Cascade.mu.Unlock()
	return s.peers[to].link
}
