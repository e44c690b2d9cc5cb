package cascade

import "time"

// Limits of the pacer.
const (
	paceBurst    = 5 * time.Millisecond // worth of its rate a sender may send at once: a timer is late by a millisecond or two
	paceBurstMin = 3 * 1250             // bytes
	paceDebt     = 20 * time.Millisecond
)

// pacer is a token bucket in front of a link's lanes: it says when the next packet may leave. What is urgent may
// borrow up to paceDebt worth of the rate, so that audio does not wait for video that left before it. It has no lock
// and no clock; the zero pacer lets everything through.
type pacer struct {
	rate   float64 // bytes per second, 0 for no limit
	tokens float64 // bytes that may leave now
	at     time.Duration
}

// set changes the rate, 0 for no limit.
func (p *pacer) set(rate Bitrate, now time.Duration) {
	p.advance(now)
	if p.rate == 0 {
		p.at, p.tokens = now, 0
	}
	p.rate = float64(rate) / 8
}

func (p *pacer) advance(now time.Duration) {
	if p.rate == 0 || now <= p.at {
		return
	}
	p.tokens = min(p.tokens+p.rate*(now-p.at).Seconds(), max(paceBurstMin, p.rate*paceBurst.Seconds()))
	p.at = now
}

// ready reports whether a packet may leave now.
func (p *pacer) ready(now time.Duration, urgent bool) bool {
	if p.rate == 0 {
		return true
	}
	p.advance(now)
	if urgent {
		return p.tokens > -p.rate*paceDebt.Seconds()
	}
	return p.tokens > 0
}

// spend notes bytes that leave.
func (p *pacer) spend(bytes int) {
	if p.rate > 0 {
		p.tokens -= float64(bytes)
	}
}

// due is when a packet that is not urgent may leave.
func (p *pacer) due(now time.Duration) time.Duration {
	if p.rate == 0 || p.tokens > 0 {
		return now
	}
	return max(now, p.at+time.Duration((1-p.tokens)/p.rate*float64(time.Second)))
}
