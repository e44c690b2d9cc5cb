package cascade

import "time"

// Probing: while layers are held back, the link sends more than its estimate for a moment, with padding where media
// does not fill it, and believes what came through without a queue. It never sends more than what would be wanted.
const (
	probeFirst  = time.Second            // after a congestion
	probeMost   = 2 * time.Second        // between probes that keep failing: the end of a bottleneck is to be seen soon
	probeLong   = 160 * time.Millisecond // one probe; media comes in frames of 33 ms
	probeGain   = 1.25
	probeDrain  = 0.85          // of the estimate, after one that did not
	probeEnough = 1.1 / rateUse // of what is wanted: then all of it is planned for
	probeGains  = 1.6           // after one that went well …
	probeWhole  = 0.95          // … that is, came through to so large a share
)

type rateProbe struct {
	on      bool
	sending bool // the probe has not been sent in full
	rate    float64
	began   time.Duration
	next    time.Duration // not sooner
	gap     time.Duration
	well    int // in a row
}

// failed puts the next probe off.
func (p *rateProbe) failed(now time.Duration) {
	p.gap = min(max(probeFirst, p.gap*3/2), probeMost)
	p.on, p.sending, p.well, p.next = false, false, 0, now+p.gap
}

// want says what would be sent if all layers fitted, repair included, 0 when none is held back; and with one step up.
func (c *rateControl) want(all, next Bitrate) { c.wanted, c.next = float64(all), float64(next) }

// tick begins a probe when one is due, and ends one whose time is over.
func (c *rateControl) tick(now time.Duration) {
	p := &c.probe
	c.resume(now)
	switch {
	case p.on:
		p.sending = p.sending && now-p.began < probeLong
		if now-p.began > time.Second+probeLong { // no report tells how it went
			p.failed(now)
		}
	case c.phase != rateLimited || c.drain.on || c.police.until != 0 || now < p.next:
	case c.wanted*probeEnough <= c.estimate || c.queue > rateEmpty:
	default:
		gain := probeGain
		if p.well > 0 {
			gain = probeGains
		}
		p.on, p.sending, p.began = true, true, now
		p.rate = min(gain*c.estimate, 1.1*probeEnough*c.wanted)
	}
}

// probed looks how a probe goes.
func (c *rateControl) probed(now time.Duration) {
	p := &c.probe
	s := c.sample(0)
	switch {
	case c.queue > c.threshold(): // a short one is what a probe costs
		p.failed(now)
		c.drain = rateDraining{on: true, began: now, from: c.queue, gain: probeDrain}
		c.acted = now
		return
	case s.sentAt < p.began+probeLong-5*time.Millisecond:
		return
	}
	back := uint64(0)
	for back+1 < min(c.n, uint64(len(c.samples))-1) && c.sample(back).sentAt > p.began+20*time.Millisecond {
		back++
	}
	delivered, sent, _ := c.between(back)
	if delivered <= c.estimate*1.02 {
		p.failed(now)
		return
	}
	c.estimate = max(c.estimate, min(delivered, p.rate))
	p.on, p.sending, p.gap, p.next = false, false, 0, now
	if p.well++; delivered < probeWhole*(1-c.ownLoss)*sent { // the end is near: a large step would fill the queue
		p.well = 0
	}
	c.tick(now)
}
