package fairness

import (
	"fmt"
	"slices"
	"time"

	"github.com/meridian-sfu/meridian/bench/trunk"
	"github.com/meridian-sfu/meridian/internal/testnet"
)

// Result is what one run showed.
type Result struct {
	Config    Config    `json:"-"`
	Time      time.Time `json:"time"`
	RTT       float64   `json:"rtt_ms"`
	Rate      int64     `json:"rate_bps"`
	Queue     float64   `json:"queue_ms"`
	Loss      float64   `json:"loss"`
	Offered   int64     `json:"offered_bps"`
	Control   string    `json:"tcp"`
	Flows     int       `json:"tcp_flows"`
	Cold      bool      `json:"cold"`
	Seed      uint64    `json:"seed"`
	Phases    []Phase   `json:"phases"`
	Starved   []string  `json:"starved"` // what is not fair enough; empty when all is
	Disturbed bool      `json:"disturbed"`
	LateP99   float64   `json:"pacing_late_p99_ms"`
	Drops     uint64    `json:"socket_drops"` // media datagrams the kernel had no room for
	Course    []Moment  `json:"course"`
}

// Phase is what one phase showed. Rates are bits per second of content, shares parts of both.
type Phase struct {
	Name          string  `json:"name"`
	Seconds       float64 `json:"seconds"`
	Media         float64 `json:"media_bps"`
	TCP           float64 `json:"tcp_bps"`
	MediaShare    float64 `json:"media_share"`
	TCPShare      float64 `json:"tcp_share"`
	LeastMedia    float64 `json:"least_media_share"` // of any shareOver, 0 where one is alone
	LeastTCP      float64 `json:"least_tcp_share"`
	DelayP50      float64 `json:"delay_p50_ms"` // of media packets beyond the path's own delay: queues
	DelayP99      float64 `json:"delay_p99_ms"`
	AudioP50      float64 `json:"audio_delay_p50_ms"`
	AudioP99      float64 `json:"audio_delay_p99_ms"`
	AudioLoss     float64 `json:"audio_loss"` // never arrived
	AudioLate     float64 `json:"audio_late"` // of those that arrived, later than a full queue and trunk.Slack
	VideoWithheld float64 `json:"withheld"`   // share of offered bytes that did not arrive
	FlowsWithheld float64 `json:"withheld_flows"`
	FlowsAll      float64 `json:"flows"`
	Repair        float64 `json:"repair_overhead"` // bytes over those of media sent
	Padding       float64 `json:"padding_overhead"`
	LinkRTT       float64 `json:"link_rtt_ms"` // mean, as the link measures it
	LinkQueue     float64 `json:"link_queue_ms"`
	LinkEstimate  float64 `json:"link_estimate_bps"`
	LinkShared    float64 `json:"link_shared"` // of the time in state "shared"
	TCPRTT        float64 `json:"tcp_rtt_ms"`  // mean, as the kernel measures it
	Dropped       float64 `json:"bottleneck_dropped"`
}

// Moment is a second of the course.
type Moment struct {
	At       float64 `json:"at_s"`
	Media    float64 `json:"media_bps"`
	TCP      float64 `json:"tcp_bps"`
	State    string  `json:"state,omitempty"`
	Estimate uint64  `json:"estimate_bps,omitempty"`
	Queue    float64 `json:"link_queue_ms,omitempty"`
	RTT      float64 `json:"link_rtt_ms,omitempty"`
	Withheld int     `json:"withheld_flows,omitempty"`
	TCPRTT   float64 `json:"tcp_rtt_ms,omitempty"`
	Window   uint32  `json:"tcp_window,omitempty"`
}

// What counts as starving, and as a disturbed machine.
const (
	shareOver  = 5 * time.Second // a share is looked at over this long
	shareLeast = 0.4             // of an even share: 20 % beside one connection
	audioMost  = 0.01
	queueMost  = 60.0 // ms of media's own making, p99
	lateness   = 5 * time.Millisecond
	minWindow  = 2 * time.Second // nothing is concluded from a shorter phase
)

func (r *Result) account(c course, media *trunk.LiveReport, got, sent *tcpReport, passed []testnet.Stats) {
	cfg := r.Config
	r.RTT, r.Rate, r.Queue, r.Loss, r.Offered = millis(cfg.RTT), cfg.Rate, millis(cfg.Queue), cfg.Loss, cfg.Offered
	r.Control, r.Flows, r.Cold, r.Seed = cfg.Control, cfg.Flows, cfg.Cold, cfg.Seed
	r.Drops, r.LateP99 = media.SocketDrops, millis(media.LateP99)
	r.Disturbed = media.SocketDrops > 0 || media.LateP99 > lateness
	for i, w := range c.windows {
		p := Phase{Name: c.names[i], Seconds: (w.To - w.From).Seconds()}
		p.Media, p.TCP = rateOf(media.Arrived, w), rateOf(got.Arrived, w)
		if both := p.Media + p.TCP; both > 0 {
			p.MediaShare, p.TCPShare = p.Media/both, p.TCP/both
		}
		if p.beside() {
			p.LeastMedia, p.LeastTCP = leastShares(media.Arrived, got.Arrived, w)
		}
		p.ofMedia(media.Windows[i], cfg.RTT/2)
		p.ofLink(media.Samples, w)
		n := 0.0
		for _, s := range sent.Samples {
			if s.At >= w.From && s.At < w.To {
				p.TCPRTT, n = p.TCPRTT+millis(s.RTT), n+1
			}
		}
		p.TCPRTT = ratio(p.TCPRTT, n)
		p.Dropped = ratio(float64(passed[i].Overflow), float64(passed[i].Overflow+passed[i].Passed))
		r.Phases = append(r.Phases, p)
	}
	r.Starved = r.starved()
	r.course(c.end, media, got, sent)
}

func (p *Phase) beside() bool { return p.Name == BesideTCP || p.Name == BesideLink }

func (p *Phase) ofMedia(w trunk.WindowReport, oneWay time.Duration) {
	if w.Offered == 0 {
		return
	}
	p.DelayP50, p.DelayP99 = millis(w.P50-oneWay), millis(w.P99-oneWay)
	p.AudioP50, p.AudioP99 = millis(w.AudioP50-oneWay), millis(w.AudioP99-oneWay)
	p.AudioLoss = 1 - ratio(float64(min(w.ArrivedAudio, w.OfferedAudio)), float64(w.OfferedAudio))
	p.AudioLate = ratio(float64(w.LateAudio), float64(w.ArrivedAudio))
	p.VideoWithheld = 1 - ratio(float64(min(w.ArrivedBytes, w.OfferedBytes)), float64(w.OfferedBytes))
}

func (p *Phase) ofLink(samples []trunk.LiveSample, w trunk.Window) {
	var first, last *trunk.LiveSample
	n := 0.0
	for i := range samples {
		s := &samples[i]
		if s.At < w.From || s.At >= w.To {
			continue
		}
		if first == nil {
			first = s
		}
		last = s
		n++
		p.LinkRTT += millis(s.RTT)
		p.LinkQueue += millis(s.Queue)
		p.LinkEstimate += float64(s.Estimate)
		p.FlowsWithheld += float64(s.Withheld)
		p.FlowsAll += float64(s.Flows)
		if s.State == "shared" {
			p.LinkShared++
		}
	}
	if n == 0 {
		return
	}
	for _, v := range []*float64{&p.LinkRTT, &p.LinkQueue, &p.LinkEstimate, &p.FlowsWithheld, &p.FlowsAll, &p.LinkShared} {
		*v /= n
	}
	bytes := float64(last.Bytes - first.Bytes)
	p.Repair, p.Padding = ratio(float64(last.Repair-first.Repair), bytes), ratio(float64(last.Padding-first.Padding), bytes)
}

// starved says what is not fair enough.
func (r *Result) starved() []string {
	all := []string{}
	note := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	even := 1 / float64(r.Flows+1)
	wantsEven := min(even, float64(r.Offered)/float64(r.Rate))
	for _, p := range r.Phases {
		if p.Seconds < minWindow.Seconds() {
			continue
		}
		if p.beside() {
			if p.MediaShare < shareLeast*wantsEven {
				note("%s: media has %.0f %%", p.Name, p.MediaShare*100)
			}
			if p.TCPShare < shareLeast*(1-even) {
				note("%s: TCP has %.0f %%", p.Name, p.TCPShare*100)
			}
		}
		if p.AudioLoss > audioMost {
			note("%s: %.1f %% of audio lost", p.Name, p.AudioLoss*100)
		}
		if p.Name == MediaAlone && p.AudioP99 > queueMost {
			note("%s: a queue of %.0f ms", p.Name, p.AudioP99)
		}
	}
	return all
}

// course tells every second.
func (r *Result) course(end time.Duration, media *trunk.LiveReport, got, sent *tcpReport) {
	for at := time.Duration(0); at+time.Second <= end; at += time.Second {
		w := trunk.Window{From: at, To: at + time.Second}
		m := Moment{At: at.Seconds(), Media: rateOf(media.Arrived, w), TCP: rateOf(got.Arrived, w)}
		if i := slices.IndexFunc(media.Samples, func(s trunk.LiveSample) bool { return s.At >= w.From && s.At < w.To }); i >= 0 {
			s := media.Samples[i]
			m.State, m.Estimate, m.Queue, m.RTT, m.Withheld = s.State, s.Estimate, millis(s.Queue), millis(s.RTT), s.Withheld
		}
		if i := slices.IndexFunc(sent.Samples, func(s tcpSample) bool { return s.At >= w.From && s.At < w.To }); i >= 0 {
			m.TCPRTT, m.Window = millis(sent.Samples[i].RTT), sent.Samples[i].Window
		}
		r.Course = append(r.Course, m)
	}
}

// rateOf is bits per second within a window, of bytes in steps of trunk.LiveStep.
func rateOf(arrived []uint64, w trunk.Window) float64 {
	sum, n := uint64(0), 0
	for i := int(w.From / trunk.LiveStep); i < int(w.To/trunk.LiveStep) && i < len(arrived); i++ {
		sum, n = sum+arrived[i], n+1
	}
	return ratio(8*float64(sum), float64(n)*trunk.LiveStep.Seconds())
}

// leastShares are the least shares of a and b over shareOver, or over the window where that is shorter.
func leastShares(a, b []uint64, w trunk.Window) (least, leastB float64) {
	least, leastB = 1, 1
	over := min(shareOver, w.To-w.From)
	for at := w.From; at+over <= w.To; at += time.Second {
		x, y := rateOf(a, trunk.Window{From: at, To: at + over}), rateOf(b, trunk.Window{From: at, To: at + over})
		least, leastB = min(least, ratio(x, x+y)), min(leastB, ratio(y, x+y))
	}
	return least, leastB
}

func ratio(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
