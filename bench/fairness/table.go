package fairness

import (
	"bytes"
	"fmt"
	"io"

	"github.com/meridian-sfu/meridian/bench/trunk"
)

// WriteTable writes a result as Markdown, a line for each phase.
func WriteTable(w io.Writer, r *Result) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s bottleneck, %g ms RTT, queue of %g ms, %s of media offered, %d × TCP %s\n\n",
		trunk.RateName(r.Rate), r.RTT, r.Queue, trunk.RateName(r.Offered), r.Flows, r.Control)
	b.WriteString("| phase | media | TCP | share of media (least in 5 s) | of TCP (least) | queue, audio p50 / p99 | queue, all p50 / p99 | audio lost (late) | withheld: flows, bytes | repair + padding | link: estimate, shared | dropped |\n")
	b.WriteString("|---|---|---|---|---|---|---|---|---|---|---|---|\n")
	for _, p := range r.Phases {
		fmt.Fprintf(&b, "| %s, %.3g s | %.2f | %.2f |", p.Name, p.Seconds, p.Media/1e6, p.TCP/1e6)
		if p.beside() {
			fmt.Fprintf(&b, " %.0f %% (%.0f %%) | %.0f %% (%.0f %%) |", p.MediaShare*100, p.LeastMedia*100, p.TCPShare*100, p.LeastTCP*100)
		} else {
			b.WriteString(" | |")
		}
		if p.AudioP99 == 0 {
			fmt.Fprintf(&b, " | | | | | | %.2f %% |\n", p.Dropped*100)
			continue
		}
		fmt.Fprintf(&b, " %.0f / %.0f ms | %.0f / %.0f ms | %.2f %% (%.2f %%) | %.1f of %.0f, %.0f %% | %.1f + %.1f %% | %.1f, %.0f %% | %.2f %% |\n",
			p.AudioP50, p.AudioP99, p.DelayP50, p.DelayP99, p.AudioLoss*100, p.AudioLate*100,
			p.FlowsWithheld, p.FlowsAll, p.VideoWithheld*100, p.Repair*100, p.Padding*100, p.LinkEstimate/1e6, p.LinkShared*100, p.Dropped*100)
	}
	for _, s := range r.Starved {
		fmt.Fprintf(&b, "\nNot fair enough: %s", s)
	}
	if r.Disturbed {
		fmt.Fprintf(&b, "\nThe machine was busy: pacing late by %.0f ms (p99), %d datagrams dropped by the kernel", r.LateP99, r.Drops)
	}
	if len(r.Starved) > 0 || r.Disturbed {
		b.WriteString("\n")
	}
	_, err := w.Write(b.Bytes())
	return err
}
