package testnet

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Values come out by due time, and in order of entry where that is equal, whatever is pushed in between.
func TestTimeline(t *testing.T) {
	type value struct{ due, order int }
	rnd := rand.New(rand.NewPCG(1, 2))
	start := time.Now()
	var line Timeline[value]
	_, ok := line.Next()
	require.False(t, ok)
	var model []value
	for now := range 2000 {
		for range rnd.IntN(4) {
			v := value{now + rnd.IntN(50) - 10, len(model)}
			first := line.Push(start.Add(time.Duration(v.due)*time.Millisecond), v)
			next, _ := line.Next()
			require.True(t, !first || next.Equal(start.Add(time.Duration(v.due)*time.Millisecond)))
			model = append(model, v)
		}
		var got, want []value
		for {
			v, ok := line.PopDue(start.Add(time.Duration(now) * time.Millisecond))
			if !ok {
				break
			}
			got = append(got, v)
		}
		for i, v := range model {
			if v.due <= now && v.order >= 0 {
				want = append(want, v)
				model[i].order = -1
			}
		}
		slices.SortStableFunc(want, func(a, b value) int { return a.due - b.due })
		require.Equal(t, want, got)
	}
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		line.Push(start, value{})
		line.PopDue(start)
	}))
}
