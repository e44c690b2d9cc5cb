package trunk

import (
	"bytes"
	"fmt"
	"io"
)

// WriteTable writes results as a Markdown table, a line for each contestant of each cell.
func WriteTable(w io.Writer, results []Result) error {
	var b bytes.Buffer
	b.WriteString("| RTT | loss | rate | | lost, +60 ms | lost, +RTT+60 ms | audio lost, +60 ms | delay p50 / p99 | overhead | CPU µs/packet (gross) | notes |\n")
	b.WriteString("|---|---|---|---|---|---|---|---|---|---|---|\n")
	for i := range results {
		r := &results[i]
		for _, name := range Contestants {
			o := r.Outcomes[name]
			if o == nil {
				continue
			}
			c := r.Cell
			fmt.Fprintf(&b, "| %v | %s | %s | %s | ", c.RTT, c.LossName(), RateName(c.Rate), name)
			if o.Error != "" {
				fmt.Fprintf(&b, "failed |||||| %s |\n", oneLine(o.Error))
				continue
			}
			fmt.Fprintf(&b, "%s | %s | %s | %s / %s ms | %s | %.1f (%.1f) | %s |\n",
				percent(o.ResidualLoss), percent(o.ResidualLossLate), percent(o.AudioResidualLoss), short(o.DelayP50), short(o.DelayP99),
				o.overhead(), o.CPU, o.CPUGross, r.notes(name, o))
		}
	}
	_, err := w.Write(b.Bytes())
	return err
}

func (o *Outcome) overhead() string {
	if o.Overhead == nil {
		return "–"
	}
	if o.RepairOverhead > 0 {
		return fmt.Sprintf("%.1f %% (repair %.1f %%)", *o.Overhead*100, o.RepairOverhead*100)
	}
	return fmt.Sprintf("%.1f %%", *o.Overhead*100)
}

// percent keeps small losses readable: 0 is nothing lost at all.
func percent(share float64) string {
	switch {
	case share == 0:
		return "0"
	case share < 0.001:
		return fmt.Sprintf("%.3f %%", share*100)
	default:
		return fmt.Sprintf("%.2f %%", share*100)
	}
}

// short keeps the digits of a delay in milliseconds that matter: what a hop adds is less than one.
func short(ms float64) string {
	if ms < 10 {
		return fmt.Sprintf("%.2f", ms)
	}
	return fmt.Sprintf("%.1f", ms)
}

// notes says what a reader should know before trusting a line.
func (r *Result) notes(name string, o *Outcome) string {
	s := ""
	add := func(format string, args ...any) {
		if s != "" {
			s += "; "
		}
		s += fmt.Sprintf(format, args...)
	}
	if o.Disturbed {
		add("machine disturbed")
	}
	if o.Attempts > 1 {
		add("%d attempts", o.Attempts)
	}
	if name == Meridian {
		for _, d := range r.Doubts {
			add("cannot be: %s", d)
		}
	}
	if o.Withheld > 0.001 {
		add("%s not sent", percent(o.Withheld))
	}
	if e := o.Bottleneck; e != nil {
		add("step down %s, queue p99 %s ms, audio lost meanwhile %s, recovery %s", orNever(e.StepDown), short(e.QueueP99), percent(e.AudioResidualLoss), orNever(e.Recovery))
	}
	if o.Behind {
		add("pacing late (p99 %.0f ms)", o.LateP99)
	}
	if o.SocketDrops > 0 {
		add("%d dropped by the kernel", o.SocketDrops)
	}
	if o.OthersCPU > 0.5 && r.Beside == 0 {
		add("%.1f CPUs busy with others", o.OthersCPU)
	}
	return s
}

func orNever(ms *float64) string {
	if ms == nil {
		return "never"
	}
	return fmt.Sprintf("%.0f ms", *ms)
}

func oneLine(s string) string {
	return string(bytes.Join(bytes.Fields([]byte(s)), []byte(" ")))
}
