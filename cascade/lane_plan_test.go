package cascade

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

func TestLanesFollowRateRoundTripAndLoss(t *testing.T) {
	for _, x := range []struct {
		rate        float64
		rtt         time.Duration
		loss        float64
		least, most int
	}{
		{20e6, 10 * ms, 0, 0, 2},
		{20e6, 80 * ms, 0, 0, 2},
		{2e6, 150 * ms, 0.02, 5, 8},
		{18.4e6, 150 * ms, 0.01, 30, 40}, // 8 carried 63 %, 32 carried 99 %
		{60e6, 150 * ms, 0.001, 30, 40},  // 16 carried 98.2 %, 32 carried 99.9 %
		{60e6, 250 * ms, 0.01, 128, 128},
		{20e6, 0, 0.5, 0, 0},
	} {
		n := lanesFor(x.rate, x.rtt, x.loss)
		require.GreaterOrEqual(t, n, x.least, "%+v", x)
		require.LessOrEqual(t, n, x.most, "%+v", x)
	}
}

func TestLanesGoUpAtOnceAndDownSlowly(t *testing.T) {
	var p lanePlanner
	require.Equal(t, 2, p.step(0, 2, 128, ms))
	require.Equal(t, 40, p.step(40, 2, 128, 2*ms))
	require.Equal(t, 128, p.step(400, 2, 128, 3*ms))
	require.Equal(t, 128, p.step(100, 2, 128, time.Minute), "nearly as many")
	now := time.Minute
	for changes, last := 0, 128; last > 2; {
		now += 100 * ms
		if n := p.step(2, 2, 128, now); n != last {
			changes++
			require.GreaterOrEqual(t, n, last-last/4-1)
			require.GreaterOrEqual(t, now, time.Minute+time.Duration(changes)*laneDownAfter)
			last = n
		}
	}
}

func TestLinkHasAsManyLanesAsItNeeds(t *testing.T) {
	for name, x := range map[string]struct {
		unlimited   bool
		from, to    mesh.NodeID
		least, most int
	}{
		"the dialling side sends": {false, "a", "b", 20, 45},
		"the other side sends":    {false, "b", "a", 20, 45},
		"without windows":         {true, "a", "b", 2, 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHub(75 * ms)
				h.unlimited = x.unlimited
				path := newGilbert(5, 0.01, 1)
				h.setDrop(func(mesh.NodeID, mesh.NodeID, *fakeConn, []byte) bool { return path.lost() })
				a, b := startStation(t, h, x.from), startStation(t, h, x.to)
				cam := newCamera("TR_1", false, 1)
				a.offer("TR_1", cam.Source)
				r := b.Remote(room, cam.mesh(), x.from)
				defer r.Close()
				tv := new(screen)
				r.Media().Subscribe(tv).SetDemand(all(0))
				time.Sleep(time.Second)
				require.LessOrEqual(t, a.status(t, x.to).Lanes, 2, "nothing to carry yet")
				for range 6000 {
					cam.write(0)
					time.Sleep(ms / 2)
				}
				s := a.status(t, x.to)
				require.GreaterOrEqual(t, s.Lanes, x.least)
				require.LessOrEqual(t, s.Lanes, x.most)
				require.Equal(t, s.Lanes, b.status(t, x.from).Lanes)
				require.InDelta(t, 16e6, float64(s.Offered), 2e6)
				require.GreaterOrEqual(t, s.Drained, s.Offered)
				time.Sleep(3 * time.Minute)
				require.Equal(t, 2, a.status(t, x.to).Lanes, "idle again")
			})
		})
	}
}
