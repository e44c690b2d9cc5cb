package cascade

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Losses in bursts cost small links no more than large ones: 27 bytes in a hundred of what is sent, or where audio is
// nearly all there is, what a second copy of it and a fifth take.
func TestRepairStaysInItsBudget(t *testing.T) {
	withoutRace(t)
	for name, x := range map[string]struct {
		wan
		audio float64 // share of it that may be missing within one way + 60 ms, over minutes
	}{
		"one microphone":    {wan{mics: 1}, 0.05},
		"five microphones":  {wan{}, 0.003},
		"0.5 Mbit/s":        {wan{rate: 500e3}, 0.004},
		"1 Mbit/s":          {wan{rate: 1e6}, 0.004},
		"2 Mbit/s":          {wan{rate: 2e6}, 0.003},
		"0.5 Mbit/s frames": {wan{rate: 500e3, frames: true}, 0.035},
		"1 Mbit/s frames":   {wan{rate: 1e6, frames: true}, 0.03},
		"2 Mbit/s frames":   {wan{rate: 2e6, frames: true}, 0.03},
		"20 Mbit/s frames":  {wan{rate: 20e6, frames: true}, 0.003},
	} {
		t.Run(name, func(t *testing.T) {
			x.rtt, x.loss, x.burst = 150*ms, 0.05, 4
			x.length = wanSeconds(t, 5)
			seeds := environment(t, "MERIDIAN_WAN_SEEDS", 2)
			targets := time.Duration(seeds)*x.length >= 3*time.Minute
			audio := 0.0
			for seed := range seeds {
				x.seed = 14 + uint64(seed)
				res := x.run(t)
				out := res.sender.Out
				share := max(float64(out.AudioBytes+out.VideoBytes)*budgetPercent, float64(out.AudioBytes)*budgetAudio) / 100
				require.LessOrEqual(t, float64(res.sender.RepairBytes), share+budgetStart)
				audio += res.audio / float64(seeds)
			}
			t.Logf("audio missing: %.3f %%", 100*audio)
			if targets { // it is made use of
				require.LessOrEqual(t, audio, x.audio)
			}
		})
	}
}

// However greedy they are, all kinds of repair together stay in the budget over any time, but for what may be saved up
// and what audio may owe.
func TestRepairBudgetHolds(t *testing.T) {
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 1))
		b := newRepairBudget()
		audioShare, greed := rng.Float64(), rng.Float64()
		media, audio, spent, least := 0.0, 0.0, 0.0, 0.0 // least: of spent beyond what was earned, so far
		for n := range 20_000 {
			size, isAudio := 200+rng.IntN(1000), rng.Float64() < audioShare
			if isAudio {
				size = 40 + rng.IntN(200)
				audio += float64(size)
			}
			media += float64(size)
			b.earn(size, isAudio)
			if n%100 == 0 {
				b.round()
			}
			for range rng.IntN(4) {
				if size := rng.IntN(1200); rng.Float64() < greed && b.ask(repairKind(rng.IntN(int(numRepairKinds))), size) {
					spent += float64(size)
				}
			}
			earned := max(media*budgetPercent, audio*budgetAudio) / 100
			uneven := budgetEven + earned/100 // which of the two is more changes
			least = min(least, spent-earned)
			require.LessOrEqual(t, spent-earned, budgetStart+0.2*budgetMax+uneven, "seed %d, %d packets", seed, n)
			require.LessOrEqual(t, spent-earned-least, 1.2*budgetMax+uneven, "seed %d, %d packets", seed, n)
		}
	}
}

// When bytes are short, far parity yields first, then second copies of retransmissions, retransmissions of video, copies
// of audio, and last its retransmissions.
func TestWhatOfRepairYieldsFirst(t *testing.T) {
	b := newRepairBudget()
	require.Zero(t, b.thrift())
	var yielded []repairKind
	for b.bytes > -budgetMax {
		thrift := b.thrift()
		for kind := range numRepairKinds {
			if !b.allows(kind, 100) && len(yielded) == int(kind) {
				yielded = append(yielded, kind)
				require.Greater(t, thrift, 0.95, "parity is planned leaner before any is refused")
			}
			require.Equal(t, int(kind) >= len(yielded), b.allows(kind, 100))
		}
		b.bytes -= 50
	}
	require.Len(t, yielded, int(numRepairKinds))

	b = newRepairBudget()
	for b.ask(repairAudio, 100) { // a flood of it
	}
	owed := b.bytes
	require.Less(t, owed, 0.0)
	b.earn(10_000, false)
	require.InDelta(t, owed+2700, b.bytes, 1e-9, "what was spent is never forgotten")
	require.False(t, b.ask(repairParity, 1))
}
