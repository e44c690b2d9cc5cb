package cascade

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics exports what the links count. Packets are counted in plain atomics beside the link; only a scrape makes
// Prometheus values of them.
type metrics struct {
	c          *Cascade
	queueDelay prometheus.Histogram

	up, rtt, loss, lanes, flows                 *prometheus.Desc
	estimate, queue, withheld, padding          *prometheus.Desc
	packets, bytes, drops, nacks, rtx, repairs  *prometheus.Desc
	keyframes, replays, opened, failed, refused *prometheus.Desc
}

const metricPrefix = "meridian_cascade_"

func newMetrics(c *Cascade, reg prometheus.Registerer) (*metrics, error) {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(metricPrefix+name, help, append([]string{"peer"}, labels...), nil)
	}
	m := &metrics{
		c: c,
		queueDelay: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: metricPrefix + "queue_delay_seconds", Help: "Time packets wait for a lane; every sixteenth is measured.",
			Buckets: []float64{.0001, .0005, .001, .0025, .005, .01, .02, .04, .06, .12},
		}),
		up:        desc("link_up", "1 when the link is up."),
		rtt:       desc("link_rtt_seconds", "Smoothed round trip of the nearest lane."),
		loss:      desc("link_loss_ratio", "Share of incoming packets lost, before and after repair.", "stage"),
		lanes:     desc("lanes_up", "Connected media connections."),
		flows:     desc("flows_open", "Flows by direction.", "direction"),
		packets:   desc("packets_total", "RTP packets by direction and kind.", "direction", "kind"),
		bytes:     desc("bytes_total", "RTP bytes by direction and kind.", "direction", "kind"),
		drops:     desc("drops_total", "Packets and frames that went no further.", "reason"),
		nacks:     desc("nacks_total", "Packets asked for again.", "direction"),
		rtx:       desc("retransmissions_total", "Packets sent again."),
		repairs:   desc("lost_packets_total", "Packets found missing, by outcome.", "outcome"),
		keyframes: desc("keyframe_requests_total", "Keyframe requests by direction.", "direction"),
		replays:   desc("replays_total", "Encodings a peer began with what was kept here since the latest keyframe."),
		estimate:  desc("link_estimate_bits_per_second", "What the way to the peer was found to carry; 0 while it was never seen full."),
		queue:     desc("link_path_queue_seconds", "Queue that stands on the way to the peer, by one-way delay."),
		withheld:  desc("link_withheld_flows", "Flows that are not sent in full because the link does not carry them."),
		padding:   desc("padding_bytes_total", "Bytes sent to see whether the way to the peer carries more."),
		opened:    desc("links_opened_total", "Links opened by either side."),
		failed:    desc("links_failed_total", "Attempts to open a link that failed."),
		refused:   desc("flows_refused_total", "Flows the peer refused."),
	}
	if reg == nil {
		return m, nil
	}
	return m, errors.Join(reg.Register(m), reg.Register(m.queueDelay))
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		m.up, m.rtt, m.loss, m.lanes, m.flows, m.packets, m.bytes, m.drops, m.nacks, m.rtx, m.repairs,
		m.keyframes, m.replays, m.estimate, m.queue, m.withheld, m.padding, m.opened, m.failed, m.refused,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	for _, s := range m.c.Links() {
		peer := string(s.Peer)
		gauge := func(d *prometheus.Desc, v float64, labels ...string) {
			ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, append([]string{peer}, labels...)...)
		}
		count := func(d *prometheus.Desc, v uint64, labels ...string) {
			ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), append([]string{peer}, labels...)...)
		}
		up := 0.0
		if s.Up {
			up = 1
		}
		gauge(m.up, up)
		gauge(m.rtt, s.RTT.Seconds())
		gauge(m.loss, s.LossIn, "before")
		gauge(m.loss, s.LossRepaired, "after")
		gauge(m.lanes, float64(s.Lanes))
		gauge(m.estimate, float64(s.Rate.Estimate))
		gauge(m.queue, s.Rate.Queue.Seconds())
		gauge(m.withheld, float64(s.Withheld))
		count(m.padding, s.PaddingBytes)
		flows := map[string]int{"in": 0, "out": 0}
		for _, f := range s.Flows {
			flows[f.Direction]++
		}
		for dir, n := range flows {
			gauge(m.flows, float64(n), dir)
		}
		for dir, t := range map[string]Traffic{"in": s.In, "out": s.Out} {
			count(m.packets, t.AudioPackets, dir, "audio")
			count(m.packets, t.VideoPackets, dir, "video")
			count(m.bytes, t.AudioBytes, dir, "audio")
			count(m.bytes, t.VideoBytes, dir, "video")
		}
		for r := range numDropReasons {
			count(m.drops, s.Drops[r.String()], r.String())
		}
		count(m.nacks, s.NacksSent, "out")
		count(m.nacks, s.NacksReceived, "in")
		count(m.rtx, s.Retransmissions)
		count(m.repairs, s.Repaired, "repaired")
		count(m.repairs, s.Lost, "lost")
		count(m.keyframes, s.keyframesIn, "in")
		count(m.keyframes, s.keyframesOut, "out")
		count(m.replays, s.replays)
		count(m.opened, s.linksOpened)
		count(m.failed, s.linksFailed)
		count(m.refused, s.flowsRefused)
	}
}
