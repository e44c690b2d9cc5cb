package rtpstream

import "time"

// KeyframeReason says why a keyframe is asked for.
type KeyframeReason uint8

// The reasons, the most patient first.
const (
	// KeyframeForJoin: somebody begins, or switches to an encoding, and has nothing to begin with.
	KeyframeForJoin KeyframeReason = iota
	// KeyframeForRepair: somebody lost a picture that was there.
	KeyframeForRepair
)

// KeyframeGate collapses the requests for a keyframe of one encoding: one in flight, the next one a gap later that hangs
// on the reason. A request is remembered until a keyframe comes. It is pure: callers say what time it is.
type KeyframeGate struct {
	JoinGap, RepairGap time.Duration // least time between two requests that are answered

	wanted  bool
	why     KeyframeReason
	waiting bool          // one was sent and no keyframe came since
	tries   uint          // sent without an answer
	sent    bool          // last is meant
	last    time.Duration // when one was sent
}

// Requests that are not answered are repeated after keyframeRetry, doubled with each up to keyframeRetryMax: an encoder
// that is off does not answer, and will begin with a keyframe.
const (
	keyframeRetry    = 500 * time.Millisecond
	keyframeRetryMax = 4 * time.Second
)

// Request notes a wish and reports whether it was collapsed into another one.
func (g *KeyframeGate) Request(why KeyframeReason, now time.Duration) (collapsed bool) {
	collapsed = g.wanted || now < g.next(why)
	if !g.wanted || why > g.why {
		g.why = why
	}
	g.wanted = true
	return collapsed
}

// next is the earliest time for a request.
func (g *KeyframeGate) next(why KeyframeReason) time.Duration {
	if !g.sent {
		return 0
	}
	if g.waiting {
		return g.last + min(keyframeRetry<<min(g.tries-1, 3), keyframeRetryMax)
	}
	if why == KeyframeForRepair {
		return g.last + g.RepairGap
	}
	return g.last + g.JoinGap
}

// Due reports, once, that a request is to be sent now.
func (g *KeyframeGate) Due(now time.Duration) bool {
	if !g.wanted || now < g.next(g.why) {
		return false
	}
	g.waiting, g.sent, g.last = true, true, now
	g.tries++
	return true
}

// Pending reports whether a request waits to be sent, or to be answered.
func (g *KeyframeGate) Pending() bool { return g.wanted }

// Arrived notes a keyframe: whoever asked has it.
func (g *KeyframeGate) Arrived() { g.wanted, g.waiting, g.tries = false, false, 0 }
