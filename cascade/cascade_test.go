package cascade

import (
	"bytes"
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

const room = mesh.RoomName("standup")

// film writes n packets, one every 10 ms.
func film(c *camera, e uint8, n int) {
	for range n {
		c.write(e)
		time.Sleep(10 * time.Millisecond)
	}
}

func TestFlowOnDemand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(20 * time.Millisecond)
		a, b := startStation(t, h, "a"), startStation(t, h, "b")
		cam := newCamera("TR_1", false, 3)
		a.offer("TR_1", cam.Source)

		r := b.Remote(room, cam.mesh(), "a")
		time.Sleep(time.Second)
		require.Equal(t, 0, cam.Subscribers(), "nobody watches: no flow")
		require.Zero(t, b.status(t, "a").Lanes, "nobody watches: no link")

		tv := new(screen)
		sub := r.Media().Subscribe(tv)
		sub.SetDemand(all(1))
		time.Sleep(500 * time.Millisecond)
		require.Equal(t, all(1), cam.Demand())
		require.Equal(t, 1, cam.Subscribers())
		require.GreaterOrEqual(t, cam.asked(1), 1, "a new flow asks for a keyframe")
		require.Zero(t, cam.asked(0))

		var want [][]byte
		for range 50 {
			p := cam.packet(1)
			want = append(want, bytes.Clone(p.Raw()))
			cam.Stream(1).Write(p)
			p.Release()
			cam.write(0) // not wanted: does not cross
			time.Sleep(time.Millisecond)
		}
		time.Sleep(100 * time.Millisecond)
		require.Equal(t, want, tv.packets(), "the original RTP, untouched")
		require.EqualValues(t, 50, a.status(t, "b").Out.VideoPackets)
		require.Len(t, a.status(t, "b").Flows, 1)
		require.Equal(t, "out", a.status(t, "b").Flows[0].Direction)
		require.Equal(t, "in", b.status(t, "a").Flows[0].Direction)

		sub.Close()
		time.Sleep(b.cfg.Linger + 100*time.Millisecond)
		require.Zero(t, cam.Subscribers(), "closed after linger")
		before := a.status(t, "b").Out.VideoPackets
		film(cam, 1, 10)
		require.Equal(t, before, a.status(t, "b").Out.VideoPackets, "bytes stop")

		again := new(screen)
		sub = r.Media().Subscribe(again)
		sub.SetDemand(all(0))
		time.Sleep(200 * time.Millisecond)
		film(cam, 0, 5)
		time.Sleep(100 * time.Millisecond)
		require.Equal(t, 5, again.count(), "re-opened")
		r.Close()
		r.Close()
		time.Sleep(100 * time.Millisecond)
		require.Zero(t, cam.Subscribers())
	})
}

func TestOneCopyForManyAndDemandUnion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(5 * time.Millisecond)
		a, b := startStation(t, h, "a"), startStation(t, h, "b")
		cam := newCamera("TR_1", false, 3)
		a.offer("TR_1", cam.Source)
		r1, r2 := b.Remote(room, cam.mesh(), "a"), b.Remote(room, cam.mesh(), "a")
		require.Same(t, r1.Media(), r2.Media())

		screens := make([]*screen, 10)
		subs := make([]*rtpstream.Subscription, 10)
		for i := range screens {
			screens[i] = new(screen)
			subs[i] = r1.Media().Subscribe(screens[i])
			subs[i].SetDemand(rtpstream.UpTo(1<<1, rtpstream.Layers{Temporal: uint8(i % 3)}))
		}
		time.Sleep(300 * time.Millisecond)
		require.Equal(t, 1, cam.Subscribers())
		require.Equal(t, rtpstream.UpTo(1<<1, rtpstream.Layers{Temporal: 2}), cam.Demand())
		for i := range 30 {
			cam.write(1, func(p *rtpstream.Packet) { p.Temporal = uint8(i % 4) })
			time.Sleep(time.Millisecond)
		}
		time.Sleep(50 * time.Millisecond)
		require.Equal(t, 23, screens[0].count(), "temporal layer 3 does not cross")
		require.EqualValues(t, 23, a.status(t, "b").Out.VideoPackets, "one copy for ten")

		changes := cam.demandChanges()
		for i := range subs { // a storm of changes is one message or two
			subs[i].SetDemand(all(uint8(i % 3)))
		}
		time.Sleep(200 * time.Millisecond)
		require.Equal(t, all(0, 1, 2), cam.Demand())
		require.LessOrEqual(t, cam.demandChanges()-changes, 2)

		r1.Close()
		time.Sleep(50 * time.Millisecond)
		require.Equal(t, 1, cam.Subscribers(), "another handle is open")
		r2.Close()
		time.Sleep(50 * time.Millisecond)
		require.Zero(t, cam.Subscribers())
	})
}

func TestKeyframeRequestsCollapse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(10 * time.Millisecond)
		a, b := startStation(t, h, "a"), startStation(t, h, "b")
		cam := newCamera("TR_1", false, 2)
		a.offer("TR_1", cam.Source)
		r := b.Remote(room, cam.mesh(), "a")
		defer r.Close()
		sub := r.Media().Subscribe(new(screen))
		sub.SetDemand(all(0))
		time.Sleep(250 * time.Millisecond)
		require.Equal(t, 1, cam.asked(0))
		cam.write(0, keyframe)
		time.Sleep(time.Second)
		require.Equal(t, 1, cam.asked(0), "answered: no more requests")

		for range 20 {
			sub.RequestKeyframe(0, rtpstream.KeyframeForJoin)
		}
		time.Sleep(200 * time.Millisecond)
		require.Equal(t, 2, cam.asked(0), "twenty wishes are one request")
		time.Sleep(250 * time.Millisecond)
		require.Equal(t, 3, cam.asked(0), "asked again after 300 ms without a keyframe")
		sub.RequestKeyframe(1, rtpstream.KeyframeForJoin)
		time.Sleep(100 * time.Millisecond)
		require.Zero(t, cam.asked(1), "nobody wants that encoding")
	})
}

func TestClockIsCarriedVerbatim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(10 * time.Millisecond)
		a, b := startStation(t, h, "a"), startStation(t, h, "b")
		cam := newCamera("TR_1", false, 2)
		first, second := rtpstream.SenderClock{NTP: 1 << 60, RTPTimestamp: 7}, rtpstream.SenderClock{NTP: 1<<60 + 5, RTPTimestamp: 99}
		cam.Stream(1).SetClock(first)
		a.offer("TR_1", cam.Source)
		r := b.Remote(room, cam.mesh(), "a")
		defer r.Close()
		r.Media().Subscribe(new(screen)).SetDemand(all(0, 1))
		time.Sleep(200 * time.Millisecond)
		require.Equal(t, first, *r.Media().Stream(1).Clock())
		require.Nil(t, r.Media().Stream(0).Clock())
		cam.Stream(1).SetClock(second)
		time.Sleep(200 * time.Millisecond)
		require.Equal(t, second, *r.Media().Stream(1).Clock())
	})
}

func TestSourceEndsAndComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(10 * time.Millisecond)
		a, b := startStation(t, h, "a"), startStation(t, h, "b")
		cam := newCamera("TR_1", false, 1)
		r := b.Remote(room, cam.mesh(), "a")
		defer r.Close()
		tv := new(screen)
		r.Media().Subscribe(tv).SetDemand(all(0))
		time.Sleep(time.Second)
		require.NotZero(t, b.status(t, "a").flowsRefused, "the directory is ahead of the media")
		a.offer("TR_1", cam.Source)
		time.Sleep(3 * time.Second)
		film(cam, 0, 3)
		time.Sleep(100 * time.Millisecond)
		require.Equal(t, 3, tv.count())

		fresh := newCamera("TR_1", false, 1)
		fresh.seq[0] = 100
		a.offer("TR_1", fresh.Source)
		cam.Close()
		time.Sleep(12 * time.Millisecond)
		require.Empty(t, b.status(t, "a").Flows, "the puller is told at once")
		time.Sleep(3 * time.Second)
		film(fresh, 0, 3)
		time.Sleep(100 * time.Millisecond)
		require.Equal(t, 6, tv.count())
	})
}

func TestAudioPacketsShareDatagrams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(time.Millisecond)
		a, b := startStation(t, h, "a"), startStation(t, h, "b")
		tvs := make([]*screen, 20)
		mics := make([]*camera, 20)
		for i := range tvs {
			id := mesh.SourceID([]byte{'T', 'R', '_', byte('a' + i)})
			mics[i] = newCamera(string(id), true, 1)
			mics[i].size = 100
			a.offer(id, mics[i].Source)
			r := b.Remote(room, mics[i].mesh(), "a")
			defer r.Close()
			tvs[i] = new(screen)
			r.Media().Subscribe(tvs[i]).SetDemand(all(0))
		}
		time.Sleep(500 * time.Millisecond)
		for range 10 {
			for _, m := range mics {
				m.write(0, func(p *rtpstream.Packet) { p.AudioLevel = 30 })
			}
			time.Sleep(20 * time.Millisecond)
		}
		time.Sleep(50 * time.Millisecond)
		for _, tv := range tvs {
			require.Equal(t, 10, tv.count())
		}
		require.EqualValues(t, 200, a.status(t, "b").Out.AudioPackets)
	})
}

func TestBeforeAndAfterRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(time.Millisecond)
		a := startStation(t, h, "a")
		cam := newCamera("TR_1", false, 1)
		a.offer("TR_1", cam.Source)
		n := &fakeNet{hub: h, id: "b"}
		c, err := New(DefaultConfig(), Deps{Net: n, Resolve: resolveAny, Local: a.local}, quiet(), nil)
		require.NoError(t, err)
		h.join(n)
		r := c.Remote(room, cam.mesh(), "a")
		r.Media().Subscribe(new(screen)).SetDemand(all(0))
		release := c.Keep("a")
		time.Sleep(time.Second)
		require.Zero(t, cam.Subscribers(), "New starts nothing")
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- c.Run(ctx) }()
		time.Sleep(time.Second)
		require.Equal(t, 1, cam.Subscribers())
		require.Error(t, c.Run(ctx), "twice")
		cancel()
		require.NoError(t, <-done)
		time.Sleep(time.Second)
		require.Zero(t, cam.Subscribers())
		require.Zero(t, r.Media().Subscribers(), "closed with the cascade")
		release()
		r.Close()
		c.Keep("x")()
		c.Remote(room, cam.mesh(), "x").Close()
	})
}

func TestNewRefuses(t *testing.T) {
	_, err := New(Config{}, Deps{}, quiet(), nil)
	require.ErrorContains(t, err, "lanes")
	_, err = New(DefaultConfig(), Deps{}, quiet(), nil)
	require.ErrorContains(t, err, "Local")
}
