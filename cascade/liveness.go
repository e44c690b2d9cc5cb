package cascade

import "time"

// liveness decides whether a link is up. It is in doubt as soon as something that must have come did not: then another
// way is opened beside it, which costs little if it was nothing. To call it down takes silence on all lanes and a second
// signal: a silent control path, or once more as long without an answer to probes, for media goes where these go,
// whatever the control path says; and somebody else to be heard, where there is anybody else: to a node that is cut off all others look dead. Up again takes two
// answers on lanes in a row and a word on the control path, or answers without a break for provenAfter: QUIC is slow to
// try again after a long silence. It has no lock and no clock.
type liveness struct {
	interval, suspectAfter time.Duration

	up         bool
	everUp     bool
	doubtedAt  time.Duration // when it was last in doubt; 0 when long ago
	suspectAt  time.Duration // when silence was noticed; 0 when not suspected
	answers    int           // in a row while down
	firstAt    time.Duration // of these
	lastAnswer time.Duration
	downSince  time.Duration
}

const (
	provenAfter = time.Second // of answers in a row, that make up for a slow control path
	doubtHold   = time.Second // a link that was in doubt remains so for this long
)

// heard is when a link gave signs of life.
type heard struct {
	lanes, control time.Duration
	rtt            time.Duration
	cutOff         bool // nobody else is heard either
}

// answered notes a probe's answer, and reports whether the link came up by it, and whether it asks for a word on the
// control path.
func (l *liveness) answered(now, control time.Duration) (cameUp, ask bool) {
	if now-l.lastAnswer > 3*l.interval {
		l.answers = 0
	}
	if l.answers == 0 {
		l.firstAt = now
	}
	l.answers++
	l.lastAnswer = now
	if l.up {
		return false, false
	}
	if l.everUp && (l.answers < 2 || control <= l.downSince && now-l.firstAt < provenAfter) {
		return false, l.answers == 1
	}
	l.up, l.everUp, l.suspectAt, l.doubtedAt = true, true, 0, 0
	return true, false
}

// answering reports whether a link that is down is about to come up.
func (l *liveness) answering(now time.Duration) bool {
	return l.answers > 0 && now-l.lastAnswer <= 3*l.interval
}

// doubtAfter is how long a lane is silent when a probe or its answer is missing for certain.
func (l *liveness) doubtAfter() time.Duration { return max(l.suspectAfter/2, l.interval*3/2) }

// doubtful reports whether media should come another way as well.
func (l *liveness) doubtful(now time.Duration) bool {
	return !l.up && l.everUp || l.doubtedAt != 0 && now-l.doubtedAt < doubtHold
}

// livenessAction is what tick asks for.
type livenessAction uint8

const (
	livenessNothing livenessAction = iota
	livenessProbe                  // another round of probes, and a ping on the control path
	livenessDown                   // the link went down
)

// tick looks at what was heard, and says when to look again.
func (l *liveness) tick(now time.Duration, h heard) (action livenessAction, due time.Duration) {
	if !l.up {
		return livenessNothing, never
	}
	silent := now - h.lanes
	if silent < l.doubtAfter() {
		l.suspectAt = 0
		return livenessNothing, h.lanes + l.doubtAfter()
	}
	l.doubtedAt = now
	if silent <= l.suspectAfter {
		l.suspectAt = 0
		return livenessNothing, h.lanes + l.suspectAfter + time.Millisecond
	}
	grace := max(l.interval, h.rtt+h.rtt/8)
	if l.suspectAt == 0 {
		l.suspectAt = now
		return livenessProbe, now + grace
	}
	if h.cutOff { // whoever is heard again last is not dead for that: the grace begins anew
		l.suspectAt = now + l.interval
		return livenessNothing, now + l.interval
	}
	waited := now - l.suspectAt
	dead := waited >= 2*grace || waited >= grace && h.control < l.suspectAt
	if !dead {
		if waited < grace {
			return livenessNothing, l.suspectAt + grace
		}
		return livenessNothing, l.suspectAt + 2*grace
	}
	l.up, l.answers, l.suspectAt, l.doubtedAt, l.downSince = false, 0, 0, 0, now
	return livenessDown, never
}
