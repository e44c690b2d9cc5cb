package cascade

import "time"

// Limits of what is believed of reports. Whoever lies harms nobody but its own link: a report is refused that cannot
// be, and what those say that can be is bounded by what was sent.
const (
	gateReports = 100             // a second, four times what honest peers send
	gateBurst   = 50              // of those that were held up together
	gateClock   = 3 * time.Second // a report is no later than that, or the link is down: the clock has jumped
)

// reportGate refuses reports. It has no lock and no clock.
type reportGate struct {
	tokens float64
	filled time.Duration
	last   rateReport
	at     time.Duration // when that came
	known  bool          // one came
}

// reportNews is what a report says beyond the one before.
type reportNews struct {
	past           time.Duration // by the peer's clock, or ours where that makes no sense
	bytes, packets uint64
}

type gateVerdict uint8

const (
	gateRefused   gateVerdict = iota // makes no sense
	gateOvertaken                    // by a newer one
	gatePassed
)

// pass takes a report. What of the news is there holds in any case: it is nothing but time where a report makes no sense.
func (g *reportGate) pass(r rateReport, now time.Duration) (n reportNews, v gateVerdict) {
	g.tokens = min(g.tokens+gateReports*(now-g.filled).Seconds(), gateBurst)
	if g.filled = now; !g.known {
		g.tokens = gateBurst
	}
	if g.tokens < 1 {
		return n, gateRefused
	}
	g.tokens--
	if !g.known {
		g.last, g.at, g.known = r, now, true
		return n, gatePassed
	}
	since := now - g.at
	off := time.Duration(int32(r.Clock-g.last.Clock-uint32(since.Microseconds()))) * time.Microsecond // modulo 2³²: however long ago
	bytes, packets := int32(r.Bytes-g.last.Bytes), int32(r.Packets-g.last.Packets)
	switch n.past = since + off; {
	case off > gateClock, off < -gateClock:
		n.past, v = since, gateRefused
	case n.past <= 0:
		return reportNews{}, gateOvertaken
	case bytes < 0, packets < 0:
		v = gateRefused
	default:
		n.bytes, n.packets, v = uint64(bytes), uint64(packets), gatePassed
	}
	g.last, g.at = r, now
	return n, v
}
