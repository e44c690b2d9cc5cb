package cascade

import (
	"sync/atomic"
	"time"

	"github.com/meridian-sfu/meridian/internal/meshpb/cascadepb"
	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

// Limits of what is sent beside the media to make up for losses.
const (
	parityQueue   = 2 * fecMaxParity
	parityPatient = 20 * time.Millisecond // a symbol that waited longer would come too late
	copyQueue     = 512
	copyAfter     = 30 * time.Millisecond // far enough behind an audio packet to miss the burst it was lost in
	copyMinLoss   = fecMinLoss
	copyFewer     = 40                   // packets of a block: in a larger one short symbols do for audio what copies do, at less cost
	againAfter    = 4 * time.Millisecond // as far behind a retransmission, where losses come in bursts
	againQueue    = 512
	ageEvery      = 250 * time.Millisecond
)

// outgoingRepair is what a sender does about losses before it hears of them: parity symbols, and a second copy of
// audio. It is guarded by the sender's mutex.
type outgoingRepair struct {
	pool    rtpstream.Pool
	path    pathLoss
	ladder  *fecLadder    // what the path calls for, nil for nothing
	compact bool          // the peer knows graded symbols and short headers
	copying bool          // of audio
	bursts  bool          // losses come in bursts: what is asked for is sent twice
	told    time.Duration // what due returned last: earlier, and the ticker has to know
	sliding bool          // … and windows that slide
	enc     fecEncoder
	slide   slidingEncoder
	parity  ring[item]     // queued is when each is due at the latest
	copies  ring[sendCopy] // of audio, the oldest first
	again   ring[sendCopy] // of retransmissions, the oldest first
}

// sendCopy is a packet to be sent once more.
type sendCopy struct {
	seq uint64
	due time.Duration
}

func newOutgoingRepair() outgoingRepair {
	return outgoingRepair{
		parity: newRing[item](parityQueue), copies: newRing[sendCopy](copyQueue), again: newRing[sendCopy](againQueue),
	}
}

// adapt takes what is known of the path and of the peer, and returns the loss that is to be reckoned with. It is called
// by one goroutine.
func (s *sender) adapt(rtt time.Duration, loss, burst float64, features uint32, now time.Duration) float64 {
	s.mu.Lock()
	r := &s.repair
	copying := min(loss, s.rate.ownLoss()) > copyMinLoss
	loss, burst = r.path.reckon(loss, burst, s.next-1, now)
	loss = min(loss, s.rate.ownLoss())
	ladder := r.ladder
	s.mu.Unlock()
	plan := fecPlan{}
	if features&uint32(cascadepb.Feature_FEATURE_FEC) != 0 {
		plan = planFEC(rtt, loss, burst)
	}
	if !ladder.fits(plan) {
		ladder = newLadder(plan) // half a millisecond, so not under the mutex
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cache.budget.round()
	code := evenCode
	if r.compact = features&uint32(cascadepb.Feature_FEATURE_COMPACT) != 0; r.compact {
		code = gradedCode
	}
	r.ladder = ladder
	if r.sliding = features&uint32(cascadepb.Feature_FEATURE_SLIDING) != 0; r.sliding {
		r.slide.follow(ladder)
	} else {
		r.enc.follow(ladder, code)
	}
	r.bursts = plan.bursty() > 0
	r.copying = copying && !plan.single() && (!code.graded || max(r.enc.usual, r.slide.planned) < copyFewer)
	return loss
}

// learned is what is known of the path so far.
func (s *sender) learned(now time.Duration) (path fecPlan, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.repair.path.learned(now)
}

// protect takes what is being sent into the open block, and notes audio to be sent once more. The mutex is held.
func (s *sender) protect(it *item, now time.Duration) {
	r := &s.repair
	if it.class == classAudio && r.copying && !it.flow.twin.Load() && !r.copies.full() {
		r.copies.push(sendCopy{it.seq, now + copyAfter})
	}
	if r.enc.wanted() {
		h := it.header()
		r.enc.add(it.seq, &h, it.rtp(), now)
	}
	s.mend(now, 1)
	if r.slide.wanted() { // what leaves now has no symbol that leaves before it
		h := it.header()
		r.slide.add(it.seq, &h, it.rtp(), now)
	}
	s.remind(now)
}

// remind wakes the ticker when something is due before it would look. The mutex is held.
func (s *sender) remind(now time.Duration) {
	if due := s.dueLocked(now); due < s.repair.told {
		s.repair.told = due
		s.wake()
	}
}

// mend ends the block that is due and sends what is due of parity and copies, and spare symbols ahead of their time.
// The mutex is held.
func (s *sender) mend(now time.Duration, spare int) {
	r := &s.repair
	r.enc.thrift = s.cache.budget.thrift()
	r.slide.thrift = r.enc.thrift
	if r.enc.full(now) {
		s.endBlock(now)
		spare = 0
	}
	for r.parity.n > 0 && (spare > 0 || r.parity.peek().queued <= now) {
		if now-r.parity.peek().queued > parityPatient {
			it := r.parity.pop()
			it.pkt.Release()
			continue
		}
		if !s.room(now, false) || !s.pace.ready(now, false) {
			break
		}
		it := r.parity.pop()
		if !s.cache.budget.ask(repairParity, it.size) {
			it.pkt.Release()
			continue
		}
		s.stats.parity.Add(1)
		s.put(it, nil, now)
		spare--
	}
	s.slideOn(now)
	s.repeatDue(&r.copies, repairCopy, &s.stats.copies, now)
	s.repeatDue(&r.again, repairAgain, &s.stats.retransmissions, now)
}

// slideOn sends the symbols of the sliding window that are due.
func (s *sender) slideOn(now time.Duration) {
	r := &s.repair
	if !r.slide.wanted() {
		return
	}
	for now >= r.slide.due && r.slide.planned > 0 && s.room(now, false) && s.pace.ready(now, false) {
		h, symbol, ok := r.slide.symbol(now)
		if !ok {
			continue
		}
		pkt := r.pool.Get()
		it := item{pkt: pkt, half: halfParity, kind: frameSliding, class: classRest, queued: now}
		it.size = len(appendParity(pkt.Buffer()[:0], h, symbol))
		if !s.cache.budget.ask(repairParity, it.size) {
			pkt.Release()
			continue
		}
		s.stats.parity.Add(1)
		s.put(it, nil, now)
	}
}

// repeatDue sends what is due of packets to be sent once more.
func (s *sender) repeatDue(q *ring[sendCopy], kind repairKind, count *atomic.Uint64, now time.Duration) {
	for q.n > 0 && q.peek().due <= now {
		it, ok := s.cache.again(q.pop().seq)
		switch {
		case !ok:
		case !s.room(now, false) || !s.pace.ready(now, true) || !s.cache.budget.ask(kind, len(it.rtp())):
			it.pkt.Release()
		default:
			count.Add(1)
			s.put(it, it.avoid, now)
		}
	}
}

// put queues repair on another lane than avoid. There is room.
func (s *sender) put(it item, avoid *lane, now time.Duration) {
	s.stats.overhead.Add(uint64(len(it.rtp())))
	s.pace.spend(len(it.rtp()) + mediaHeaderBytes)
	l := s.pick(now, avoid, false)
	s.enqueue(it, l)
}

// endBlock queues the parity symbols of the open block.
func (s *sender) endBlock(now time.Duration) {
	r := &s.repair
	h := r.enc.finish()
	spread := r.enc.rungs.plan.spread()
	for i := range h.Parity {
		if r.parity.full() {
			old := r.parity.pop()
			old.pkt.Release()
		}
		h.Index = i
		pkt := r.pool.Get()
		body := appendParity(pkt.Buffer()[:0], h, r.enc.rows[i][:r.enc.sizes[i]])
		r.parity.push(item{
			pkt: pkt, half: halfParity, kind: h.kind(), size: len(body), class: classRest,
			queued: now + spread*time.Duration(i+1)/time.Duration(h.Parity),
		})
	}
}

// due is when something of the repair, or of what the pacer holds back, is due; or never.
func (s *sender) due(now time.Duration) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.repair.told = s.dueLocked(now)
	return s.repair.told
}

func (s *sender) dueLocked(now time.Duration) time.Duration {
	r := &s.repair
	due, paced := r.enc.due(), time.Duration(0)
	if s.rate.on {
		due = min(due, s.rate.ctl.due())
	}
	if !s.pace.ready(now, false) {
		paced = s.pace.due(now)
		if !s.sched.empty() || s.rate.on && s.rate.ctl.padding() {
			due = min(due, paced)
		}
	}
	if r.parity.n > 0 {
		due = min(due, max(r.parity.peek().queued, paced))
	}
	if at := r.slide.timer(); at < never {
		due = min(due, max(at, paced))
	}
	for _, q := range [...]*ring[sendCopy]{&r.copies, &r.again} {
		if q.n > 0 {
			due = min(due, q.peek().due)
		}
	}
	return due
}

func (r *outgoingRepair) clear() {
	for r.parity.n > 0 {
		it := r.parity.pop()
		it.pkt.Release()
	}
	r.copies, r.again = newRing[sendCopy](copyQueue), newRing[sendCopy](againQueue)
}
