package route

import (
	"cmp"
	"slices"
	"time"
)

// TwinLag is how much more a spare way may cost, so that audio over both has no gap of 60 ms when the first dies: a
// packet's 20 ms, and half of the difference of the round trips.
const TwinLag = 80 * time.Millisecond

// Spare returns the way to have ready for when the first fails: another gateway, or the direct way, or for that a detour
// over a third region. It shares no node and no region with the first on the way; false when there is none. The current
// one, if it still can be, gives way only to one that is clearly better.
func (s *Snapshot) Spare(q Query, first, current Way) (Way, bool) {
	self, here := s.byID[q.Self]
	origin, there := s.byID[q.Origin]
	if !here || !there || q.Role == Detour || self.Region == origin.Region {
		return Way{}, false
	}
	q.Avoid = append(slices.Clone(q.Avoid), first.From)
	if w, ok := s.byGateway(q); ok {
		return w, true
	}
	if first.Kind != Direct && !s.down(q.Origin, q.Self) {
		return s.direct(q), true
	}
	ways := s.detours(q, false)
	if len(ways) == 0 {
		return Way{}, false
	}
	best := slices.MinFunc(ways, func(a, b Way) int {
		return cmp.Or(cmp.Compare(a.Cost, b.Cost), cmp.Compare(weight(q.Source, b.From), weight(q.Source, a.From)))
	})
	for _, w := range ways {
		if w.From == current.From && current.Kind == ViaDetour && !worth(w.Cost, best.Cost) {
			return w, true
		}
	}
	return best, true
}

// Twin reports whether audio should come by both ways at once: straight from the origin, and over a third region in
// hardly more time. One that does already needs to be worse by a quarter to end it.
func Twin(first, spare Way, already bool) bool {
	lag := TwinLag
	if already {
		lag += lag / 4
	}
	return first.Kind == Direct && spare.Kind == ViaDetour && spare.Cost-first.Cost <= lag
}
