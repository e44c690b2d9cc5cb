package trunk

import (
	"context"
	"slices"
	"time"
)

// pace sends the workload by its schedule and accounts for the counted time. Traffic goes on after it for a round trip
// and more, so that the last counted packets are missed and repaired as any other. Packets leave on the grid, at the ocean's pulse.
func (n *node) pace(ctx context.Context, s sending, p *pulse) (*report, error) {
	cell := n.job.Cell
	from, to := n.job.Warmup, n.job.Warmup+cell.Duration
	end := to + 2*cell.RTT + cell.Jitter + Slack + 100*time.Millisecond
	var r report
	var used usage
	var before counters
	begun, done := false, false
	lateness := make([]time.Duration, 0, int(cell.Duration/grid)+1)
	b := make([]byte, 2048)
	for i := range b {
		b[i] = byte(i * 31)
	}
	for {
		due := n.load.peek()
		if err := p.until(ctx, n.clock, n.start+int64((due+grid-1)/grid*grid)); err != nil {
			return nil, err
		}
		now := time.Duration(n.clock.now() - n.start)
		if !begun && due >= from {
			begun, used, before = true, readUsage(), s.counters()
			n.wire.say(markBegin)
		}
		if !done && due >= to {
			done = true
			n.wire.say(markEnd)
			r.Usage = readUsage().minus(used)
			r.Counters = s.counters().minus(before)
		}
		if due >= end {
			break
		}
		if due >= from && due < to {
			lateness = append(lateness, now-due)
		}
		limit := end // not past the next reading of the counters
		switch {
		case !begun:
			limit = from
		case !done:
			limit = to
		}
		for n.load.peek() <= now && n.load.peek() < limit {
			ev := n.load.take()
			counted := ev.at >= from && ev.at < to
			audio := n.load.streams[ev.stream].audio
			raw := ev.build(b, audio, counted, n.clock.now())
			if counted {
				r.Offered++
				r.OfferedBytes += uint64(len(raw))
				if audio {
					r.OfferedAudio++
				}
			}
			s.send(&ev, raw)
		}
	}
	slices.Sort(lateness)
	r.LateP99 = quantile(lateness, 0.99)
	r.LateMax = quantile(lateness, 1)
	return &r, nil
}

// minus leaves what was counted since o; what Link says is of its whole life.
func (c counters) minus(o counters) counters {
	c.Packets -= o.Packets
	c.Bytes -= o.Bytes
	c.Repair -= o.Repair
	return c
}
