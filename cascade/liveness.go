package cascade

import "time"

// liveness decides whether a link is up. Two independent signals are needed each way: down needs silence on all lanes
// and then a silent control path or two more rounds of probes without an answer; up again needs two answers in a row.
// It has no lock and no clock.
type liveness struct {
	interval, suspectAfter time.Duration

	up         bool
	everUp     bool
	suspectAt  time.Duration // when silence was noticed; 0 when not suspected
	answers    int           // in a row while down
	lastAnswer time.Duration
	downSince  time.Duration
}

// answered notes a probe's answer and reports whether the link came up by it.
func (l *liveness) answered(now time.Duration) (cameUp bool) {
	if now-l.lastAnswer > 3*l.interval {
		l.answers = 0
	}
	l.answers++
	l.lastAnswer = now
	if l.up || (l.everUp && l.answers < 2) {
		return false
	}
	l.up, l.everUp, l.suspectAt = true, true, 0
	return true
}

// livenessAction is what tick asks for.
type livenessAction uint8

const (
	livenessNothing livenessAction = iota
	livenessProbe                  // another round of probes, and a ping on the control path
	livenessDown                   // the link went down
)

// tick looks at the time a frame was last heard on any lane, and a message on the control path.
func (l *liveness) tick(now, heard, controlHeard, rtt time.Duration) livenessAction {
	if !l.up {
		return livenessNothing
	}
	if now-heard <= l.suspectAfter {
		l.suspectAt = 0
		return livenessNothing
	}
	if l.suspectAt == 0 {
		l.suspectAt = now
		return livenessProbe
	}
	grace := max(l.interval, rtt+rtt/8)
	silent := now - l.suspectAt
	if silent >= 2*grace || (silent >= grace && controlHeard < l.suspectAt) {
		l.up, l.answers, l.suspectAt, l.downSince = false, 0, 0, now
		return livenessDown
	}
	return livenessNothing
}
