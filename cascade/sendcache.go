package cascade

import "time"

// Limits of what is kept for retransmission on a link.
const (
	sendCachePackets = 4096
	sendCacheAge     = time.Second
)

// sendCache keeps the last packets sent on a link by link sequence number. It owns a reference to each.
type sendCache struct {
	slots  [sendCachePackets]sentItem
	next   uint64 // link sequence number behind the newest
	oldest uint64 // nothing before it is kept
	budget repairBudget
}

type sentItem struct {
	item
	lane     *lane
	sent     time.Duration // first transmission
	repeated time.Duration // latest retransmission, 0 for none
	asked    bool          // for, by the peer
}

func newSendCache() *sendCache { return &sendCache{budget: newRepairBudget()} }

// put keeps what was sent on lane l, retaining its packet.
func (c *sendCache) put(it item, l *lane, now time.Duration) {
	slot := &c.slots[it.seq%sendCachePackets]
	if slot.pkt != nil {
		slot.pkt.Release()
	}
	it.pkt.Retain()
	*slot = sentItem{item: it, lane: l, sent: now}
	c.next = it.seq + 1
	c.budget.earn(len(it.rtp()), it.class == classAudio)
}

// repeat returns the item to send again, with a reference of its own, or false and why not; ok and why are both zero
// when there is nothing to do or to count. A packet sent again less than minGap ago is not repeated.
func (c *sendCache) repeat(seq uint64, now, minGap time.Duration) (it item, why dropReason, ok bool) {
	slot := &c.slots[seq%sendCachePackets]
	switch {
	case slot.pkt == nil || slot.seq != seq || now-slot.sent > sendCacheAge:
		return it, dropExpired, false
	case slot.flow.closed:
		return it, dropFlowClosed, false
	case slot.repeated != 0 && now-slot.repeated < minGap:
		return it, dropDuplicate, false
	case !c.budget.ask(slot.repairKind(), len(slot.rtp())):
		return it, dropBudget, false
	}
	slot.repeated = now
	it = slot.item
	it.pkt.Retain()
	it.retransmission, it.avoid = true, slot.lane
	return it, 0, true
}

// missed notes that a packet is asked for, and reports whether that is news.
func (c *sendCache) missed(seq uint64) bool {
	slot := &c.slots[seq%sendCachePackets]
	if slot.pkt == nil || slot.seq != seq || slot.asked {
		return false
	}
	slot.asked = true
	return true
}

// dispensable reports whether few packets build on one.
func (c *sendCache) dispensable(seq uint64) bool {
	slot := &c.slots[seq%sendCachePackets]
	return slot.pkt != nil && slot.seq == seq && slot.class == classRest
}

// again returns a packet sent a moment ago to be sent once more, at no cost to the budget.
func (c *sendCache) again(seq uint64) (it item, ok bool) {
	slot := &c.slots[seq%sendCachePackets]
	if slot.pkt == nil || slot.seq != seq || slot.flow.closed {
		return it, false
	}
	it = slot.item
	it.pkt.Retain()
	it.retransmission, it.avoid = true, slot.lane
	return it, true
}

// clear releases everything.
func (c *sendCache) clear() {
	for i := range c.slots {
		if p := c.slots[i].pkt; p != nil {
			p.Release()
		}
		c.slots[i] = sentItem{}
	}
}

// age releases what is too old to be asked for again, so that an idle link holds no packets.
func (c *sendCache) age(now time.Duration) {
	c.oldest = max(c.oldest, c.next-min(c.next, sendCachePackets))
	for ; c.oldest < c.next; c.oldest++ {
		s := &c.slots[c.oldest%sendCachePackets]
		if s.pkt == nil || s.seq != c.oldest {
			continue
		}
		if now-s.sent <= sendCacheAge {
			return // and so are those behind it
		}
		s.pkt.Release()
		*s = sentItem{}
	}
}
