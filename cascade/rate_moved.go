package cascade

import "time"

// A path may become longer for good. Then its delay looks like a queue that does not empty.
const (
	movedFlat  = 3 * time.Millisecond // a delay that varies by less, beside its noise, while this link sends less is no queue
	movedAgain = 10 * time.Second     // so soon it has not become longer again: others fill a queue
)

// moved reports whether the path has become longer, and takes its delay for the least from now on: this link sends less
// for a while, all of that comes, and the delay stays where it is. A queue of its own would have become shorter, one of
// others longer or shorter; if it was one all the same, its least delay will be seen when they give way.
func (c *rateControl) moved(now time.Duration) bool {
	if c.rebased != 0 && now-c.rebased < movedAgain || c.lossy() || c.delivered < rateShort*c.sent*(1-c.ownLoss) {
		return false
	}
	least, most := c.sample(0).delay, c.sample(0).delay
	for i := uint64(1); i < min(c.n, uint64(len(c.samples))-1) && c.sample(i).sentAt > c.drain.began; i++ {
		least, most = min(least, c.sample(i).delay), max(most, c.sample(i).delay)
	}
	if most-least > movedFlat+2*time.Duration(c.noise) {
		return false
	}
	c.base, c.near, c.rebased = baseDelay{}, baseDelay{}, now
	c.base.take(least, now)
	c.queue, c.busyFrom, c.around = 0, c.n-1, 0
	c.drain.on, c.cuts = false, c.drain.cuts // it was no queue of ours, nor of others
	c.estimate = max(c.estimate, c.drain.before)
	c.probe.next, c.acted = now, now
	return true
}
