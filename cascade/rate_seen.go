package cascade

import "time"

// reportEvery is how often the sender is told what came while anything does: some reports in a round trip of any
// distance, and a queue is noticed before it is full.
const reportEvery = 25 * time.Millisecond

// rateSeen counts what comes in by itself, for reports. It has no lock and no clock.
type rateSeen struct {
	packets uint32
	newest  uint64 // link sequence number
	at      time.Duration
}

// came notes a packet that was neither sent again nor restored.
func (s *rateSeen) came(seq uint64, at time.Duration) {
	s.packets++
	if seq > s.newest {
		s.newest, s.at = seq, at
	}
}

// report makes a report; there is none before the first packet.
func (s *rateSeen) report(bytes uint32, now time.Duration) (rateReport, bool) {
	if s.packets == 0 {
		return rateReport{}, false
	}
	age := min(max(now-s.at, 0), rateMaxAge-time.Microsecond)
	return rateReport{
		Clock: uint32(now.Microseconds()), Seq: uint32(s.newest), Age: uint32(age.Microseconds()),
		Bytes: bytes, Packets: s.packets,
	}, true
}

// guess looks at round trips as often as reports would come, while there is media, when the peer knows none or tells
// nothing. It returns when to look again.
func (t *ticker) guess(now time.Duration) time.Duration {
	l := t.link
	newest := l.tx.highest()
	if l.knowsRate() && !l.tx.unreported(l.roundTrip(), now) || newest == t.guessedLast && now-t.guessedAt < 4*reportEvery {
		return never // the next round looks again
	}
	if now < t.guessedAt+reportEvery {
		return t.guessedAt + reportEvery
	}
	t.guessedAt, t.guessedLast = now, newest
	if l.tx.guess(time.Duration(l.quickest.Swap(0)), now) {
		l.replan.Store(true)
	}
	if len(t.lanes) > 0 {
		t.guesses++
		l.probe(t.lanes[t.guesses%len(t.lanes)])
	}
	return now + reportEvery
}

// report tells the peer what came since the last report, when anything did and the peer wants to know. It returns when
// the next one may be due.
func (t *ticker) report(now time.Duration) time.Duration {
	l := t.link
	if !l.knowsRate() {
		return never
	}
	if now < t.reportedAt+reportEvery {
		return t.reportedAt + reportEvery
	}
	l.rx.mu.Lock()
	r, ok := l.rx.seen.report(l.bytesIn.Load(), now)
	l.rx.mu.Unlock()
	if !ok || r.Packets == t.reportedLast {
		if now-t.reportedAt < 4*reportEvery {
			return now + reportEvery
		}
		return never // the next round looks again
	}
	var buf [laneControlBytes]byte
	if l.tx.control(nil, appendReport(buf[:0], r), now) {
		t.reportedAt, t.reportedLast = now, r.Packets
	}
	return now + reportEvery
}
