package cascade

import "time"

// Limits of the work a peer may cause, a second and saved up: four times what the loss of one packet in twenty, in bursts,
// calls for at 100 Mbit/s (bench/README.md), and all that a receiver like ours ever asks for.
const (
	repairSteps   = 2_500_000 // rows turned over to make lost packets anew, and what is found missing
	repairSaved   = 600_000
	missingSteps  = 16      // packets found missing that count as a row
	askedSteps    = 400_000 // packets asked for
	askedSaved    = 200_000
	askedFrame    = 8 // packets that a NACK counts as, beside those it asks for
	controlSaved  = 2 // messages of control for each flow that may come at once, …
	controlSteps  = 4 // … and a second, …
	controlFewest = 1024
	controlBytes  = 256 // … each of so many bytes
	controlPause  = 10 * time.Millisecond
)

// allowance is how much work a peer may cause. Work is counted in steps whose number follows from what came, not from
// how long they took, so that what is refused on a slow machine is refused on a fast one. Who does work spends it before
// it knows what it costs, so it may be owed; nothing is begun while anything is. It has no lock and no clock.
type allowance struct {
	rate, most float64 // a second, and saved up
	left       float64
	filled     time.Duration
}

func newAllowance(rate, most float64) allowance { return allowance{rate: rate, most: most, left: most} }

// open reports whether there is anything left.
func (a *allowance) open(now time.Duration) bool {
	a.left = min(a.most, a.left+a.rate*max(0, now-a.filled).Seconds())
	a.filled = max(a.filled, now)
	return a.left > 0
}

// low reports whether less than half of what can be saved up is there.
func (a *allowance) low(now time.Duration) bool { return !a.open(now) || a.left < a.most/2 }

// spend takes off what was done.
func (a *allowance) spend(steps int) { a.left -= float64(steps) }

// debt is how long it takes until there is something left.
func (a *allowance) debt(now time.Duration) time.Duration {
	if a.open(now) {
		return 0
	}
	return time.Duration((1 - a.left) / a.rate * float64(time.Second))
}
