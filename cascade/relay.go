package cascade

import (
	"github.com/meridian-sfu/meridian/internal/meshpb/cascadepb"
	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

// relay notes that flow f carries on what is received from a further node, if it does, so that the path upstream names
// everyone downstream; and refuses what would run in a circle.
func (c *Cascade) relay(src *rtpstream.Source, f *sendFlow) cascadepb.RefuseReason {
	c.mu.Lock()
	r := c.byMedia[src]
	var reason cascadepb.RefuseReason
	switch {
	case r == nil:
	case r.comesThroughLocked(f.path):
		reason = cascadepb.RefuseReason_REFUSE_REASON_LOOP
	case f.hops >= maxHops:
		reason = cascadepb.RefuseReason_REFUSE_REASON_TOO_FAR
	default:
		r.down[f] = struct{}{}
		f.relayed = true
	}
	c.mu.Unlock()
	if r != nil {
		r.DemandChanged()
	}
	return reason
}

// reachChanged tells the nodes a source is pulled from whom it reaches now, if it comes from elsewhere.
func (c *Cascade) reachChanged(src *rtpstream.Source) {
	c.mu.Lock()
	r := c.byMedia[src]
	c.mu.Unlock()
	if r != nil {
		r.DemandChanged()
	}
}

func (c *Cascade) unrelay(src *rtpstream.Source, f *sendFlow) {
	c.mu.Lock()
	r := c.byMedia[src]
	if r != nil {
		delete(r.down, f)
	}
	c.mu.Unlock()
	if r != nil {
		r.DemandChanged()
	}
}
