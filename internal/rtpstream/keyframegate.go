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

// KeyframeGates collapse the requests for keyframes of one source: for each encoding one in flight, repeated when it is
// not answered; for joiners one in JoinGap whatever the encoding; for lost pictures one in RepairGap and encoding. A
// request takes along every other encoding that waits, and for joiners all that were not asked for of late: somebody who
// begins with the small picture goes on to a larger one, and what is kept of the smallest, which joiners begin with, is not
// to grow too old just when the next request has to wait. A wish is remembered until a keyframe comes. It is pure: callers
// say what time it is.
type KeyframeGates struct {
	JoinGap, RepairGap time.Duration // least time between two requests that are answered

	encodings [MaxEncodings]keyframeGate
	joined    bool          // joins is meant
	joins     time.Duration // when one was sent for joiners
}

// keyframeGate is what is known of one encoding.
type keyframeGate struct {
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

// Request notes a wish for a keyframe of encoding e and reports whether it was collapsed into another one. An encoding
// out of range is nobody's wish.
func (g *KeyframeGates) Request(e uint8, why KeyframeReason, now time.Duration) (collapsed bool) {
	if e >= MaxEncodings {
		return true
	}
	k := &g.encodings[e]
	collapsed = k.wanted || now < g.next(k, why)
	if !k.wanted || why > k.why {
		k.why = why
	}
	k.wanted = true
	return collapsed
}

// next is the earliest time for a request.
func (g *KeyframeGates) next(k *keyframeGate, why KeyframeReason) time.Duration {
	switch {
	case k.waiting:
		return k.last + min(keyframeRetry<<min(k.tries-1, 3), keyframeRetryMax)
	case why == KeyframeForRepair && k.sent:
		return k.last + g.RepairGap
	case why == KeyframeForRepair:
		return 0
	}
	next := time.Duration(0)
	if g.joined {
		next = g.joins + g.JoinGap
	}
	if k.sent {
		next = max(next, k.last+g.JoinGap)
	}
	return next
}

// Due returns, once, the encodings a request is to be sent for now, in one message. Those not in can are left for later.
func (g *KeyframeGates) Due(now time.Duration, can EncodingSet) (ask EncodingSet) {
	joins := false
	for e := range uint8(MaxEncodings) {
		k := &g.encodings[e]
		if k.wanted && can.Has(e) && now >= g.next(k, k.why) {
			ask = ask.With(e)
			joins = joins || !k.waiting && k.why == KeyframeForJoin
		}
	}
	if ask == 0 {
		return 0
	}
	for e := range uint8(MaxEncodings) {
		k := &g.encodings[e]
		renew := joins && (!k.sent || now-k.last >= g.JoinGap/2)
		if can.Has(e) && !k.waiting && (k.wanted || renew) {
			ask = ask.With(e)
		}
		if ask.Has(e) {
			k.waiting, k.sent, k.last = k.wanted, true, now
			if k.wanted {
				k.tries++
			}
		}
	}
	if joins {
		g.joined, g.joins = true, now
	}
	return ask
}

// Pending reports whether a request waits to be sent, or to be answered.
func (g *KeyframeGates) Pending() bool {
	for e := range g.encodings {
		if g.encodings[e].wanted {
			return true
		}
	}
	return false
}

// Arrived notes a keyframe of encoding e: whoever asked has it.
func (g *KeyframeGates) Arrived(e uint8) {
	k := &g.encodings[e%MaxEncodings]
	k.wanted, k.waiting, k.tries = false, false, 0
}
