package cascade

import (
	"math"
	"time"
)

// Limits of what is spent on parity.
const (
	fecMinRTT      = 60 * time.Millisecond // below, a NACK is early enough
	fecMinLoss     = 0.0005
	fecBlockAge    = 42 * time.Millisecond // parity follows within fecSpread: whole repair within 60 ms
	fecSpread      = 9 * time.Millisecond
	fecRandomShare = 0.114 // bytes of parity to bytes of media, losses coming alone
	fecBurstShare  = 0.21  // … losses coming in bursts
	fecMargin      = 5.0   // standard deviations of the number of losses in a block that parity should cover
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

// share is how many bytes of parity a byte of media may cost.
func (p fecPlan) share() float64 {
	bursty := min(max((p.burst-1.2)/0.6, 0), 1) // what is sent in between makes bursts look shorter than they are
	return fecRandomShare + bursty*(fecBurstShare-fecRandomShare)
}

// parity is how many symbols cover the losses of a block of n packets, before the budget has its say. Losses in
// bursts of geometric length with mean b vary 2b−1 times as much as single ones.
func (p fecPlan) parity(n int) int {
	all := float64(n) * (1 + p.share())
	spread := math.Sqrt(all * p.loss * (2*p.burst - 1))
	return min(int(math.Ceil(all*p.loss+fecMargin*spread)), fecMaxParity)
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

// Until a path is known it counts as one that loses one packet in a hundred: the first seconds of a call over an ocean
// are not left without protection.
const (
	priorLoss    = 0.01
	priorPackets = 4000
	priorTime    = 5 * time.Second
)

// round takes what happened since the round before; rounds without packets teach nothing.
func (m *lossMeter) round(packets, lost, bursts uint64) {
	if packets == 0 {
		return
	}
	m.packets = m.packets*meterKeep + float64(packets)
	m.lost = m.lost*meterKeep + float64(lost)
	m.bursts = m.bursts*meterKeep + float64(int64(bursts)) // two runs may have become one
}

func (m *lossMeter) loss() float64 { return min(m.lost/max(m.packets, 1), 1) }

func (m *lossMeter) burst() float64 {
	return max(1, (m.lost+burstPrior)/(max(m.bursts, 0)+burstPrior))
}
