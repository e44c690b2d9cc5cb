package route

import (
	"slices"
	"time"
)

// Hysteresis: what a better way must gain, and for how long, before it is taken.
const (
	HoldDown    = 3 * time.Second
	MaxHoldDown = time.Minute     // of a route that fell again and again
	calmAfter   = 2 * time.Minute // with the direct way up, and earlier falls are forgotten
	minGain     = 10 * time.Millisecond
	gainShare   = 0.15
)

// Route is a way that is in use, with what is needed not to leave it lightly. The zero value has no way yet.
type Route struct {
	Way
	rival  Way
	since  time.Duration // when the rival was first better by enough
	falls  int           // ways that died in use, lately
	fellAt time.Duration // when the last one did, or the direct way was down last
}

// Update returns the route to use from now on. Now is any clock that only grows.
func (r Route) Update(now time.Duration, s *Snapshot, q Query) Route {
	switch {
	case r.falls > 0 && s.down(q.Origin, q.Self):
		r.fellAt = now // it is not over
	case now-r.fellAt >= calmAfter:
		r.falls = 0
	}
	best := s.Best(q)
	current, usable := s.price(r.Way, q)
	switch {
	case best.From == r.From && best.Kind == r.Kind:
		r.Way, r.rival = best, Way{}
	case !usable || best.Kind == ViaGateway:
		if r.From != "" && r.Kind != ViaGateway {
			r.falls, r.fellAt = r.falls+1, now
		}
		r.Way, r.rival = best, Way{}
	case !worth(current.Cost, best.Cost) && !home(current, best):
		r.Way, r.rival = current, Way{}
	case r.rival.From != best.From || r.rival.Kind != best.Kind:
		r.Way, r.rival, r.since = current, best, now
	case now-r.since >= r.holdDown():
		r.Way, r.rival = best, Way{}
	default:
		r.Way, r.rival = current, best
	}
	return r
}

// holdDown doubles with every fall: a link that comes and goes does not take the route along (RFC 2439).
func (r Route) holdDown() time.Duration {
	return min(HoldDown<<min(max(r.falls-1, 0), 8), MaxHoldDown)
}

func worth(current, better time.Duration) bool {
	gain := current - better
	return gain >= minGain && float64(gain) >= gainShare*float64(current)
}

// home reports whether the direct way is as good again as a detour: it spares the mesh a copy.
func home(current, better Way) bool {
	return current.Kind == ViaDetour && better.Kind == Direct && better.Cost <= current.Cost
}

// price returns a way with its cost now, and whether it may still be used.
func (s *Snapshot) price(w Way, q Query) (Way, bool) {
	switch {
	case w.From == "" || w.Kind == ViaGateway: // a gateway that is not the best one is none
		return w, false
	case w.Kind == Direct:
		return s.direct(q), w.From == q.Origin && !s.down(q.Origin, q.Self)
	}
	node, here := s.byID[w.From]
	if !here || node.Draining || q.Role == Detour || slices.Contains(q.Avoid, w.From) ||
		q.Role == Serving && node.Region == s.byID[q.Self].Region {
		return w, false
	}
	first, up := s.known(q.Origin, w.From)
	second, up2 := s.known(w.From, q.Self)
	w.Cost = first.Cost() + hopCost + second.Cost()
	return w, up && up2
}
