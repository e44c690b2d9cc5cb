package cascade

import (
	"time"

	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

// What stands between a link and its rateControl.
const (
	ratePadBytes   = 1000                   // of one padding frame
	rateFill       = 64                     // latest packets that stand in for padding
	rateUnreported = 500 * time.Millisecond // and two round trips: so long media flows without a report before there are guesses
	rateResumed    = 8                      // reports in a row until they are believed in again
	rateQueueBytes = 16 << 10
	rateStale      = 1 << 20                // packets back that a report cannot mean any more
	shedPatience   = 150 * time.Millisecond // a base layer waits so much longer for a queue to empty
	shedRest       = 4 << 10                // bytes that wait are none
)

// linkRate is the rate of a link's outgoing half: what reports say, unwrapped and set beside what was sent. It is
// guarded by the sender's mutex.
type linkRate struct {
	on      bool // the link runs
	padded  bool // the peer knows padding
	ctl     rateControl
	windows rateWindows
	log     rateLog
	pool    rtpstream.Pool // of padding
	filled  uint64         // packets taken in place of it
	laps    baseDelay      // round trips of all lanes

	gate           reportGate
	clock          time.Duration
	bytes, packets uint64
	asked          uint64        // packets the peer was found to miss since the latest guess
	since          time.Duration // the first packet left after the latest report, 0 for none
	resumed        int           // reports since the latest guess
	shed           bool          // base layers alone are let through: a queue is being emptied
}

// lapKeep is for how long the least round trip is of the last moments: some probes on some lanes, so that no noise is
// left in it, and no longer than a queue takes to come or go.
const lapKeep = 200 * time.Millisecond

// lap takes a round trip of some lane.
func (s *sender) lap(rtt, now time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := &s.rate
	q.laps.keep = lapKeep
	q.laps.take(rtt, now)
	q.ctl.lap(q.laps.delay(), now)
}

// reported takes what the peer says of what came.
func (l *link) reported(r rateReport, now time.Duration) {
	less, sense := l.tx.reported(r, l.roundTrip(), now)
	if !sense {
		l.senseless(dropBadReport)
	}
	if less {
		l.replan.Store(true)
		l.tx.wake()
	}
}

// reported says whether less may be sent than before, or a new state is to be told of, and whether the report can be.
func (s *sender) reported(r rateReport, rtt, now time.Duration) (less, sense bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := &s.rate
	news, verdict := q.gate.pass(r, now)
	q.clock += news.past
	q.bytes = min(q.bytes+news.bytes, s.drained)
	q.packets = min(q.packets+news.packets, s.next-1)
	back := uint64(uint32(s.next) - r.Seq) // modulo 2³²
	switch {
	case verdict == gateOvertaken:
		return false, true
	case verdict == gateRefused, back == 0 || back > rateStale || back >= s.next: // of a packet that was never sent
		q.resumed = 0
		return false, false
	}
	q.since = 0
	if q.resumed++; q.ctl.coarse && q.resumed < rateResumed {
		return false, true
	}
	guessed := q.ctl.coarse
	q.ctl.guessing(false, now)
	mark, ok := q.log.find(s.next - back)
	if !ok {
		return false, true
	}
	if guessed { // what came since the reports before was guessed as well, and is in this one again
		q.bytes, q.packets = min(q.bytes, mark.bytes), min(q.packets, s.next-back)
	}
	if q.laps.known {
		rtt = q.laps.delay()
	}
	return s.judge(rateSample{
		clock: q.clock, delay: q.clock - time.Duration(r.Age)*time.Microsecond - mark.at, sentAt: mark.at,
		seq: s.next - back, sent: mark.bytes, bytes: q.bytes, packets: q.packets, left: s.drained,
	}, rtt, now), true
}

// guess makes a sample of a round trip to a peer that knows no reports: of what had left a round trip ago, what it did
// not ask for has come by now. The queue of the way back counts with it.
func (s *sender) guess(rtt, now time.Duration) (less bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := &s.rate
	mark, ok := q.log.before(now - rtt)
	if rtt == 0 || !ok {
		return false
	}
	q.resumed = 0
	q.ctl.guessing(true, now)
	if q.ctl.n > 0 && mark.seq <= q.ctl.sample(0).seq {
		return false
	}
	if q.ctl.n > 0 {
		last := q.ctl.sample(0)
		n := mark.seq - last.seq
		lost := min(q.asked, n)
		q.packets += n - lost
		q.bytes += uint64(float64(mark.bytes-last.sent) * float64(n-lost) / float64(n))
	}
	q.asked = 0
	return s.judge(rateSample{clock: now, delay: rtt, sentAt: now - rtt, seq: mark.seq, sent: mark.bytes, bytes: q.bytes, packets: q.packets, left: s.drained}, rtt, now)
}

func (s *sender) judge(sample rateSample, rtt, now time.Duration) (less bool) {
	q := &s.rate
	before, phase := q.ctl.budget(), q.ctl.phase
	q.ctl.report(sample, rtt, now)
	s.setPace(now)
	after := q.ctl.budget()
	return s.shedding() || q.on && (phase != q.ctl.phase || after != 0 && after < before)
}

// shedding decides whether base layers alone are let through: while video waits for a queue to empty, and until what
// waited has left. It reports whether that has changed. The mutex is held.
func (s *sender) shedding() (changed bool) {
	q := &s.rate
	shed := q.on && q.ctl.drain.on && (q.ctl.drain.stop || q.shed && s.sched.bytes > shedRest)
	changed = shed != q.shed
	q.shed, s.sched.shedding = shed, shed
	return changed
}

// limitRate begins to keep to the link's own rate; padded says whether the peer knows padding.
func (s *sender) limitRate(padded bool, now time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rate.on, s.rate.padded = true, padded
	s.setPace(now)
}

// setPace follows the estimate. The mutex is held.
func (s *sender) setPace(now time.Duration) {
	if !s.rate.on {
		s.pace.set(0, now)
		s.sched.maxBytes = s.queueBytes
		return
	}
	s.pace.set(s.rate.ctl.pace(), now)
	s.sched.maxBytes = min(max(int(float64(s.rate.ctl.room())/8*s.videoDelay.Seconds()), rateQueueBytes), s.queueBytes)
}

// unreported reports whether media has flowed for a while of which the peer should have told.
func (s *sender) unreported(rtt, now time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rate.since != 0 && now-s.rate.since > rateUnreported+2*rtt
}

// left notes a packet that leaves under a link sequence number. The mutex is held.
func (q *linkRate) left(seq, drained uint64, now time.Duration) {
	if q.since == 0 {
		q.since = now
	}
	q.log.sent(rateMark{seq: seq, bytes: drained, at: now})
}

// draining reports whether a queue of our making is being let empty: what can be done without is not repaired then.
func (q *linkRate) draining() bool { return q.on && q.ctl.drain.on }

// ownLoss bounds the loss that is to be repaired for: a full queue of our own making loses the more the more is sent, so
// once a limit is known little is believed beyond what was lost when none stood. A queue that others fill loses in bursts
// seconds apart: what is asked for again makes them good at a tenth of what parity against them would take of the share.
func (q *linkRate) ownLoss() float64 {
	switch {
	case !q.on || q.ctl.phase == rateUnlimited:
		return 1
	case q.ctl.phase == rateShared:
		return q.ctl.ownLoss
	}
	return max(q.ctl.ownLoss, q.ctl.late/2)
}

// pad fills what the pacer would let through and media does not take, while the path is probed: with padding, or for a
// peer that would take it for garbage with what it was sent a moment ago. The mutex is held.
func (s *sender) pad(now time.Duration) {
	if !s.rate.on || !s.rate.ctl.padding() {
		return
	}
	for s.sched.empty() && s.pace.ready(now, false) && s.room(now, false) {
		it, ok := s.filling()
		if !ok {
			return
		}
		s.pace.spend(len(it.rtp()))
		s.stats.padding.Add(uint64(len(it.rtp())))
		s.enqueue(it, s.pick(now, it.avoid, false))
	}
}

// filling is something to send that says nothing new.
func (s *sender) filling() (it item, ok bool) {
	if s.rate.padded {
		p := s.rate.pool.Get()
		clear(p.Buffer()[:ratePadBytes])
		return item{pkt: p, half: halfPadding, size: ratePadBytes, class: classRest}, true
	}
	for range rateFill {
		s.rate.filled++
		back := 1 + s.rate.filled%rateFill
		if back >= s.next {
			return item{}, false
		}
		if it, ok = s.cache.again(s.next - back); ok && len(it.rtp()) > ratePadBytes/2 {
			return it, true
		} else if ok {
			it.pkt.Release()
		}
	}
	return item{}, false
}

// rateState is what the link's rate is like, for plans and for status.
type rateState struct {
	phase    ratePhase
	estimate Bitrate // 0 when there is no limit
	budget   Bitrate // 0 when there is no limit
	shed     bool    // base layers alone
	queue    time.Duration
	repair   uint64 // bytes sent so far
	drained  uint64 // bytes sent so far, all
}

func (s *sender) rateState() rateState {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := &s.rate
	st := rateState{phase: rateUnlimited, queue: q.ctl.queue, repair: s.stats.overhead.Load(), drained: s.drained}
	if q.on && q.ctl.phase != rateUnlimited {
		st.phase, st.estimate, st.budget, st.shed = q.ctl.phase, Bitrate(q.ctl.estimate), q.ctl.budget(), q.shed
	}
	return st
}

// want says what would be sent if all of it fitted, 0 when it does, and with one step up; and what audio takes.
func (s *sender) want(all, next, audio Bitrate) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rate.ctl.want(all, next)
	s.rate.ctl.audio = float64(audio)
}
