package load

import (
	"bytes"
	"fmt"
	"io"
)

// Row is one result with what to call it.
type Row struct {
	Name   string
	Result Result
}

// WriteTable writes results as a Markdown table, a line each.
func WriteTable(w io.Writer, rows []Row) error {
	var b bytes.Buffer
	b.WriteString("| | subscribers | packets/s | Mbit/s | lost | delay p50 / p99 | first frame p50 / p95 | freezes | CPU µs/packet (cores) | kB/subscriber | keyframe requests (most in 5 s) | generator µs/packet (reading) |\n")
	b.WriteString("|---|---|---|---|---|---|---|---|---|---|---|---|\n")
	for _, row := range rows {
		r := row.Result
		fmt.Fprintf(&b, "| %s | %s | %d | %.1f | %s | %.1f / %.1f ms | %.0f / %.0f ms | %d | %s | %s | %d (%d) | %.1f (%.1f) |\n",
			row.Name, r.who(), r.PacketsPerSecond, float64(r.Bitrate)/1e6, percent(r.Loss), r.DelayP50, r.DelayP99, r.FirstFrameP50, r.FirstFrameP95,
			r.Freezes, r.cpu(), r.memory(), r.KeyframeRequests, r.KeyframeRequests5s, r.GeneratorCPU, r.ReaderCPU)
	}
	_, err := w.Write(b.Bytes())
	return err
}

func (r *Result) who() string {
	s := fmt.Sprintf("%d of %d", r.SubscribersConnected, r.Subscribers)
	if r.NoFrame > 0 {
		s += fmt.Sprintf(", %d without a picture", r.NoFrame)
	}
	return s
}

func (r *Result) cpu() string {
	if r.CPUPerPacket == nil {
		return "–"
	}
	return fmt.Sprintf("%.1f (%.2f)", *r.CPUPerPacket, *r.CPUCores)
}

func (r *Result) memory() string {
	if r.RSSPerSubscriber == nil {
		return "–"
	}
	return fmt.Sprintf("%d", *r.RSSPerSubscriber/1000)
}

// percent keeps small losses readable: 0 is nothing lost at all.
func percent(share float64) string {
	switch {
	case share == 0:
		return "0"
	case share < 0.001:
		return fmt.Sprintf("%.4f %%", share*100)
	}
	return fmt.Sprintf("%.2f %%", share*100)
}
