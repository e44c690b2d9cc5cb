package cascade

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

func TestNackRepairsLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(40 * time.Millisecond)
		a, b := startStation(t, h, "a"), startStation(t, h, "b")
		cam := newCamera("TR_1", false, 1)
		a.offer("TR_1", cam.Source)
		r := b.Remote(room, cam.mesh(), "a")
		defer r.Close()
		tv := new(screen)
		r.Media().Subscribe(tv).SetDemand(all(0))
		time.Sleep(500 * time.Millisecond)
		nacks, repeated := 0, make(map[uint32]int)
		h.setDrop(func(_, _ mesh.NodeID, _ *fakeConn, b []byte) bool {
			f, _, err := nextFrame(b)
			if err != nil {
				return false
			}
			switch f.kind {
			case frameMedia, frameVideo, frameContextVideo: // every tenth packet, and of every second of these the first two retransmissions
				var m mediaHeader
				if _, err := parseMedia(f, &m); err != nil {
					return false
				}
				if m.Retransmission {
					repeated[m.LinkSeq]++
					return m.LinkSeq%20 == 3 && repeated[m.LinkSeq] <= 2
				}
				return m.LinkSeq%10 == 3
			case frameNack: // some NACKs
				nacks++
				return nacks%4 == 0 && nacks < 40
			default:
				return false
			}
		})
		const packets = 600
		for range packets {
			cam.write(0)
			time.Sleep(2 * time.Millisecond)
		}
		time.Sleep(2 * time.Second)
		h.setDrop(nil)
		s := b.status(t, "a")
		require.Equal(t, packets, tv.count(), "all repaired, the tail as well; %+v %+v", s, a.status(t, "b"))
		require.Zero(t, s.Lost)
		require.Greater(t, s.Repaired, uint64(20))
		require.Greater(t, s.LossIn, 0.0)
		require.NotZero(t, a.status(t, "b").Retransmissions)
		require.Less(t, a.status(t, "b").Retransmissions, uint64(packets/4))
	})
}

func TestTailLossIsRepaired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(10 * time.Millisecond)
		a, b := startStation(t, h, "a"), startStation(t, h, "b")
		cam := newCamera("TR_1", true, 1)
		cam.size = 120
		a.offer("TR_1", cam.Source)
		r := b.Remote(room, cam.mesh(), "a")
		defer r.Close()
		tv := new(screen)
		r.Media().Subscribe(tv).SetDemand(all(0))
		time.Sleep(500 * time.Millisecond)
		h.setDrop(func(_, _ mesh.NodeID, _ *fakeConn, b []byte) bool { return len(b) > 100 })
		cam.write(0)
		time.Sleep(time.Millisecond)
		h.setDrop(nil)
		time.Sleep(300 * time.Millisecond)
		require.Equal(t, 1, tv.count(), "the probe tells of the packet nothing follows")
	})
}

func TestOversizedPacketsCrossInHalves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(10 * time.Millisecond)
		a, b := startStation(t, h, "a"), startStation(t, h, "b")
		cam := newCamera("TR_1", false, 1)
		cam.size = 1401
		a.offer("TR_1", cam.Source)
		r := b.Remote(room, cam.mesh(), "a")
		defer r.Close()
		tv := new(screen)
		r.Media().Subscribe(tv).SetDemand(all(0))
		time.Sleep(500 * time.Millisecond)
		n := 0
		h.setDrop(func(from, _ mesh.NodeID, _ *fakeConn, b []byte) bool {
			n++
			return from == "a" && len(b) > 100 && n%7 == 0
		})
		film(cam, 0, 100)
		h.setDrop(nil)
		time.Sleep(time.Second)
		require.Equal(t, 100, tv.count())
		for _, raw := range tv.packets() {
			require.Len(t, raw, 1401)
			seq := raw[3]
			require.Equal(t, byte(1400&0xff)^seq, raw[1400])
		}
	})
}
