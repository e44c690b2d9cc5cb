package cascade

import "time"

// Parameters of the rate control. Rates are bits per second.
const (
	rateOpen     = 200e6                 // without any sign of congestion a link takes this, or twice what it was seen to carry
	rateFloor    = 300e3                 // no estimate is below: a microphone or two pass
	ratePace     = 1.05                  // of the estimate: what is in excess waits here, where audio overtakes it
	rateUse      = 0.92                  // of the estimate that media and its repair are planned for
	rateDrain    = 0.7                   // of the estimate while a queue of our making empties
	rateTrust    = 0.97                  // of what a full bottleneck delivered
	rateShort    = 0.93                  // less than this of what was sent came in time: the rest stands in a queue
	rateQueue    = 15 * time.Millisecond // a standing queue this long is one, beside the path's own noise
	rateQueueMax = 50 * time.Millisecond // and no noise explains a longer one
	rateEmpty    = 6 * time.Millisecond  // a queue this short is none
	rateCreep    = 10 * time.Millisecond // growth in rateCreepIn that shows an overload of a few in a hundred
	rateCreepIn  = 500 * time.Millisecond
	rateCuts     = 2 // so often in rateCutsIn a path may narrow
	rateCutsIn   = 10 * time.Second
	rateLittle   = 0.95                    // of the estimate: an overload by less is not of our making, or the path has narrowed
	rateCutOnce  = 1500 * time.Millisecond // within this they are one
	rateWarm     = 12                      // reports before anything is concluded
	rateSoon     = 4                       // … but from a loss of rateMuch
	rateMuch     = 0.15
	rateOwnMost  = 0.1                    // no path is believed to lose more by itself
	rateFlood    = 0.04                   // loss that is no coincidence beside a round trip that has grown
	rateWindow   = 200 * time.Millisecond // over which rates are measured

	audioRoom = 1.25 // of what audio takes on average that it is always let through

	ratePoliced     = 0.2 // loss that long means a policer, which has no queue
	ratePolicedFor  = 2 * time.Second
	ratePolicedHold = 3 * time.Second // after which the cut must have shown
)

// ratePhase is what a link knows of its path.
type ratePhase uint8

const (
	rateUnlimited ratePhase = iota // never seen full
	rateLimited                    // the estimate is what the path carries, its queue kept empty
	rateShared                     // a queue stands that is not ours to empty: others fill it
)

var ratePhaseNames = [...]string{"unlimited", "limited", "shared"}

func (p ratePhase) String() string { return ratePhaseNames[p] }

// rateSample is a report and what this side knows of the packet it names.
type rateSample struct {
	clock   time.Duration // receiver's
	delay   time.Duration // one way, beside an unknown constant
	sentAt  time.Duration // when the packet left
	seq     uint64
	sent    uint64 // bytes sent before it
	bytes   uint64 // received
	packets uint64 // received by themselves
	left    uint64 // bytes sent by the time the report came
}

// rateControl estimates what a link's path carries, from one direction's delay and delivery alone.
//
// It follows the delivered rate as BBR does (Cardwell et al., ACM Queue 14-5): what comes out of a full bottleneck is
// what it carries, and a rate that media could not fill is no evidence of a limit. Whether it is full the one-way delay
// tells, as in RFC 8698 (NADA), GCC (Carlucci et al., MMSys 2016) and RFC 6817 (LEDBAT): a queue that stands for three
// reports while less comes out than goes in. Loss without such a queue is the path's own and changes nothing, whatever
// its share (RFC 8836 §2 asks that much), unless a fifth is lost for seconds: that is a policer, or its end is seen by
// losing no less after a cut. A queue that does not empty when this link sends less is somebody else's; then, as Copa
// does (Arun, Balakrishnan, NSDI 2018 §2.2), it competes as a TCP would until the queue is seen empty: rateShared, in
// rate_shared.go. Upwards it goes by probing, and only while layers are held back (rate_probe.go).
//
// It has no lock and no clock: callers say what time it is.
type rateControl struct {
	phase    ratePhase
	estimate float64       // meaningless while unlimited
	wanted   float64       // what would be sent if all fitted, repair included; 0 when nothing is held back
	next     float64       // … and what the smallest step towards it would take
	audio    float64       // what audio takes, repair included: whatever is told, that is sent
	coarse   bool          // samples are guesses
	rebased  time.Duration // the path was last found to have become longer, or 0

	base     baseDelay
	oneWay   baseDelay      // base of the reports' samples while there are guesses
	near     baseDelay      // of the round trip
	around   time.Duration  // what the round trip has grown by
	begun    bool           // a packet was heard of
	met      bool           // a queue stood on the path before the first packet
	samples  [64]rateSample // a ring of the latest
	n        uint64         // samples taken
	queue    time.Duration  // standing, of the latest samples
	noise    float64        // mean change of the change of the delay between reports, halved, ns: steady growth is none
	busyFrom uint64         // sample with which the queue began to stand
	delivered, sent,
	lossNow float64 // of the last rateWindow
	ownLoss float64       // share lost when no queue stands
	late    float64       // share lost in the last second or so
	most    float64       // highest delivered rate of late
	acted   time.Duration // packets that left before tell nothing of the latest change

	cuts   [rateCuts]time.Duration // the latest, oldest first
	doubt  rateDoubting
	drain  rateDraining
	probe  rateProbe
	shared rateSharing
	police ratePolicing
}

func (c *rateControl) sample(back uint64) *rateSample {
	return &c.samples[(c.n-1-back)%uint64(len(c.samples))]
}

// report takes what came in, in the order of the receiver's clock.
func (c *rateControl) report(s rateSample, rtt, now time.Duration) {
	if c.n > 0 && (s.clock <= c.sample(0).clock || s.seq <= c.sample(0).seq) {
		return // nothing new came, or it came in another order
	}
	c.samples[c.n%uint64(len(c.samples))] = s
	c.n++
	if c.lap(rtt, now); c.n == 1 && c.around > rateQueue {
		c.met = c.met || !c.begun
		c.base.take(s.delay-c.around, now) // probes have seen the path without the queue
	}
	c.begun = true
	c.base.take(s.delay, now)
	c.measure()
	switch {
	case c.drain.on:
		c.drained(now)
	case c.phase == rateShared:
		c.share(rtt, now)
	case c.probe.on:
		c.probed(now)
	case c.overloaded(), c.flooded(), c.surging():
		if c.crowded(now) {
			c.enterShared(now)
		} else {
			c.congest(now)
		}
	case c.phase == rateUnlimited && c.n >= rateWarm && c.queue > c.threshold() && c.lossy() && c.delivered >= rateShort*c.sent*(1-c.lossNow):
		c.enterShared(now)
	case c.phase == rateLimited && c.queue < rateEmpty && c.delivered > c.estimate && s.sentAt > c.acted+rateWindow:
		c.estimate = c.delivered // seen to be carried, and not before the limit was there
	}
	c.policed(now)
	c.hesitate(now)
}

// lap takes the least round trip of the last moments, whether there is media or not; 0 is not known.
func (c *rateControl) lap(rtt, now time.Duration) {
	if rtt == 0 {
		return
	}
	c.near.keep = nearKeep
	c.near.take(rtt, now)
	c.around = rtt - c.near.delay()
}

// warm reports whether enough was heard to conclude anything.
func (c *rateControl) warm() bool {
	return c.n >= rateWarm || c.n >= rateSoon && c.lossNow > rateMuch
}

// guessing says whether samples are guesses from now on. The two kinds have nothing in common but the round trip.
func (c *rateControl) guessing(on bool, now time.Duration) {
	if c.coarse == on {
		return
	}
	c.coarse, c.n, c.busyFrom, c.queue, c.noise = on, 0, 0, 0, 0
	if !on {
		c.base = c.oneWay
		return
	}
	c.oneWay, c.base = c.base, baseDelay{}
	if c.near.known {
		c.base.take(c.near.delay(), now)
	}
}

// measure takes the latest sample into queue, rates and loss.
func (c *rateControl) measure() {
	s := c.sample(0)
	q := s.delay - c.base.delay()
	c.queue = q
	for i := uint64(1); i < 3 && i < c.n; i++ {
		c.queue = min(c.queue, c.sample(i).delay-c.base.delay())
	}
	if c.n < 3 {
		c.queue = 0
	}
	if c.n > 2 {
		d := s.delay - 2*c.sample(1).delay + c.sample(2).delay
		c.noise += (float64(max(d, -d))/2 - c.noise) / float64(min(c.n-2, 64))
	}
	if q < rateEmpty || c.n == 1 {
		c.busyFrom = c.n - 1
	}
	from := uint64(0)
	for from+1 < min(c.n, uint64(len(c.samples))-1) && s.clock-c.sample(from).clock < rateWindow {
		from++
	}
	c.delivered, c.sent, c.lossNow = c.between(from)
	c.most = max(c.most*0.999, c.delivered)
	c.late += (c.lossNow - c.late) / 32
	if c.queue < rateEmpty && c.around < rateQueue {
		c.ownLoss = min(c.ownLoss+(c.lossNow-c.ownLoss)/64, rateOwnMost)
	}
}

// between returns the rates and the loss since a sample that many back.
func (c *rateControl) between(back uint64) (delivered, sent, loss float64) {
	a, b := c.sample(back), c.sample(0)
	if t := (b.clock - a.clock).Seconds(); t > 0 {
		delivered = 8 * float64(b.bytes-a.bytes) / t
	}
	if t := (b.sentAt - a.sentAt).Seconds(); t > 0 {
		sent = 8 * float64(b.sent-a.sent) / t
	}
	if n := b.seq - a.seq; n > 0 {
		loss = max(0, 1-float64(b.packets-a.packets)/float64(n))
	}
	return delivered, sent, loss
}

// threshold is the queue that counts as one.
func (c *rateControl) threshold() time.Duration {
	return min(rateQueue+2*time.Duration(c.noise), rateQueueMax)
}

// overloaded reports whether a queue of our making stands: it has for three reports, and less came out of it than went
// in; or it creeps up.
func (c *rateControl) overloaded() bool {
	if c.queue <= c.threshold() || !c.warm() || c.sample(0).sentAt < c.acted {
		return false
	}
	back := min(c.n-1-c.busyFrom, uint64(len(c.samples))-2)
	delivered, sent, _ := c.between(back)
	if back >= 2 && delivered < rateShort*sent*(1-c.ownLoss) {
		return true
	}
	s := c.sample(0)
	for i := uint64(1); i < min(c.n, uint64(len(c.samples))-1); i++ {
		old := c.sample(i)
		if s.clock-old.clock >= rateCreepIn {
			return old.sentAt >= c.acted && c.queue > 2*c.threshold() && s.delay-old.delay > rateCreep
		}
	}
	return false
}

// flooded reports whether media filled the queue before its delay without one was ever seen: the round trip has grown,
// much is lost and less comes out than goes in.
func (c *rateControl) flooded() bool {
	return c.warm() && c.sample(0).sentAt >= c.acted && c.around > c.threshold() && c.around > 2*c.queue &&
		c.lossNow > rateFlood && c.delivered < rateShort*c.sent
}

// lossy reports whether more was lost of late than the path loses by itself.
func (c *rateControl) lossy() bool {
	back := uint64(0)
	for back+1 < min(c.n, uint64(len(c.samples))-1) && c.sample(back).sentAt > c.acted && c.sample(0).clock-c.sample(back).clock < rateWindow {
		back++
	}
	_, _, loss := c.between(back)
	n := float64(c.sample(0).seq - c.sample(back).seq)
	return n > 0 && loss*n > 1.5+3*c.ownLoss*n
}

// crowded reports whether the queue is likely somebody else's: it stood before this link sent anything, or it was a moment
// ago and this link sends no more than its estimate, or it fills however little is sent.
func (c *rateControl) crowded(now time.Duration) bool {
	if c.phase == rateUnlimited && c.met {
		return true
	}
	again := c.shared.left != 0 && now-c.shared.left < sharedAgain && c.sent < c.estimate
	return again || c.cuts[0] != 0 && now-c.cuts[0] < rateCutsIn
}

// congest takes what came out of the queue for what the path carries, and lets the queue empty.
func (c *rateControl) congest(now time.Duration) {
	estimate := max(rateTrust*c.drawn(), rateFloor)
	cuts, before := c.cuts, 0.0
	if c.phase == rateLimited {
		before = c.estimate
	}
	if c.phase == rateLimited && c.sent < rateLittle*c.estimate && now-c.cuts[rateCuts-1] > rateCutOnce {
		copy(c.cuts[:], c.cuts[1:])
		c.cuts[rateCuts-1] = now
	}
	if c.phase != rateUnlimited {
		estimate = min(estimate, c.estimate)
	}
	c.phase, c.estimate = rateLimited, estimate
	c.drain = rateDraining{on: true, began: now, from: c.queue, gain: rateDrain, before: before, cuts: cuts}
	c.probe.failed(now)
	c.acted = now
	c.stop(now)
}

// ratePolicing finds a limit that drops instead of queueing.
type ratePolicing struct {
	since  time.Duration // loss has been this high since, or 0
	before float64       // the estimate before a cut that is on trial
	loss   float64       // … and the loss
	until  time.Duration // … and its end
	spared float64       // loss that did not fall with the rate: the path's own
}

func (c *rateControl) policed(now time.Duration) {
	p := &c.police
	if p.until != 0 {
		if now < p.until {
			return
		}
		if c.lossNow > p.loss/2 {
			p.spared = max(p.spared, c.lossNow)
			c.estimate = max(c.estimate, p.before)
		}
		p.until, p.since = 0, 0
		return
	}
	if c.lossNow < max(ratePoliced, p.spared*3/2) || c.delivered == 0 {
		p.since = 0
		return
	}
	if p.since == 0 {
		p.since = now
	}
	if now-p.since < ratePolicedFor {
		return
	}
	before := c.sent
	if c.phase != rateUnlimited {
		before = c.estimate
	}
	*p = ratePolicing{before: before, loss: c.lossNow, until: now + ratePolicedHold, spared: p.spared}
	c.phase, c.estimate = rateLimited, max(rateTrust*c.delivered, rateFloor)
	c.probe.failed(now)
	c.acted = now
}

// pace is the rate at which packets may leave. While audio flows it has room, and somewhat more.
func (c *rateControl) pace() Bitrate { return max(c.paced(), Bitrate(audioRoom*c.audio)) }

func (c *rateControl) paced() Bitrate {
	switch {
	case c.doubt.on, c.drain.on && c.drain.stop:
		return rateFloor
	case c.phase == rateUnlimited:
		return c.room()
	case c.drain.on:
		return Bitrate(c.drain.gain * c.estimate)
	case c.probe.sending:
		return Bitrate(c.probe.rate)
	case c.probe.on: // how it went is not known yet
		return Bitrate(c.estimate)
	default:
		return Bitrate(ratePace * c.estimate)
	}
}

// room is the rate at which what waits for the pacer will leave.
func (c *rateControl) room() Bitrate {
	if c.phase == rateUnlimited {
		return Bitrate(max(rateOpen, 2*c.most))
	}
	return max(Bitrate(c.estimate), c.pace())
}

// budget is what media and its repair may take together; 0 is no limit.
func (c *rateControl) budget() Bitrate {
	switch {
	case c.phase == rateUnlimited:
		return 0
	case c.drain.on && (c.drain.stopped || c.drain.gain < probeDrain): // what a probe left is gone before media had to wait for it
		return Bitrate(rateDrain * c.estimate)
	default:
		return Bitrate(rateUse * c.estimate)
	}
}

// padding reports whether the pacer's room is to be filled where media does not.
func (c *rateControl) padding() bool { return c.probe.sending && !c.drain.on }
