package cascade

import (
	"slices"
	"time"
)

// depth is how many packets of a kind may wait on one lane.
func (s *sender) depth() int {
	if len(s.lanes) > fewLanes {
		return laneQueueMany
	}
	return laneQueue
}

func (s *sender) room(now time.Duration, urgent bool) bool {
	for _, l := range s.lanes {
		if l.ring(urgent).n < s.depth() && l.usable(now) {
			return true
		}
	}
	return false
}

// pick returns the lane with the least waiting that is neither stalled nor silent, the nearest one of these; another
// than avoid when there is one. It is nil when there is no room anywhere.
func (s *sender) pick(now time.Duration, avoid *lane, urgent bool) *lane {
	var best *lane
	bestCost := 0
	s.turn++
	for i := range s.lanes {
		l := s.lanes[(i+s.turn)%len(s.lanes)]
		if l.ring(urgent).n >= s.depth() || !l.usable(now) {
			continue
		}
		cost := l.waiting()
		if l.silent(now, s.suspectAfter) {
			cost += 1000
		}
		if l == avoid {
			cost += 100
		}
		if l.direct != nil && l != s.steady {
			cost++
		}
		if best == nil || cost < bestCost || (cost == bestCost && l.rtt.Load()*4 < best.rtt.Load()*3) {
			best, bestCost = l, cost
		}
		if bestCost == 0 && len(s.lanes) > fewLanes {
			break
		}
	}
	if avoid == nil && best != nil && best.direct != nil {
		s.steady = best
	}
	return best
}

// attach adds a lane.
func (s *sender) attach(l *lane, now time.Duration) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return
	}
	s.lanes = append(s.lanes, l)
	s.limit()
	s.pump(now)
	s.departNow()
}

// detach takes a lane out. What waited on it is sent again on another when the peer asks for it.
func (s *sender) detach(l *lane) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.Index(s.lanes, l)
	if i < 0 {
		return
	}
	s.lanes = slices.Delete(s.lanes, i, i+1)
	if s.steady == l {
		s.steady = nil
	}
	s.stats.drops[dropLaneDown].Add(uint64(l.clear()))
	s.limit()
}

// limit recomputes the datagram size every lane carries.
func (s *sender) limit() {
	s.maxBytes = safeDatagram
	for i, l := range s.lanes {
		if i == 0 || l.max < s.maxBytes {
			s.maxBytes = l.max
		}
	}
}

// resize notes a lane's datagram size as it is now.
func (s *sender) resize(l *lane, bytes int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l.max = bytes
	s.limit()
}

// snapshotLanes returns the attached lanes.
func (s *sender) snapshotLanes(into []*lane) []*lane {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append(into, s.lanes...)
}
