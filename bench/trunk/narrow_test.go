package trunk

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/internal/testnet"
)

var narrowCell = Cell{
	RTT: 80 * time.Millisecond, Rate: 2e6, Duration: 8 * time.Second,
	Bottleneck: 1e6, BottleneckFrom: 2 * time.Second, BottleneckTo: 4 * time.Second,
}

// Twice what fits for 700 ms, then half of it.
func TestNarrow(t *testing.T) {
	const counted = int64(time.Hour)
	n := newNarrow(narrowCell, counted)
	shaper := testnet.NewShaper(narrowCell.wide().link(), 1, 2)
	for at := time.Duration(0); at < narrowCell.Duration; at += 2 * time.Millisecond {
		now := counted + int64(at)
		n.turn(now, []*testnet.Shaper{shaper})
		if at >= 2700*time.Millisecond && at < narrowCell.BottleneckTo && at%(8*time.Millisecond) != 0 {
			continue
		}
		came := time.Unix(0, now)
		wait := shaper.Wait(came)
		_, v := shaper.Packet(came, 500)
		n.packet(now, 500, wait, v)
		if at > 4500*time.Millisecond {
			require.Zero(t, wait, "gone")
		}
	}
	r := n.report()
	require.InDelta(t, 760, millis(r.StepDown), 60, "the queue of 100 ms has to go first")
	require.Greater(t, r.QueueP99, 90*time.Millisecond)
	require.LessOrEqual(t, r.QueueMax, 104*time.Millisecond)
	require.Positive(t, r.Overflow)
	require.Equal(t, uint64(350+162), r.Packets)

	n = newNarrow(narrowCell, 0)
	n.packet(int64(2*time.Second), 500, 70*time.Millisecond, testnet.Pass)
	require.Positive(t, n.stepDown())
	for i := range n.steps {
		n.steps[i].queue = narrowQueue
	}
	require.Negative(t, n.stepDown(), "never")
}

func TestCourse(t *testing.T) {
	const warmup = time.Second
	inTime, late := narrowCell.limits()
	k := newCourse(narrowCell, warmup, 1)
	load := newWorkload(narrowCell.Rate, 1)
	audio := make([]bool, len(load.streams))
	for i, s := range load.streams {
		audio[i] = s.audio
	}
	var offered, lost uint64
	for load.peek() < warmup+narrowCell.Duration {
		ev := load.take()
		at := ev.at - warmup
		delay := 41 * time.Millisecond
		switch {
		case audio[ev.stream]:
			if at >= narrowCell.BottleneckFrom && at < narrowCell.BottleneckTo {
				offered++
				if ev.counter%10 == 0 {
					lost++
					continue
				}
			}
		case ev.stream == len(audio)-1 && at >= narrowCell.BottleneckFrom && at < 5500*time.Millisecond:
			continue // the largest picture comes back 1.5 s after the bottleneck has gone
		}
		k.arrived(ev.stream, ev.counter, delay)
	}
	r := k.report(narrowCell, audio, inTime, late)
	require.Equal(t, offered, r.Offered)
	require.Equal(t, offered-lost, r.Audio.InTime)
	require.InDelta(t, 1500, millis(r.Recovery), 100)

	k = newCourse(narrowCell, warmup, 1)
	require.Negative(t, k.report(narrowCell, audio, inTime, late).Recovery, "nothing came back")
	k.arrived(0, 1<<20, 1) // claims to be later than all
}

func TestEpisode(t *testing.T) {
	tr := &trial{ocean: &report{Ocean: &oceanReport{}}, receiver: &report{}}
	require.Nil(t, tr.episode())
	tr.ocean.Ocean.Narrow = &narrowReport{StepDown: 700 * time.Millisecond, QueueP99: 80 * time.Millisecond, Overflow: 5, Packets: 100}
	tr.receiver.Course = &courseReport{Offered: 100, Audio: count{Arrived: 100, InTime: 98, Late: 99}, Recovery: -1}
	e := tr.episode()
	require.InDelta(t, 700, *e.StepDown, 1e-9)
	require.Nil(t, e.Recovery)
	require.InDelta(t, 0.05, e.Overflow, 1e-9)
	require.InDelta(t, 0.02, e.AudioResidualLoss, 1e-9)
	require.InDelta(t, 0.01, e.AudioResidualLossLate, 1e-9)
}
