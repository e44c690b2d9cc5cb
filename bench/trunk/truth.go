package trunk

import (
	"fmt"
	"math"
	"time"
)

// A result is doubted when it cannot be: then something was measured wrongly.
const (
	unlikely    = 5.0                   // standard deviations that the path's loss may be off
	repairByRTT = 55 * time.Millisecond // up to this round trip a retransmission may come in time, and no bound holds
	boundSlack  = 0.4                   // of the bound: interleaving and unequal packets gain a little on it
	boundBlocks = 8                     // blocks beyond repair to expect before the bound says anything
	boundPacket = 700                   // bytes of RTP a packet has at least on average
)

// doubts says what of a result cannot be.
func (r *Result) doubts() []string {
	var doubts []string
	doubt := func(format string, args ...any) { doubts = append(doubts, fmt.Sprintf(format, args...)) }
	if r.Bare {
		return nil
	}
	c := r.Cell
	for _, name := range Contestants {
		o := r.Outcomes[name]
		if o == nil || o.Error != "" || o.WireDatagrams == 0 {
			continue
		}
		burst := max(c.Burst, 1)
		deviation := math.Sqrt(c.Loss * (1 - c.Loss) * (2*burst - 1) / float64(o.WireDatagrams))
		if off := math.Abs(o.WireLoss - c.Loss); off > unlikely*deviation+1e-9 {
			doubt("the path took %s of what %s sent", percent(o.WireLoss), name)
		}
		if o.NeverArrived < 1 && o.DelayP50 < millis(c.RTT/2) {
			doubt("%s is faster than the path", name)
		}
	}
	if u := r.Outcomes[UDP]; u != nil && u.Error == "" && c.Bottleneck == 0 {
		few := 3/math.Sqrt(float64(max(u.Packets, 1)))*math.Sqrt(c.Loss) + 0.001 // the counted time and the wire's differ at their ends
		if math.Abs(u.NeverArrived-u.WireLoss) > few {
			doubt("udp lost %s, its path %s", percent(u.NeverArrived), percent(u.WireLoss))
		}
	}
	if m := r.Outcomes[Meridian]; m != nil && m.Error == "" && c.RTT > repairByRTT && c.Loss > 0 {
		if bound := codeBound(c, m); m.ResidualLoss < boundSlack*bound {
			doubt("meridian lost %s, a block code with its parity %s", percent(m.ResidualLoss), percent(bound))
		}
	}
	return doubts
}

// codeBound is the share of packets that a block code leaves lost that spends all a contestant calls repair on parity,
// in blocks as long as Slack; 0 when the cell is too short to tell.
func codeBound(c Cell, o *Outcome) float64 {
	packets := float64(o.Packets) / c.Duration.Seconds()
	packets = max(packets, o.OfferedBps/8/1150)
	packets = min(packets, o.OfferedBps/8/boundPacket)
	n := int(packets * Slack.Seconds())
	m := int(math.Ceil(float64(n) * o.RepairOverhead))
	if n == 0 || o.WireLoss == 0 {
		return 0
	}
	bound := leftByCode(n, m, o.WireLoss, c.Burst)
	if blocks := bound * float64(o.Packets) / float64(m+1); blocks < boundBlocks {
		return 0
	}
	return bound
}

// leftByCode is the share of n packets with m parity packets that is lost in blocks that lose more than m in all, on a
// Gilbert channel with this loss and mean burst (up to 1: independent losses).
func leftByCode(n, m int, loss, burst float64) float64 {
	burst = max(burst, 1/(1-loss))
	stay, fall := 1-1/burst, loss/(1-loss)/burst
	all := n + m
	lost, good := make([]float64, m+1), make([]float64, m+1) // by number of losses so far: the last one was lost, or not
	lost[0], good[0] = loss, 1-loss
	for range all {
		for k := m; k >= 0; k-- {
			was := 0.0
			if k > 0 {
				was = lost[k-1]*stay + good[k-1]*fall
			}
			good[k] = lost[k]*(1-stay) + good[k]*(1-fall)
			lost[k] = was
		}
	}
	left := loss
	for k := range m + 1 {
		left -= float64(k) * (lost[k] + good[k]) / float64(all)
	}
	return max(left, 0)
}
