package cascade

import (
	"math"
	"time"
)

// Limits of what is spent on parity. A block and its parity are through within 60 ms of the block's first packet.
const (
	fecMinRTT      = 60 * time.Millisecond // below, a NACK is early enough
	fecMinLoss     = 0.0005
	fecRandomShare = 0.2   // bytes of parity to bytes of media at most, losses coming alone: small blocks need it
	fecBurstShare  = 0.229 // … losses coming in bursts, where it never is enough

	fecAge         = 50 * time.Millisecond
	fecSpread      = 3 * time.Millisecond
	fecBurstAge    = 41 * time.Millisecond // earlier, so that what parity leaves can be asked for in time
	fecBurstSpread = 8 * time.Millisecond  // wider than a burst
)

// fecPlan is how much parity a link's loss calls for. The zero plan is none.
type fecPlan struct {
	loss  float64 // share of packets lost, 0 to 1
	burst float64 // mean number of packets lost in a row, at least 1
}

// planFEC says what to do on a path with this round trip, loss and mean burst.
func planFEC(rtt time.Duration, loss, burst float64) fecPlan {
	if rtt <= fecMinRTT || loss <= fecMinLoss {
		return fecPlan{}
	}
	return fecPlan{loss: loss, burst: max(1, burst)}
}

func (p fecPlan) on() bool { return p.loss > 0 }

// single reports whether losses come alone, so that parity is enough for audio as well.
func (p fecPlan) single() bool { return p.on() && p.burst < 1.2 }

// bursty is how far losses are from coming alone, 0 to 1.
func (p fecPlan) bursty() float64 {
	return min(max((p.burst-1.2)/0.6, 0), 1) // what is sent in between makes bursts look shorter than they are
}

// share is how many bytes of parity a byte of media may cost.
func (p fecPlan) share() float64 {
	return fecRandomShare + p.bursty()*(fecBurstShare-fecRandomShare)
}

// age is how long a block lasts.
func (p fecPlan) age() time.Duration {
	return fecAge - time.Duration(p.bursty()*float64(fecAge-fecBurstAge))
}

// window is how long a sliding window is.
func (p fecPlan) window() time.Duration {
	return slideAge - time.Duration(p.bursty()*float64(slideAge-slideBurstAge))
}

// spread is over what time the parity of a block leaves.
func (p fecPlan) spread() time.Duration {
	return fecSpread + time.Duration(p.bursty()*float64(fecBurstSpread-fecSpread))
}

// lossMeter estimates loss and its mean burst from counts. It forgets with a time constant of about three seconds of
// ten rounds each. It has no lock and no clock.
type lossMeter struct {
	packets, lost, bursts float64
}

const (
	meterKeep  = 0.97
	burstPrior = 20 // losses by themselves that are believed in beforehand: a few in a row are no burst yet
)

// Until a path is known, for a second at most, it counts as one that loses one packet in a hundred, or what it lost the
// last time: the first second of a call over an ocean is not left without protection.
const (
	priorLoss    = 0.01
	priorPackets = 3000
	priorTime    = time.Second
	priorShare   = 0.8 // of what was lost the last time
)

// pathLoss makes of what the peer reports what is to be reckoned with: the mean of about ten seconds while the reports
// agree with it, the latest report when they do not. It has no lock and no clock.
type pathLoss struct {
	known  fecPlan       // of an earlier link to the same peer
	since  time.Duration // when the first packet had left, 0 before
	before uint64        // packets sent at the round before
	recent float64       // packets the peer's report is about

	packets, lost, bursts float64 // the mean
}

const (
	pathKeep   = 0.99
	pathWorse  = 4 // standard deviations that a report may be above the mean
	pathBetter = 4 // … below it
	fewPackets = 100
)

// reckon takes a report and how many packets were sent so far; called every round.
func (p *pathLoss) reckon(loss, burst float64, sent uint64, now time.Duration) (float64, float64) {
	if p.since == 0 && sent > 0 {
		p.since = now
	}
	fresh := float64(sent - p.before)
	p.before = sent
	p.recent = p.recent*meterKeep + fresh
	p.mean(loss, max(burst, 1), fresh)
	if p.since == 0 || (sent < priorPackets && now-p.since < priorTime) {
		return max(loss, priorLoss, priorShare*p.known.loss), max(burst, p.known.burst)
	}
	if p.lost == 0 {
		return 0, 1
	}
	loss = p.lost / p.packets
	return loss + 0.6*math.Sqrt(loss/max(p.packets, fewPackets)), p.lost / p.bursts // there may be more than there were
}

// learned is the mean, once the path is known.
func (p *pathLoss) learned(now time.Duration) (mean fecPlan, known bool) {
	if p.since == 0 || now-p.since < priorTime {
		return fecPlan{}, false
	}
	if p.lost > 0 {
		mean = fecPlan{loss: p.lost / max(p.packets, fewPackets), burst: p.lost / p.bursts}
	}
	return mean, true
}

// mean takes a report into the mean, or begins it anew.
func (p *pathLoss) mean(loss, burst, fresh float64) {
	expect := p.lost / max(p.packets, 1)
	deviation := math.Sqrt(max(loss, expect) * burst / max(p.recent, fewPackets))
	if loss-expect > pathWorse*deviation || expect-loss > pathBetter*deviation {
		p.packets, p.lost, p.bursts = p.recent, p.recent*loss, p.recent*loss/burst
		return
	}
	p.packets = p.packets*pathKeep + fresh
	p.lost = p.lost*pathKeep + fresh*loss
	p.bursts = p.bursts*pathKeep + fresh*loss/burst
}

// round takes what happened since the round before; rounds without packets teach nothing.
func (m *lossMeter) round(packets, lost, bursts uint64) {
	if packets == 0 {
		return
	}
	m.packets = m.packets*meterKeep + float64(packets)
	m.lost = max(0, m.lost*meterKeep+float64(int64(lost))) // what was taken for lost may have come
	m.bursts = m.bursts*meterKeep + float64(int64(bursts)) // two runs may have become one
}

func (m *lossMeter) loss() float64 { return min(m.lost/max(m.packets, 1), 1) }

func (m *lossMeter) burst() float64 {
	return max(1, (m.lost+burstPrior)/(max(m.bursts, 0)+burstPrior))
}
