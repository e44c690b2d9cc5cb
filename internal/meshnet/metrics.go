package meshnet

import (
	"github.com/prometheus/client_golang/prometheus"
)

const (
	dirIn  = "in"
	dirOut = "out"

	reasonForeignCA = "foreign_ca"
	reasonExpired   = "expired"
	reasonWrongNode = "wrong_node"
	reasonALPN      = "alpn"
	reasonTimeout   = "timeout"
	reasonOther     = "other"

	strayNotQUIC   = "not_quic"
	strayMalformed = "malformed"

	reasonFull = "full"

	refusedUnknown = "unknown"
	refusedHeader  = "header"
)

// refusal says why a direct packet was dropped.
type refusal int

const (
	refusedMalformed refusal = iota // no packet of this version
	refusedSession                  // of a session that is not, or no more
	refusedReplay                   // seen before, or older than the window
	refusedEpoch                    // its number is far from those of the session
	refusedForged                   // not authentic
	refusals
)

var refusalNames = [refusals]string{"malformed", "session", "replay", "epoch", "forged"}

type metrics struct {
	conns    *prometheus.CounterVec // alpn, direction
	open     *prometheus.GaugeVec   // alpn
	failures *prometheus.CounterVec // direction, reason
	stray    *prometheus.CounterVec // reason
	refused  *prometheus.CounterVec // reason
	services *prometheus.CounterVec // direction
	unsent   *prometheus.CounterVec // reason

	directRead    prometheus.Histogram
	refusedDirect [refusals]prometheus.Counter // kept apart: garbage may come fast
}

func newMetrics(reg prometheus.Registerer, alpns []ALPN, bytes prometheus.Collector) (*metrics, error) {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "meridian", Subsystem: "meshnet", Name: name, Help: help}, labels)
	}
	m := &metrics{
		conns: counter("connections_total", "Connections with other nodes that completed their handshake.", "alpn", "direction"),
		open: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Namespace: "meridian", Subsystem: "meshnet", Name: "connections", Help: "Connections with other nodes now.",
		}, []string{"alpn"}),
		failures: counter("handshake_failures_total", "Handshakes that failed.", "direction", "reason"),
		stray:    counter("stray_packets_total", "Packets on the mesh port that belong to no connection.", "reason"),
		refused:  counter("service_refusals_total", "Service streams of peers that were refused.", "reason"),
		unsent:   counter("direct_unsent_packets_total", "Direct media packets the socket did not take.", "reason"),
		services: counter("service_streams_total", "Service streams opened (out) and accepted (in).", "direction"),
	}
	for _, d := range []string{dirIn, dirOut} {
		for _, a := range alpns {
			m.conns.WithLabelValues(string(a), d)
			m.open.WithLabelValues(string(a))
		}
		for _, r := range []string{reasonForeignCA, reasonExpired, reasonWrongNode, reasonALPN, reasonTimeout, reasonOther} {
			m.failures.WithLabelValues(d, r)
		}
		m.services.WithLabelValues(d)
	}
	m.stray.WithLabelValues(strayNotQUIC)
	m.stray.WithLabelValues(strayMalformed)
	m.unsent.WithLabelValues(reasonFull)
	m.unsent.WithLabelValues(reasonOther)
	m.directRead = prometheus.NewHistogram(prometheus.HistogramOpts{
		Namespace: "meridian", Subsystem: "meshnet", Name: "direct_read_seconds",
		Help:    "Time the goroutine that reads the mesh port took for the direct media of one read: what else is on the port waits.",
		Buckets: []float64{.00001, .00003, .0001, .0003, .001, .003, .01, .03},
	})
	direct := counter("direct_refused_packets_total", "Direct media packets that were dropped.", "reason")
	for i, name := range refusalNames {
		m.refusedDirect[i] = direct.WithLabelValues(name)
	}
	m.refused.WithLabelValues(refusedUnknown)
	m.refused.WithLabelValues(refusedHeader)
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.conns, m.open, m.failures, m.stray, m.refused, m.services, m.unsent, m.directRead, direct, bytes} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}
