package trunk

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"slices"
	"time"
)

// Sizes of the figure in pixels. A panel is one rate and one round trip.
const (
	panelWidth, panelHeight  = 250, 190
	panelGapX, panelGapY     = 24, 46
	marginLeft, marginTop    = 78, 84
	marginRight, marginBelow = 24, 30
	lowestLoss               = 1e-5 // the axis ends here: less is drawn at its foot
)

// look is how a contestant is drawn. The colours differ in lightness too, and each has its own mark.
var looks = map[string]struct{ name, colour, mark string }{
	Meridian: {"Meridian", "#0b6e4f", "circle"},
	QUIC:     {"one QUIC connection", "#d1495b", "square"},
	UDP:      {"UDP, no repair", "#8d99ae", "diamond"},
}

// panelKey says where in the figure a result belongs, lossKey where in its panel.
type (
	panelKey struct {
		rate int64
		rtt  time.Duration
	}
	lossKey struct{ loss, burst float64 }
)

// WriteFigure draws residual loss within one-way delay + Slack over the loss of the path as SVG: a row of panels for
// each rate, a column for each round trip.
func WriteFigure(w io.Writer, results []Result) error {
	var rates []int64
	var rtts []time.Duration
	var losses []lossKey
	for i := range results {
		c := results[i].Cell
		rates, rtts = append(rates, c.Rate), append(rtts, c.RTT)
		losses = append(losses, lossKey{c.Loss, c.Burst})
	}
	slices.Sort(rates)
	slices.Sort(rtts)
	slices.SortFunc(losses, func(a, b lossKey) int {
		if a.loss != b.loss {
			return cmpFloat(a.loss, b.loss)
		}
		return cmpFloat(a.burst, b.burst)
	})
	rates, rtts, losses = slices.Compact(rates), slices.Compact(rtts), slices.Compact(losses)

	width := marginLeft + max(2, len(rtts))*(panelWidth+panelGapX) + marginRight
	height := marginTop + max(1, len(rates))*(panelHeight+panelGapY) + marginBelow
	d := &drawing{}
	d.f(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" font-family="sans-serif" font-size="11">`,
		width, height, width, height)
	d.f(`<title>Loss after repair, by loss of the path</title><rect width="%d" height="%d" fill="#fff"/>`, width, height)
	d.f(`<text x="%d" y="26" font-size="17" font-weight="bold">What does not arrive within one-way delay + %d ms</text>`,
		marginLeft, Slack.Milliseconds())
	d.legend()
	for row, rate := range rates {
		for col, rtt := range rtts {
			x, y := marginLeft+col*(panelWidth+panelGapX), marginTop+row*(panelHeight+panelGapY)
			d.panel(x, y, panelKey{rate, rtt}, losses, results, col == 0)
		}
	}
	d.f(`</svg>`)
	_, err := w.Write(d.b.Bytes())
	return err
}

func cmpFloat(a, b float64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

type drawing struct{ b bytes.Buffer }

func (d *drawing) f(format string, args ...any) {
	fmt.Fprintf(&d.b, format+"\n", args...)
}

func (d *drawing) legend() {
	x := float64(marginLeft)
	for _, name := range Contestants {
		l := looks[name]
		d.f(`<line x1="%g" y1="48" x2="%g" y2="48" stroke="%s" stroke-width="2"/>`, x, x+26, l.colour)
		d.mark(x+13, 48, name)
		d.f(`<text x="%g" y="52" font-size="12">%s</text>`, x+32, l.name)
		x += 60 + 7*float64(len(l.name))
	}
}

func (d *drawing) mark(x, y float64, name string) {
	switch l := looks[name]; l.mark {
	case "circle":
		d.f(`<circle cx="%.1f" cy="%.1f" r="4" fill="%s"/>`, x, y, l.colour)
	case "square":
		d.f(`<rect x="%.1f" y="%.1f" width="7" height="7" fill="%s"/>`, x-3.5, y-3.5, l.colour)
	default:
		d.f(`<path d="M%.1f %.1fl4.5 4.5l-4.5 4.5l-4.5 -4.5z" fill="%s"/>`, x, y-4.5, l.colour)
	}
}

// panel draws one rate and round trip: losses of the path from left to right, what remains upwards by powers of ten.
func (d *drawing) panel(x, y int, key panelKey, losses []lossKey, results []Result, labels bool) {
	d.f(`<text x="%d" y="%d" font-weight="bold">%s, %v RTT</text>`, x, y-6, rateUnit(key.rate), key.rtt)
	for e := 0; e >= -5; e-- {
		at := float64(y) + lossHeight(math.Pow10(e))
		d.f(`<line x1="%d" y1="%.1f" x2="%d" y2="%.1f" stroke="#e3e6ea"/>`, x, at, x+panelWidth, at)
		if labels {
			text := fmt.Sprintf("%g %%", math.Round(math.Pow10(e+2)*1000)/1000)
			if e == -5 {
				text = "≤ " + text
			}
			d.f(`<text x="%d" y="%.1f" text-anchor="end" fill="#444">%s</text>`, x-6, at+4, text)
		}
	}
	step := float64(panelWidth) / float64(len(losses))
	column := func(i int) float64 { return float64(x) + step*(float64(i)+0.5) }
	for i, l := range losses {
		d.f(`<text x="%.1f" y="%d" text-anchor="middle" fill="#444">%s</text>`, column(i), y+panelHeight+15, Cell{Loss: l.loss, Burst: l.burst}.LossName())
	}
	for _, name := range slices.Backward(Contestants) { // the first is on top
		var line string
		type point struct{ x, y float64 }
		var points []point
		for i, l := range losses {
			o := find(results, key, l, name)
			if o == nil || o.Error != "" {
				continue
			}
			p := point{column(i), float64(y) + lossHeight(o.ResidualLoss)}
			points = append(points, p)
			line += fmt.Sprintf("%.1f,%.1f ", p.x, p.y)
		}
		d.f(`<polyline points="%s" fill="none" stroke="%s" stroke-width="2"/>`, line, looks[name].colour)
		for _, p := range points {
			d.mark(p.x, p.y, name)
		}
	}
}

// lossHeight is how far below the top of its panel a loss is drawn.
func lossHeight(loss float64) float64 {
	e := math.Log10(max(lowestLoss, min(1, loss)))
	return e / math.Log10(lowestLoss) * panelHeight
}

func find(results []Result, key panelKey, l lossKey, name string) *Outcome {
	for i := range results {
		c := results[i].Cell
		if c.Rate == key.rate && c.RTT == key.rtt && c.Loss == l.loss && c.Burst == l.burst {
			return results[i].Outcomes[name]
		}
	}
	return nil
}

func rateUnit(rate int64) string { return fmt.Sprintf("%g Mbit/s", float64(rate)/1e6) }
