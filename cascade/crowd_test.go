package cascade

import (
	"encoding/binary"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestCrowdedLinkKeepsAudioAndDropsWholeFrames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(10 * time.Millisecond)
		h.rate = 125_000 // two lanes of a megabit
		a, b := startStation(t, h, "a", twoLanes), startStation(t, h, "b")
		cam, mic := newCamera("TR_cam", false, 1), newCamera("TR_mic", true, 1)
		mic.size = 100
		a.offer("TR_cam", cam.Source)
		a.offer("TR_mic", mic.Source)
		tv, ear := new(screen), new(screen)
		for from, to := range map[*camera]*screen{cam: tv, mic: ear} {
			r := b.Remote(room, from.mesh(), "a")
			defer r.Close()
			r.Media().Subscribe(to).SetDemand(all(0))
		}
		time.Sleep(500 * time.Millisecond)
		const frames, perFrame = 150, 20
		for f := range frames { // 30 frames a second of 20 kB: five megabits
			for range perFrame {
				p := cam.packet(0)
				binary.BigEndian.PutUint32(p.Buffer()[4:], uint32(f)*3000)
				require.NoError(t, p.Parse(cam.size))
				cam.Stream(0).Write(p)
				p.Release()
			}
			mic.write(0)
			time.Sleep(33 * time.Millisecond)
		}
		time.Sleep(2 * time.Second)
		require.Equal(t, frames, ear.count(), "every audio packet")
		s := a.status(t, "b")
		require.NotZero(t, s.Drops["expired"])
		require.NotZero(t, s.Drops["frame_rest"])
		require.Zero(t, s.Drops["lane_down"])
		require.Zero(t, b.status(t, "a").Lost, "what is dropped before it is numbered is not missed on the link")
		require.Greater(t, tv.count(), 3*perFrame, "whole frames until it is known what the lanes take")
		require.Equal(t, 1, s.Withheld, "nothing of a camera whose only layer does not fit")
	})
}

func twoLanes(c *Config) { c.MaxLanes = 2 }
