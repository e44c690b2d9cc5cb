package sfm

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

func camera(n int) mesh.Source {
	s := mesh.Source{Kind: mesh.Video, Width: 1280, Height: 720}
	for i := range n {
		s.Encodings = append(s.Encodings, mesh.Encoding{Width: 1280 >> (n - 1 - i), Height: 720 >> (n - 1 - i)})
	}
	return s
}

func TestChooseEncoding(t *testing.T) {
	portrait := mesh.Source{Kind: mesh.Video, Width: 720, Height: 1280}
	for name, tc := range map[string]struct {
		src  mesh.Source
		n    int
		w    Wanted
		want int
	}{
		"disabled":                    {camera(3), 3, Wanted{Disabled: true, Quality: 2}, noEncoding},
		"nothing stated":              {camera(3), 3, Wanted{Quality: QualityUnset}, 2},
		"thumbnail":                   {camera(3), 3, Wanted{Width: 160, Height: 90, Quality: QualityUnset}, 0},
		"exactly the lowest":          {camera(3), 3, Wanted{Width: 320, Height: 180, Quality: QualityUnset}, 0},
		"one pixel more":              {camera(3), 3, Wanted{Width: 321, Height: 180, Quality: QualityUnset}, 1},
		"larger than there is":        {camera(3), 3, Wanted{Width: 3840, Height: 2160, Quality: QualityUnset}, 2},
		"quality low":                 {camera(3), 3, Wanted{Quality: 0}, 0},
		"quality caps size":           {camera(3), 3, Wanted{Width: 1280, Quality: 1}, 1},
		"size caps quality":           {camera(3), 3, Wanted{Width: 100, Quality: 2}, 0},
		"high of two":                 {camera(2), 2, Wanted{Quality: 2}, 1},
		"one encoding":                {camera(1), 1, Wanted{Width: 10, Height: 10, Quality: QualityUnset}, 0},
		"sizes by index":              {mesh.Source{Width: 1280, Height: 720}, 3, Wanted{Width: 640, Quality: QualityUnset}, 1},
		"long side of a portrait":     {portrait, 3, Wanted{Width: 360, Height: 640, Quality: QualityUnset}, 1},
		"no size known serves a wish": {mesh.Source{}, 3, Wanted{Width: 640, Quality: QualityUnset}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, tc.want, chooseEncoding(longSides(tc.src, tc.n), tc.w))
		})
	}
	for w, want := range map[Wanted]uint8{
		{}:                                 rtpstream.AllTemporal,
		{FPS: 30}:                          rtpstream.AllTemporal,
		{FPS: 15}:                          1,
		{FPS: 7}:                           0,
		{Width: 320, Height: 180}:          rtpstream.AllTemporal,
		{Width: 160, Height: 240}:          1,
		{Width: 160, Height: 90, FPS: 30}:  rtpstream.AllTemporal,
		{Width: 1280, Height: 720, FPS: 5}: 0,
	} {
		require.Equal(t, want, maxTemporal(w), w)
	}
}

func TestLayerChoiceFallsBack(t *testing.T) {
	const ms = time.Millisecond
	c := newLayerChoice(camera(3), 3, Wanted{Quality: 2}, 1000*ms)
	expect := func(at time.Duration, encoding int, all bool) {
		t.Helper()
		e, a := c.target(at)
		require.Equal(t, encoding, e)
		require.Equal(t, all, a)
	}
	expect(1000*ms, 2, false)
	expect(1999*ms, 2, false)
	expect(2000*ms, 2, true) // nothing of it for a second: ask for all
	c.seen[0] = 2100 * ms
	expect(2150*ms, 0, true)
	c.seen[1] = 2200 * ms
	expect(2250*ms, 1, true)
	c.seen[2] = 2300 * ms
	expect(2350*ms, 2, false) // it is back
	expect(3300*ms, 2, true)  // and gone: 1 was not seen for a second either
	c.want(Wanted{Quality: 0}, 3400*ms)
	expect(3400*ms, 0, false) // a new wish has its own patience
	c.want(Wanted{Disabled: true}, 3500*ms)
	expect(9000*ms, noEncoding, false)

	high := newLayerChoice(camera(3), 3, Wanted{Quality: 0}, 1)
	high.seen[2] = 5000 * ms
	e, _ := high.target(5001 * ms)
	require.Equal(t, 2, e, "rather too large than nothing")
}

func TestDemandTracker(t *testing.T) {
	d := func(set int) rtpstream.Demand {
		if set == 0 {
			return rtpstream.Demand{}
		}
		return rtpstream.Everything(rtpstream.EncodingSet(set))
	}
	tr := demandTracker{delay: 5 * time.Second, told: d(7)}
	for i, s := range []struct {
		at      time.Duration
		demand  int
		told    int
		changed bool
	}{
		{0, 7, 7, false},
		{1, 1, 7, false},
		{4, 0, 7, false},
		{6, 1, 1, true}, // 5 s after it fell first
		{7, 3, 3, true}, // up at once
		{8, 1, 3, false},
		{9, 3, 3, false}, // back up in time: nothing to tell
		{14, 1, 3, false},
		{15, 4, 7, true}, // part up, part down
		{21, 4, 4, true},
		{22, 0, 4, false},
		{27, 0, 0, true},
		{28, 1, 1, true},
	} {
		got, changed := tr.update(d(s.demand), s.at*time.Second)
		require.Equal(t, d(s.told), got, "step %d", i)
		require.Equal(t, s.changed, changed, "step %d", i)
	}
}

func TestNACKBudget(t *testing.T) {
	var b nackBudget
	require.True(t, b.spend(budgetInitial))
	require.False(t, b.spend(1))
	b.earn(400)
	require.True(t, b.spend(100))
	require.False(t, b.spend(1))
	b.earn(1 << 30)
	require.True(t, b.spend(budgetMax))
	require.False(t, b.spend(1), "thrift is bounded")
}

func TestConfigValidate(t *testing.T) {
	require.NoError(t, DefaultConfig().Validate())
	err := Config{UDPPort: -1, TCPPort: 70000}.Validate()
	for _, name := range []string{"UDPPort", "TCPPort", "ICEKeepalive", "KeyframeInterval", "EgressPackets", "MaxEndpoints"} {
		require.ErrorContains(t, err, name)
	}
}

// What cannot come is not waited for, and is asked for all the same: the way may be wide again.
func TestLayerChoiceTakesWhatCanCome(t *testing.T) {
	const ms = time.Millisecond
	c := newLayerChoice(camera(3), 3, Wanted{Quality: 2}, 1000*ms)
	c.seen[2] = 1100 * ms
	target := func(at time.Duration) int { e, _ := c.target(at); return e }
	require.Equal(t, 2, target(1100*ms))
	c.allow(0b011, 1150*ms)
	require.Equal(t, 1, target(1150*ms), "at once")
	require.Equal(t, 2, c.ideal)
	c.allow(0b001, 1200*ms)
	require.Equal(t, 0, target(1200*ms))
	c.allow(0b100, 1250*ms)
	require.Equal(t, 2, target(1250*ms))
	c.allow(0, 1300*ms)
	require.Equal(t, 2, target(1300*ms))
	c.allow(rtpstream.AllEncodings, 1350*ms)
	require.Equal(t, 2, target(1350*ms))

	small := newLayerChoice(camera(3), 3, Wanted{Quality: 0}, 1000*ms)
	small.allow(0b110, 1000*ms)
	e, _ := small.target(1000 * ms)
	require.Equal(t, 1, e, "rather too large than nothing")
}
