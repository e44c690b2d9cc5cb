package cascade

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

// What a hop adds to the delay of 20 Mbit/s beyond propagation, in virtual time: what is gathered for a common system
// call. Half the cameras write a frame at once, half pace it. What the machine adds is measured by
// "meridian bench trunk --bare --rate 20M".
func TestHopAddsLittleDelay(t *testing.T) {
	hubsDirect = true
	defer func() { hubsDirect = false }()
	synctest.Test(t, func(t *testing.T) {
		const delay, cameras, microphones = 10 * ms, 8, 20
		h := newHub(delay)
		a, b := startStation(t, h, "a"), startStation(t, h, "b")
		var feeds []*camera
		var sinks []*meterSink
		for i := range cameras + microphones {
			cam := newCamera(fmt.Sprintf("TR_%d", i), i >= cameras, 1)
			if cam.size = 1000; i >= cameras {
				cam.size = 120
			}
			a.offer(mesh.SourceID(cam.Info.ID), cam.Source)
			r := b.Remote(room, cam.mesh(), "a")
			defer r.Close()
			s := &meterSink{sent: make(map[uint16]time.Time)}
			r.Media().Subscribe(s).SetDemand(all(0))
			feeds, sinks = append(feeds, cam), append(sinks, s)
		}
		time.Sleep(time.Second)
		var wg sync.WaitGroup
		for i, cam := range feeds {
			write := func(marker bool) {
				sinks[i].note(cam.seq[0], time.Second)
				cam.write(0, func(p *rtpstream.Packet) { p.Marker = marker })
			}
			wg.Go(func() {
				time.Sleep(time.Duration(i) * 1171 * time.Microsecond)
				for round := range 150 {
					if i >= cameras {
						write(false)
						time.Sleep(20 * ms)
						continue
					}
					n := 5 + round%10
					for j := range n {
						write(j == n-1)
						if i%2 == 0 {
							time.Sleep(700 * time.Microsecond)
						}
					}
					time.Sleep(25 * ms)
				}
			})
		}
		wg.Wait()
		time.Sleep(time.Second)
		var added []time.Duration
		for _, s := range sinks {
			s.mu.Lock()
			require.Empty(t, s.sent, "all of it came")
			for _, d := range s.late {
				added = append(added, d-delay)
			}
			s.mu.Unlock()
		}
		slices.Sort(added)
		n := len(added)
		t.Logf("%d packets: p50 %v, p99 %v, at most %v", n, added[n/2], added[n*99/100], added[n-1])
		require.LessOrEqual(t, added[n/2], gatherTime)
		require.LessOrEqual(t, added[n-1], gatherLate)
	})
}
