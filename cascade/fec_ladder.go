package cascade

import "math"

// Rungs of the ladder of residual losses: rung r stands for a share of ladderBest·ladderStep^r left over.
const (
	ladderRungs = 48
	ladderBest  = 1e-6
	ladderStep  = 1.26
	ladderAfter = 0.03 // a plan whose loss moved by less keeps its ladder
	ladderBurst = 0.08 // … and whose burst did
)

// fecLadder tells, for a path that loses packets by the Gilbert model, how many parity symbols leave which residual
// loss: worth[r][m] is the least number of packets for which rung r needs more than m symbols. It has no lock.
type fecLadder struct {
	plan  fecPlan
	worth [ladderRungs][fecMaxParity + 1]uint16
}

// newLadder returns the ladder of a plan, nil for a plan of none.
func newLadder(plan fecPlan) *fecLadder {
	if !plan.on() {
		return nil
	}
	l := &fecLadder{plan: plan}
	loss := min(plan.loss, 0.5)
	burst := max(plan.burst, 1/(1-loss))
	stay, fall := 1-1/burst, loss/(1-loss)/burst // in the bad state; into it
	// lost[k] and good[k]: k of the packets so far are lost, and the last one is or is not.
	var lost, good [fecMaxParity + 1]float64
	lost[0], good[0] = loss, 1-loss // before the first packet: stationary
	for n := 1; n <= fecMaxPackets+fecMaxParity; n++ {
		for k := fecMaxParity; k >= 0; k-- {
			was := 0.0
			if k > 0 {
				was = lost[k-1]*stay + good[k-1]*fall
			}
			good[k] = lost[k]*(1-stay) + good[k]*(1-fall)
			lost[k] = was
		}
		left := loss // expected share of packets lost in runs with more than m losses
		for m := 0; m <= fecMaxParity && m < n; m++ {
			left -= float64(m) * (lost[m] + good[m]) / float64(n)
			if packets := n - m; packets <= fecMaxPackets {
				l.worth[rungOf(left)][m] = uint16(packets)
			}
		}
	}
	for m := range fecMaxParity + 1 { // so far: most packets for which m symbols leave this rung; a higher one allows as many
		most := uint16(0)
		for r := range l.worth {
			most = max(most, l.worth[r][m])
			l.worth[r][m] = most + 1
		}
	}
	return l
}

// fits reports whether the ladder still does for a plan; no ladder does for no plan.
func (l *fecLadder) fits(plan fecPlan) bool {
	if l == nil || !plan.on() {
		return l == nil && !plan.on()
	}
	return within(ladderAfter, l.plan.loss, plan.loss) && within(ladderBurst, l.plan.burst, plan.burst)
}

// rungOf is the lowest rung that allows a share to be left over.
func rungOf(left float64) int {
	if left <= ladderBest {
		return 0
	}
	return min(int(math.Ceil(math.Log(left/ladderBest)/math.Log(ladderStep))), ladderRungs-1)
}

// within reports whether two values differ by no more than a share.
func within(share, a, b float64) bool { return math.Abs(a-b) <= share*math.Abs(a) }

// symbols is how many a rung wants for so many packets.
func (l *fecLadder) symbols(rung, packets int) (n int) {
	for n < fecMaxParity && int(l.worth[rung][n]) <= packets {
		n++
	}
	return n
}
