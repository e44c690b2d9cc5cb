package cascade

import "time"

// What a queue that begins to stand is answered with.
const (
	stopDoubt = 10 * time.Millisecond  // a queue that grows to this, beside its noise, is looked at before more is sent
	stopWait  = 60 * time.Millisecond  // for two reports, and media does not wait longer than it may
	stopOnce  = 500 * time.Millisecond // not again sooner
	stopSurge = 0.8                    // less than this of what was sent came between two reports: no third is waited for
	stopNear  = 20 * time.Millisecond  // video goes on when the queue is reckoned to be this short: no reckoning is exact
	stopMost  = 400 * time.Millisecond // and after that in any case
	stopDrain = 0.85                   // of the estimate, from then until the queue is seen empty
)

// rateDoubting is a moment in which only audio is sent, since the latest report shows the beginning of a queue. If the
// next one shows none, what waited here leaves at once: nothing is lost by it but these milliseconds. Else it would have
// waited in that queue, with audio behind it.
type rateDoubting struct {
	on    bool
	began time.Duration
	last  time.Duration // when the latest ended
}

// hesitate begins and ends such a moment.
func (c *rateControl) hesitate(now time.Duration) {
	d := &c.doubt
	switch {
	case !d.on && c.surgeFrom(0, stopDoubt) && !c.drain.on && !c.probe.on && c.phase != rateShared && (d.last == 0 || now-d.last > stopOnce):
		d.on, d.began = true, now
	case d.on && (c.drain.on || c.phase == rateShared || now-d.began > stopWait || !c.surgeFrom(0, stopDoubt)):
		d.on, d.last = false, now
	}
}

// surgeFrom reports whether the sample that many back shows a queue longer than least and its noise, and one that grows.
func (c *rateControl) surgeFrom(back uint64, least time.Duration) bool {
	if c.coarse || !c.warm() || c.n < back+2 || c.sample(back).sentAt < c.acted {
		return false
	}
	s, before := c.sample(back), c.sample(back+1)
	return s.delay-c.base.delay() > least+3*time.Duration(c.noise) && s.delay > before.delay
}

// surging reports whether a queue grows so fast that two reports tell it.
func (c *rateControl) surging() bool {
	if !c.surgeFrom(0, rateQueue) || !c.surgeFrom(1, stopDoubt) {
		return false
	}
	delivered, sent, _ := c.between(1)
	return delivered < stopSurge*sent*(1-c.ownLoss)
}

// drawn is what came out of the queue since it stands. In the first interval it began: that came faster.
func (c *rateControl) drawn() float64 {
	back := min(c.n-1-c.busyFrom, uint64(len(c.samples))-2)
	if back < 2 {
		return c.delivered
	}
	delivered, _, _ := c.between(back - 1)
	return delivered
}

// refine takes the longer while a queue stands for what the path carries: what was sent before it was let empty still
// comes out of it.
func (c *rateControl) refine() {
	if c.coarse || c.queue <= c.threshold() {
		return
	}
	c.estimate = max(rateTrust*c.drawn(), rateFloor)
	if c.drain.before > 0 {
		c.estimate = min(c.estimate, c.drain.before)
	}
}

// stop lets only audio pass until the queue of our making has emptied, by reckoning: what was sent since the latest
// report's packet left stands in it but for what the path carried since. Video that is sent into a queue arrives no
// sooner than video that waits here until it is short, and audio does.
func (c *rateControl) stop(now time.Duration) {
	d := &c.drain
	q := c.reckoned(now) - stopNear
	if d.until = now + q; d.until > d.began+stopMost {
		d.until = d.began + stopMost
	}
	if d.stop = !c.coarse && d.until > now; d.stop {
		d.gain, d.stopped = stopDrain, true
	}
}

// resume lets video go on when it is time.
func (c *rateControl) resume(now time.Duration) {
	c.drain.stop = c.drain.stop && now < c.drain.until
	if c.doubt.on && now-c.doubt.began > stopWait {
		c.doubt.on, c.doubt.last = false, now
	}
}

// due is when resume has something to do, or never.
func (c *rateControl) due() time.Duration {
	switch {
	case c.drain.on && c.drain.stop:
		return c.drain.until
	case c.doubt.on:
		return c.doubt.began + stopWait
	}
	return never
}

// reckoned is the queue a packet would find that is sent now.
func (c *rateControl) reckoned(now time.Duration) time.Duration {
	s := c.sample(0)
	inside := time.Duration(8 * float64(s.left-s.sent) / c.estimate * float64(time.Second))
	return s.delay - c.base.delay() + inside - (now - s.sentAt)
}

// rateDraining is the while in which a queue is let empty.
type rateDraining struct {
	on    bool
	began time.Duration
	from  time.Duration // the queue when it began
	gain  float64       // of the estimate that is sent meanwhile
	again bool          // it did not empty the first time
	stop  bool          // only audio is sent so far, …
	until time.Duration // … until then

	stopped bool // so it began

	before float64                 // the estimate before the cut, 0 for none
	cuts   [rateCuts]time.Duration // those before
}

// drained looks whether the queue has emptied, or is not ours.
func (c *rateControl) drained(now time.Duration) {
	s := c.sample(0)
	if s.sentAt < c.drain.began {
		c.drain.from = max(c.drain.from, c.queue)
		if c.drain.stopped || c.drain.gain < probeDrain {
			c.refine()
		}
		if c.drain.stop {
			c.stop(now)
		}
		return
	}
	q, gain := s.delay-c.base.delay(), c.drain.gain
	if c.drain.stopped {
		gain = min(gain, rateDrain) // it has emptied faster
	}
	switch {
	case q < max(rateEmpty, c.threshold()/3):
		c.drain.on = false
	case s.sentAt-c.drain.began < 200*time.Millisecond+time.Duration(float64(c.drain.from)/(1-gain)):
	case c.queue > c.drain.from*6/10 && c.moved(now):
	case c.queue > c.drain.from*6/10 && c.coarse && !c.drain.again: // the estimate was too high, perhaps
		c.estimate = max(rateTrust*rateUse*min(c.estimate, c.delivered), rateFloor)
		c.drain = rateDraining{on: true, began: now, from: c.queue, gain: rateDrain, again: true}
	case c.queue > c.drain.from*6/10:
		c.drain.on = false
		c.enterShared(now)
	default: // emptying, if slowly
		c.drain.began, c.drain.from, c.drain.gain, c.drain.stopped = now, c.queue, rateDrain, false
		if c.delivered < rateShort*c.sent*(1-c.ownLoss) {
			c.estimate = max(min(c.estimate, c.delivered), rateFloor)
		}
	}
}
