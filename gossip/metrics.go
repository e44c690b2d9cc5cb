package gossip

import "github.com/prometheus/client_golang/prometheus"

const (
	dropQueue    = "queue_full"
	dropDial     = "no_connection"
	dropTooLarge = "too_large"
	dropReceive  = "receive_full"
	dropClosed   = "closed"

	dirIn  = "in"
	dirOut = "out"
)

type metrics struct {
	members   *prometheus.GaugeVec   // region
	events    *prometheus.CounterVec // type
	packets   *prometheus.CounterVec // direction
	drops     *prometheus.CounterVec // reason
	streams   *prometheus.CounterVec // direction
	refused   prometheus.Counter
	conflicts prometheus.Counter
	joins     *prometheus.CounterVec // result
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	vec := func(name, help, label string, values ...string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "meridian", Subsystem: "gossip", Name: name, Help: help}, []string{label})
		for _, value := range values {
			v.WithLabelValues(value)
		}
		return v
	}
	one := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "meridian", Subsystem: "gossip", Name: name, Help: help})
	}
	m := &metrics{
		members: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Namespace: "meridian", Subsystem: "gossip", Name: "members", Help: "Live members of the mesh, this node included.",
		}, []string{"region"}),
		events:    vec("events_total", "Membership events.", "type", Joined.String(), Updated.String(), Left.String(), Failed.String()),
		packets:   vec("packets_total", "Gossip packets sent and received.", "direction", dirIn, dirOut),
		drops:     vec("dropped_packets_total", "Gossip packets dropped by this node.", "reason", dropQueue, dropDial, dropTooLarge, dropReceive, dropClosed),
		streams:   vec("streams_total", "Gossip streams opened and accepted.", "direction", dirIn, dirOut),
		refused:   one("refused_metadata_total", "Claims of members that were refused."),
		conflicts: one("name_conflicts_total", "Times two addresses claimed one node ID."),
		joins:     vec("join_attempts_total", "Attempts to join by one address.", "result", "ok", "error"),
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.members, m.events, m.packets, m.drops, m.streams, m.refused, m.conflicts, m.joins} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}
