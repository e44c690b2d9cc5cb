package cascade

import (
	"time"

	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

// Limits of what is sent beside the media to make up for losses.
const (
	parityQueue   = 2 * fecMaxParity
	parityPatient = 20 * time.Millisecond // a symbol that waited longer would come too late
	copyQueue     = 512
	copyAfter     = 30 * time.Millisecond // far enough behind an audio packet to miss the burst it was lost in
	copyMinLoss   = fecMinLoss
	ageEvery      = 250 * time.Millisecond
)

// outgoingRepair is what a sender does about losses before it hears of them: parity symbols, and a second copy of
// audio. It is guarded by the sender's mutex.
type outgoingRepair struct {
	pool    rtpstream.Pool
	plan    fecPlan
	copying bool
	first   time.Duration // when the first packet left
	told    time.Duration // what due returned last: earlier, and the ticker has to know
	enc     fecEncoder
	parity  ring[item]      // queued is when each is due at the latest
	copies  ring[audioCopy] // the oldest first
}

type audioCopy struct {
	seq uint64
	due time.Duration
}

func newOutgoingRepair() outgoingRepair {
	return outgoingRepair{parity: newRing[item](parityQueue), copies: newRing[audioCopy](copyQueue)}
}

// adapt takes what is known of the path, and returns the loss that is to be reckoned with.
func (s *sender) adapt(rtt time.Duration, loss, burst float64, fec bool, now time.Duration) float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := &s.repair
	copying := loss > copyMinLoss
	if r.first == 0 || (s.next < priorPackets && now-r.first < priorTime) {
		loss = max(loss, priorLoss)
	}
	r.plan = fecPlan{}
	if fec {
		r.plan = planFEC(rtt, loss, burst)
	}
	r.copying = copying && !r.plan.single()
	return loss
}

// protect takes what is being sent into the open block, and notes audio to be sent once more. The mutex is held.
func (s *sender) protect(it *item, now time.Duration) {
	r := &s.repair
	if r.first == 0 {
		r.first = now
	}
	if it.class == classAudio && r.copying && !r.copies.full() {
		r.copies.push(audioCopy{it.seq, now + copyAfter})
	}
	if r.plan.on() || r.enc.n > 0 {
		h := it.header()
		r.enc.add(it.seq, &h, it.rtp(), r.plan, now)
	}
	s.mend(now, 1)
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
		s.stats.parity.Add(1)
		s.put(it, nil, now)
		spare--
	}
	for r.copies.n > 0 && r.copies.peek().due <= now {
		c := r.copies.pop()
		if it, ok := s.cache.copyOf(c.seq); ok {
			if !s.room(now, false) || !s.pace.ready(now, true) {
				it.pkt.Release()
				continue
			}
			s.stats.copies.Add(1)
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
	h, size := r.enc.finish()
	for i := range h.Parity {
		if r.parity.full() {
			old := r.parity.pop()
			old.pkt.Release()
		}
		h.Index = i
		pkt := r.pool.Get()
		body := appendParity(pkt.Buffer()[:0], h, r.enc.rows[i][:size])
		s.cache.spend(len(body))
		r.parity.push(item{
			pkt: pkt, half: halfParity, size: len(body), class: classRest,
			queued: now + fecSpread*time.Duration(i+1)/time.Duration(h.Parity),
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
	if !s.pace.ready(now, false) {
		paced = s.pace.due(now)
		if !s.sched.empty() {
			due = min(due, paced)
		}
	}
	if r.parity.n > 0 {
		due = min(due, max(r.parity.peek().queued, paced))
	}
	if r.copies.n > 0 {
		due = min(due, r.copies.peek().due)
	}
	return due
}

func (r *outgoingRepair) clear() {
	for r.parity.n > 0 {
		it := r.parity.pop()
		it.pkt.Release()
	}
	r.copies = newRing[audioCopy](copyQueue)
}
