package cascade

import (
	"cmp"
	"slices"
	"time"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/meshpb/cascadepb"
)

// What nodes tell one another of their links, so that routes over a third node are chosen by what it measures.
const (
	maxTold     = 64              // links told of in one message
	tellEvery   = time.Second     // when something changed
	tellAnyway  = 5 * time.Second // when nothing did
	lossUnit    = 65535
	notableLoss = lossUnit / 200
	notableTime = 2000 // µs
)

// Leg is what another node says of one of its links.
type Leg struct {
	From, To mesh.NodeID // who says it, and of the link to whom
	RTT      time.Duration
	Jitter   time.Duration // mean deviation of the round trip
	LossIn   float64       // share lost on the way to From, before repair, 0 to 1
	LossOut  float64       // and on the way to To
	Down     bool          // nothing passes
	Age      time.Duration // since it was said
}

// told is what a peer said of its links. It is replaced, never changed.
type told struct {
	links []*cascadepb.NodeLink
	at    time.Duration
}

// Legs returns what other nodes say of their links. A node says it every five seconds at least while there is a link to it.
func (c *Cascade) Legs() []Leg {
	c.mu.Lock()
	said := make(map[mesh.NodeID]*told, len(c.peers))
	for id, p := range c.peers {
		if p.told != nil {
			said[id] = p.told
		}
	}
	c.mu.Unlock()
	now := c.now()
	var legs []Leg
	for id, t := range said {
		for _, l := range t.links {
			legs = append(legs, Leg{
				From: id, To: mesh.NodeID(l.GetNode()), Down: l.GetDown(), Age: now - t.at,
				RTT: time.Duration(l.GetRtt()) * time.Microsecond, Jitter: time.Duration(l.GetJitter()) * time.Microsecond,
				LossIn: float64(min(l.GetLossIn(), lossUnit)) / lossUnit, LossOut: float64(min(l.GetLossOut(), lossUnit)) / lossUnit,
			})
		}
	}
	return legs
}

// hear takes what the peer says of its links. False means that no honest node would say it.
func (l *link) hear(m *cascadepb.LinkState) bool {
	if len(m.GetLinks()) > maxTold {
		return false
	}
	for _, k := range m.GetLinks() {
		if _, err := mesh.ParseNodeID(k.GetNode()); err != nil {
			return false
		}
	}
	l.c.mu.Lock()
	l.peer.told = &told{m.GetLinks(), l.c.now()}
	l.c.mu.Unlock()
	return true
}

// linkState is what a peer is told of this node's other links: of those that are up or were, the first maxTold by name.
func (c *Cascade) linkState(peer mesh.NodeID) []*cascadepb.NodeLink {
	type known struct {
		id   mesh.NodeID
		link *link
	}
	c.mu.Lock()
	all := make([]known, 0, len(c.peers))
	for id, p := range c.peers {
		switch {
		case id == peer:
		case p.link != nil && p.link.wasUp.Load():
			all = append(all, known{id, p.link})
		case p.stats.linksOpened.Load() > 0:
			all = append(all, known{id, nil})
		}
	}
	c.mu.Unlock()
	slices.SortFunc(all, func(a, b known) int { return cmp.Compare(a.id, b.id) })
	var state []*cascadepb.NodeLink
	for _, k := range all[:min(len(all), maxTold)] {
		n := &cascadepb.NodeLink{Node: string(k.id), Down: true}
		if l := k.link; l != nil {
			rtt, jitter := l.nearest()
			n.Down = !l.up.Load()
			n.Rtt, n.Jitter = uint32(rtt.Microseconds()), uint32(jitter.Microseconds())
			n.LossIn, n.LossOut = uint32(share(&l.lossIn)*lossUnit), l.lossOut.Load()
		}
		state = append(state, n)
	}
	return state
}

// tell says how this node's other links are, when that has changed or was not said for a while.
func (t *ticker) tell(now time.Duration) {
	l := t.link
	if l.features.Load()&uint32(cascadepb.Feature_FEATURE_LINK_STATE) == 0 || now < t.nextTell && l.c.upDowns.Load() == t.toldUpDowns {
		return
	}
	t.nextTell, t.toldUpDowns = now+tellEvery, l.c.upDowns.Load()
	state := l.c.linkState(l.peer.id)
	if now-t.toldAt < tellAnyway && slices.EqualFunc(state, t.told, sameLink) {
		return
	}
	t.told, t.toldAt = state, now
	l.post(&cascadepb.LinkMessage{Body: &cascadepb.LinkMessage_LinkState{LinkState: &cascadepb.LinkState{Links: state}}})
}

// sameLink reports whether the difference is not worth a message.
func sameLink(a, b *cascadepb.NodeLink) bool {
	near := func(x, y, by uint32) bool { return max(x, y)-min(x, y) <= by }
	return a.GetNode() == b.GetNode() && a.GetDown() == b.GetDown() && near(a.GetRtt(), b.GetRtt(), notableTime+a.GetRtt()/10) &&
		near(a.GetJitter(), b.GetJitter(), notableTime) && near(a.GetLossIn(), b.GetLossIn(), notableLoss) &&
		near(a.GetLossOut(), b.GetLossOut(), notableLoss)
}
