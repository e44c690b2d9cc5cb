package cascade

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/meshpb/cascadepb"
	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

func TestWithheldCountsWhatIsLeftOut(t *testing.T) {
	type step struct {
		seq      uint64
		upstream uint8 // left out before it came here
		out      bool
		before   uint8
	}
	for name, tc := range map[string]struct {
		audio bool
		steps []step
	}{
		"nothing":            {false, []step{{seq: 1}, {seq: 2}, {seq: 4}}},
		"runs":               {false, []step{{seq: 1}, {seq: 2, out: true}, {seq: 3, out: true}, {seq: 4, before: 2}, {seq: 5, out: true}, {seq: 6, before: 1}}},
		"loss stays a loss":  {false, []step{{seq: 1, out: true}, {seq: 3, before: 0}, {seq: 4, out: true}, {seq: 6, out: true}, {seq: 7, before: 1}}},
		"but not of audio":   {true, []step{{seq: 1, out: true}, {seq: 3, out: true}, {seq: 5, before: 4}, {seq: 7}}},
		"on top of upstream": {false, []step{{seq: 1}, {seq: 4, upstream: 2, out: true}, {seq: 6, upstream: 1, before: 4}, {seq: 9, upstream: 2, before: 2}}},
		"late ones":          {false, []step{{seq: 5}, {seq: 6, out: true}, {seq: 4, out: true}, {seq: 3}, {seq: 7, before: 1}}},
	} {
		t.Run(name, func(t *testing.T) {
			var w withheld
			for _, s := range tc.steps {
				p := &rtpstream.Packet{ExtSeq: 1000 + s.seq, Withheld: s.upstream}
				before, send := w.next(p, s.out, tc.audio)
				require.Equal(t, !s.out, send, s.seq)
				require.Equal(t, s.before, before, s.seq)
			}
		})
	}
	var w withheld
	sent := 0
	for seq := range uint64(100_000) {
		if before, send := w.next(&rtpstream.Packet{ExtSeq: 1<<16 + seq}, true, true); send {
			sent++
			require.EqualValues(t, maxWithheld, before)
		}
	}
	require.InDelta(t, 100_000/maxWithheld, sent, 3, "a sign of life now and then")
}

// offerFilm offers a publisher of one encoding at a node, watched there for two seconds.
func offerFilm(s *station, rate int) (*publisher, mesh.Source) {
	p := newPublisher("TR_1", rate)
	s.offer("TR_1", p.Source)
	go p.run()
	watch(s.Cascade, p.Source, 0, rtpstream.AllTemporal)
	time.Sleep(2 * time.Second)
	return p, mesh.Source{ID: "TR_1", Kind: mesh.Video, MIMEType: "video/VP8", ClockRate: 90000, Encodings: make([]mesh.Encoding, 1)}
}

// Whoever joins from another region begins with what is kept at the nearest node that has the source.
func TestFlowBeginsWithWhatIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(50 * time.Millisecond)
		a, b, c := startStation(t, h, "a"), startStation(t, h, "b"), startStation(t, h, "c")
		p, src := offerFilm(a, 150_000)
		defer close(p.stop)
		require.Equal(t, []int{1}, p.requests())
		for _, s := range []*station{b, c} {
			r := s.Remote(room, src, "a")
			defer r.Close()
			v := watch(s.Cascade, r.Media(), 0, rtpstream.AllTemporal)
			time.Sleep(time.Second)
			saw := v.saw()
			require.Positive(t, saw.first, "begins")
			require.Less(t, saw.first, 450*time.Millisecond, "a link, a flow, a frame")
			require.Zero(t, saw.gaps)
			require.Greater(t, saw.frames, 60+15, "from the keyframe on")
			st := r.Media().Stream(0)
			require.True(t, st.CanReplay(s.now(), replayBytes), "kept here as well")
			require.Zero(t, st.Stats().Lost)
			require.Zero(t, st.Stats().Duplicates)
			again := watch(s.Cascade, r.Media(), 0, rtpstream.AllTemporal)
			require.Positive(t, again.saw().first, "the next one begins at once")
		}
		require.Equal(t, []int{1}, p.requests(), "the publisher hears nothing of it")
		require.EqualValues(t, 1, a.status(t, "b").replays)
	})
}

// A temporal layer nobody wants does not cross, over two hops, and nobody takes it for loss.
func TestTemporalLayersLeaveNoGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(20 * time.Millisecond)
		a, b, c := startStation(t, h, "a"), startStation(t, h, "b"), startStation(t, h, "c")
		p := newPublisher("TR_1", 500_000)
		a.offer("TR_1", p.Source)
		src := mesh.Source{ID: "TR_1", Kind: mesh.Video, MIMEType: "video/VP8", ClockRate: 90000, Encodings: make([]mesh.Encoding, 1)}
		rb := b.Remote(room, src, "a")
		defer rb.Close()
		b.deps.Relay = func(RelayRequest) (*rtpstream.Source, bool) { return rb.Media(), true }
		rc := c.Remote(room, src, "a")
		defer rc.Close()
		rc.PullFrom("b")
		go p.run()
		defer close(p.stop)

		half := watch(b.Cascade, rb.Media(), 0, 1)
		slow := watch(c.Cascade, rc.Media(), 0, 0)
		for range 50 {
			time.Sleep(100 * time.Millisecond)
			half.tick()
			slow.tick()
		}
		for _, tc := range []struct {
			v    *viewer
			s    *rtpstream.Stream
			rate int
		}{{half, rb.Media().Stream(0), 15}, {slow, rc.Media().Stream(0), 8}} {
			saw := tc.v.saw()
			require.Zero(t, saw.gaps)
			require.InDelta(t, 5*tc.rate, saw.frames, 12)
			require.Zero(t, tc.s.Stats().Lost)
			require.Positive(t, tc.s.Stats().Withheld)
		}
		mbit := func(s LinkStatus) float64 { return float64(s.Out.VideoBytes) * 8 / 5 / 1e6 }
		require.InDelta(t, 0.30, mbit(a.status(t, "b")), 0.06, "two layers of three: 60 %")
		require.InDelta(t, 0.20, mbit(b.status(t, "c")), 0.06, "one layer: 40 %")
	})
}

// A node of the release before takes every gap for loss: it gets everything.
func TestNothingIsLeftOutTowardsTheReleaseBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(20 * time.Millisecond)
		a, b := startStation(t, h, "a"), startStation(t, h, "b")
		cam := newCamera("TR_1", false, 1)
		a.offer("TR_1", cam.Source)
		defer b.Keep("a")()
		time.Sleep(time.Second)
		a.Cascade.mu.Lock()
		a.peers["b"].link.features.Store(uint32(cascadepb.Feature_FEATURE_FEC))
		a.Cascade.mu.Unlock()
		r := b.Remote(room, cam.mesh(), "a")
		defer r.Close()
		tv := new(screen)
		r.Media().Subscribe(tv).SetDemand(rtpstream.Demand{Encodings: 1})
		time.Sleep(200 * time.Millisecond)
		for i := range 20 {
			cam.write(0, func(p *rtpstream.Packet) { p.Temporal = uint8(i % 3) })
		}
		time.Sleep(200 * time.Millisecond)
		require.Equal(t, 20, tv.count())
	})
}

// A thousand people join one publisher within a minute, in three regions, and every tenth makes the picture larger.
func TestJoinStorm(t *testing.T) {
	withoutRace(t)
	synctest.Test(t, func(t *testing.T) {
		const joins = 1000
		h := newHub(75 * time.Millisecond)
		stations := []*station{startStation(t, h, "a"), startStation(t, h, "b"), startStation(t, h, "c")}
		p := newPublisher("TR_1", 150_000, 500_000, 1_700_000)
		stations[0].offer("TR_1", p.Source)
		src := mesh.Source{ID: "TR_1", Kind: mesh.Video, MIMEType: "video/VP8", ClockRate: 90000, Encodings: make([]mesh.Encoding, 3)}
		media := []*rtpstream.Source{p.Source}
		for _, s := range stations[1:] {
			r := s.Remote(room, src, "a")
			defer r.Close()
			media = append(media, r.Media())
		}
		go p.run()
		defer close(p.stop)

		var viewers []*viewer
		next, larger := 0, 0
		begin := time.Now()
		for time.Since(begin) < 70*time.Second {
			for next < joins && time.Since(begin) >= time.Duration(next)*time.Minute/joins {
				viewers = append(viewers, watch(stations[next%3].Cascade, media[next%3], 0, rtpstream.AllTemporal))
				next++
			}
			for larger < next && stations[larger%3].now()-viewers[larger].since > time.Second {
				if larger%10 == 0 {
					viewers[larger].target(2)
				}
				larger++
			}
			for _, v := range viewers {
				v.tick()
			}
			time.Sleep(20 * time.Millisecond)
		}
		var first, switched []time.Duration
		for i, v := range viewers {
			saw := v.saw()
			require.Positive(t, saw.first, "viewer %d sees nothing", i)
			require.Zero(t, saw.gaps, "viewer %d", i)
			first = append(first, saw.first)
			if i%10 == 0 {
				require.Zero(t, saw.wished, "viewer %d stays small", i)
				switched = append(switched, saw.switched)
			}
		}
		slices.Sort(first)
		slices.Sort(switched)
		p.mu.Lock()
		asked := slices.Clone(p.times)
		p.mu.Unlock()
		t.Logf("%d joins: %d requests at the publisher in %v, each for one or more encodings; of each encoding %v", joins, len(asked), time.Since(begin), p.requests())
		t.Logf("first frame p50 %v, p95 %v, worst %v; larger picture p50 %v, p95 %v", first[joins/2], first[joins*95/100],
			first[joins-1], switched[len(switched)/2], switched[len(switched)*95/100])
		require.LessOrEqual(t, len(asked), 70/5, "one message in five seconds, whatever encodings it asks for")
		require.Less(t, first[joins/2], 50*time.Millisecond, "from the cache")
		require.Less(t, first[joins*95/100], 200*time.Millisecond)
	})
}
