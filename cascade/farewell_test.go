package cascade

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

// A large room ends on both sides of an ocean at once: what either side says of its flows crosses the news of their end,
// and is held against nobody.
func TestLargeRoomEndsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const sources = 800 // four times as many as senseless messages a second close a link
		h := newHub(100 * time.Millisecond)
		a, b := startStation(t, h, "a"), startStation(t, h, "b")
		defer a.Keep("b")()
		time.Sleep(time.Second)
		cams, pulls, subs := []*camera{}, []*RemoteSource{}, []*rtpstream.Subscription{}
		for i := range sources {
			id := fmt.Sprintf("TR_%d", i)
			cam := newCamera(id, false, 1)
			a.offer(mesh.SourceID(id), cam.Source)
			r := b.Remote(room, cam.mesh(), "a")
			cams, pulls = append(cams, cam), append(pulls, r)
			subs = append(subs, r.Media().Subscribe(new(screen)))
			subs[i].SetDemand(rtpstream.Everything(1))
		}
		time.Sleep(2 * time.Second)
		for i, cam := range cams {
			require.Equal(t, 1, cam.Subscribers())
			cam.Stream(0).SetClock(rtpstream.SenderClock{NTP: 1 << 40, RTPTimestamp: uint32(i)})
		}
		for i, cam := range cams {
			subs[i].Close()
			pulls[i].Close()
			cam.Close()
		}
		time.Sleep(2 * time.Second)
		for _, s := range []*station{a, b} {
			to := mesh.NodeID("b")
			if s == b {
				to = "a"
			}
			st := s.status(t, to)
			require.Zero(t, st.Drops["bad_control"])
			alive, _ := s.Alive(to)
			require.True(t, alive)
		}
		require.Empty(t, a.linkEvents()[1:], "the link stayed")
		a.stop()
		b.stop()
	})
}
