package sfm

import (
	"strings"
	"time"

	"github.com/pion/webrtc/v4"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

// noEncoding as a choice sends nothing.
const noEncoding = rtpstream.NoEncoding

// starvedAfter is how long a wanted encoding may stay silent before another one is looked for.
const starvedAfter = time.Second

// longSides returns the longer side in pixels of each of n encodings: as announced, else a half of the next one up
// (the RIDs q, h and f stand for a quarter, a half and the full size).
func longSides(src mesh.Source, n int) []uint32 {
	sides := make([]uint32, n)
	full := max(src.Width, src.Height)
	for e := n - 1; e >= 0; e-- {
		if e < len(src.Encodings) {
			sides[e] = max(src.Encodings[e].Width, src.Encodings[e].Height)
		}
		if sides[e] == 0 {
			sides[e] = full >> (n - 1 - e)
		}
	}
	return sides
}

// chooseEncoding returns the encoding that serves a wish best: the smallest that is large enough, not above the quality
// asked for.
func chooseEncoding(sides []uint32, w Wanted) int {
	if w.Disabled {
		return noEncoding
	}
	best := len(sides) - 1
	if want := max(w.Width, w.Height); want > 0 {
		for e, side := range sides {
			if side >= want {
				best = e
				break
			}
		}
	}
	if w.Quality >= 0 {
		best = min(best, w.Quality)
	}
	return best
}

// thumbnailSide is the longer side in pixels up to which a picture is a thumbnail: fifteen frames a second do for it.
const thumbnailSide = 240

// maxTemporal is the highest temporal layer worth sending for a wish, of a source that sends 30 frames per second in up
// to three layers.
func maxTemporal(w Wanted) uint8 {
	fps := w.FPS
	if side := max(w.Width, w.Height); fps == 0 && side > 0 && side <= thumbnailSide {
		fps = 15
	}
	switch {
	case fps == 0 || fps > 15:
		return rtpstream.AllTemporal
	case fps > 8:
		return 1
	}
	return 0
}

// chooseSpatial is the highest spatial layer worth sending for a wish, of a stream that told its structure, or did not yet.
func chooseSpatial(st *rtpstream.Structure, full uint32, w Wanted) uint8 {
	if st == nil { // it comes with the first keyframe
		if w.Quality == 0 {
			return 0
		}
		return rtpstream.AllSpatial
	}
	sides := make([]uint32, st.Spatials)
	for l := range sides {
		if sides[l] = full >> (st.Spatials - 1 - l); st.HasSizes {
			sides[l] = uint32(max(st.Sizes[l].Width, st.Sizes[l].Height))
		}
	}
	if best := chooseEncoding(sides, w); best >= 0 && best < st.Spatials-1 {
		return uint8(best)
	}
	return rtpstream.AllSpatial
}

func layered(mime string) bool {
	return strings.EqualFold(mime, webrtc.MimeTypeVP9) || strings.EqualFold(mime, webrtc.MimeTypeAV1)
}

// layerChoice picks the encoding to send of one source to one client. It is pure: callers say what time it is.
type layerChoice struct {
	sides   []uint32
	wanted  Wanted
	full    uint32                                // longer side in pixels of the source
	svc     bool                                  // its codec may have spatial layers
	ideal   int                                   // by wish alone
	since   time.Duration                         // when goal was chosen
	seen    [rtpstream.MaxEncodings]time.Duration // last packet; 0 is never
	starved bool                                  // goal sends nothing

	available rtpstream.EncodingSet // what can come
	goal      int                   // the nearest of it to ideal
}

func newLayerChoice(src mesh.Source, encodings int, w Wanted, now time.Duration) layerChoice {
	c := layerChoice{sides: longSides(src, encodings), full: max(src.Width, src.Height), svc: layered(src.MIMEType), ideal: noEncoding, goal: noEncoding, available: rtpstream.AllEncodings}
	c.want(w, now)
	return c
}

// want takes a new wish.
func (c *layerChoice) want(w Wanted, now time.Duration) {
	c.wanted = w
	c.ideal = chooseEncoding(c.sides, w)
	c.aim(now)
}

// layers are those worth sending of an encoding with the structure, nil when it did not tell any.
func (c *layerChoice) layers(st *rtpstream.Structure) rtpstream.Layers {
	l := rtpstream.Layers{Spatial: rtpstream.AllSpatial, Temporal: maxTemporal(c.wanted)}
	if len(c.sides) == 1 && c.svc { // else the sizes are the encodings'
		l.Spatial = chooseSpatial(st, c.full, c.wanted)
	}
	return l
}

// allow takes what can come: an encoding that cannot is not waited for.
func (c *layerChoice) allow(set rtpstream.EncodingSet, now time.Duration) {
	c.available = set
	c.aim(now)
}

// aim sets the goal: the ideal encoding, or the best smaller one that can come, or else the smallest.
func (c *layerChoice) aim(now time.Duration) {
	goal := c.ideal
	if goal != noEncoding && !c.available.Has(uint8(goal)) {
		for e := range len(c.sides) {
			if c.available.Has(uint8(e)) && (e < c.ideal || goal == c.ideal) {
				goal = e
			}
		}
	}
	if goal != c.goal {
		c.goal, c.since, c.starved = goal, now, false
	}
}

// restart begins the patience with the ideal encoding anew.
func (c *layerChoice) restart(now time.Duration) { c.since, c.starved = now, false }

// target returns the encoding to send now, and what to ask of the source beyond it.
func (c *layerChoice) target(now time.Duration) (encoding int, alsoAll bool) {
	if c.goal == noEncoding {
		return noEncoding, false
	}
	if now-max(c.seen[c.goal], c.since) < starvedAfter {
		// A starved encoding counts as back only once it sent something.
		if !c.starved || c.flows(c.goal, now) {
			c.starved = false
			return c.goal, false
		}
	} else {
		c.starved = true
	}
	if len(c.sides) == 1 {
		return c.goal, false
	}
	for e := c.goal - 1; e >= 0; e-- {
		if c.flows(e, now) {
			return e, true
		}
	}
	for e := c.goal + 1; e < len(c.sides); e++ {
		if c.flows(e, now) {
			return e, true
		}
	}
	return c.goal, true
}

// first is the encoding a client begins with that has to wait for its goal's next keyframe: the smallest, of which
// publishers never stop to send and of which whole seconds are kept.
func (c *layerChoice) first() int {
	for e := range len(c.sides) {
		if c.available.Has(uint8(e)) {
			return e
		}
	}
	return noEncoding
}

func (c *layerChoice) flows(e int, now time.Duration) bool {
	return c.seen[e] != 0 && now-c.seen[e] < starvedAfter
}

// demandTracker tells a publisher of rising demand at once and of falling demand after a while, so that a window that is
// resized does not make encoders start and stop. It is pure.
type demandTracker struct {
	delay  time.Duration
	told   rtpstream.Demand
	lessAt time.Duration // when to tell of less; 0 is not pending
}

// update takes the demand of now and reports what the publisher shall be told.
func (t *demandTracker) update(d rtpstream.Demand, now time.Duration) (tell rtpstream.Demand, changed bool) {
	if d == t.told {
		t.lessAt = 0
		return t.told, false
	}
	if more := t.told.Union(d); more != t.told {
		t.told, changed = more, true
		t.lessAt = 0
	}
	if t.told == d {
		return t.told, changed
	}
	switch {
	case t.lessAt == 0:
		t.lessAt = now + t.delay
	case now >= t.lessAt:
		t.told, t.lessAt, changed = d, 0, true
	}
	return t.told, changed
}
