package cascade

import (
	"sort"
	"time"
)

// Limits of what is remembered of when packets left.
const (
	rateLogMarks = 4096
	rateLogEvery = time.Millisecond
)

// rateMark is what had been sent when a packet left.
type rateMark struct {
	seq   uint64 // its link sequence number
	bytes uint64 // of all sent so far, this packet not included
	at    time.Duration
}

// rateLog remembers when packets left, by link sequence number, to a millisecond and for four seconds: what a report
// says of a packet becomes the delay of its way by it. It has no lock and no clock.
type rateLog struct {
	marks [rateLogMarks]rateMark // a ring
	next  int
	n     int
}

// sent notes a packet that leaves.
func (l *rateLog) sent(m rateMark) {
	if l.n > 0 && m.at-l.marks[(l.next+rateLogMarks-1)%rateLogMarks].at < rateLogEvery {
		return
	}
	l.marks[l.next] = m
	l.next = (l.next + 1) % rateLogMarks
	l.n = min(l.n+1, rateLogMarks)
}

// before returns the latest mark not after a time, or false when that is forgotten.
func (l *rateLog) before(at time.Duration) (rateMark, bool) {
	return l.latest(func(m *rateMark) bool { return m.at > at })
}

// find returns the latest mark not after seq, or false when that is forgotten.
func (l *rateLog) find(seq uint64) (rateMark, bool) {
	return l.latest(func(m *rateMark) bool { return m.seq > seq })
}

// latest returns the last mark that is not beyond.
func (l *rateLog) latest(beyond func(*rateMark) bool) (rateMark, bool) {
	oldest := l.next - l.n + rateLogMarks
	i := sort.Search(l.n, func(i int) bool { return beyond(&l.marks[(oldest+i)%rateLogMarks]) })
	if i == 0 {
		return rateMark{}, false
	}
	return l.marks[(oldest+i-1)%rateLogMarks], true
}
