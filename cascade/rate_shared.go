package cascade

import "time"

// Sharing a queue with others: the estimate goes up by so many packets in a round trip and down by a part when packets
// are lost from the full queue, as TCP's window does (RFC 5681, RFC 9438). More than one packet, since the sum of the
// layers that fit stays below the estimate most of the time.
const (
	sharedPackets = 2
	sharedPacket  = 8 * 1200               // bits
	sharedBack    = 0.8                    // gentler than CUBIC's 0.7: of the estimate only what whole layers take is used
	sharedCalm    = time.Second            // the queue has been seen empty this long: others have gone
	sharedAgain   = 20 * time.Second       // and are believed to be back when it fills again so soon
	sharedNear    = 10 * time.Millisecond  // it goes up as over a round trip no shorter than this
	sharedFar     = 150 * time.Millisecond // … and no longer: on a long path CUBIC goes by the clock (RFC 9438 §4.2)
	sharedSlack   = 1.3                    // the estimate is no further above what is sent: it proves nothing
)

type rateSharing struct {
	cut   time.Duration // latest decrease
	grown time.Duration
	empty time.Duration // the queue has been empty since, or 0
	left  time.Duration // when the queue was found to be nobody else's, or 0
}

func (c *rateControl) enterShared(now time.Duration) {
	if c.phase == rateUnlimited {
		c.estimate = max(sharedBack*c.delivered, rateFloor)
	}
	c.phase = rateShared
	c.shared = rateSharing{cut: now, grown: now}
	c.acted = now
}

// share grows and shrinks the estimate as a TCP's window.
func (c *rateControl) share(rtt, now time.Duration) {
	h := &c.shared
	rtt = min(max(rtt, sharedNear), sharedFar)
	full := c.queue > rateEmpty || c.around > rateQueue // the least delay seen may have had a queue in it
	switch {
	case full:
		h.empty = 0
	case h.empty == 0:
		h.empty = now
	case now-h.empty > sharedCalm:
		c.phase, h.left = rateLimited, now
		c.probe.next = now
		return
	}
	if full && c.lossy() {
		if c.sample(0).sentAt > h.cut {
			c.estimate = max(sharedBack*min(c.estimate, max(c.sent, c.delivered)), rateFloor)
			h.cut, c.acted = now, now
		}
		h.grown = now
		return
	}
	past := min(now-h.grown, rtt)
	h.grown = now
	if c.estimate < max(sharedSlack*c.sent, probeEnough*c.next) {
		c.estimate += sharedPackets * sharedPacket / rtt.Seconds() * (past.Seconds() / rtt.Seconds())
	}
}
