package ownership

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are what this room shows to Prometheus.
type metrics struct {
	leader       prometheus.Gauge
	ready        prometheus.Gauge
	term         prometheus.Gauge
	voters       prometheus.Gauge
	entries      prometheus.Gauge
	epochs       prometheus.Counter
	claimSeconds prometheus.Histogram
	commands     *prometheus.CounterVec // kind, result; counted where they are applied: on the leader
	refused      *prometheus.CounterVec // reason
	undecodable  prometheus.Counter
}

// Why something from another node was refused.
const (
	refusedForeign = "foreign_cluster" // of another group
	refusedBad     = "malformed"       // not a message of this protocol
	refusedBusy    = "busy"            // too many streams
	refusedClosed  = "not_running"
)

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: "meridian", Subsystem: "ownership", Name: name, Help: help,
		})
	}
	counter := func(name, help string) prometheus.CounterOpts {
		return prometheus.CounterOpts{Namespace: "meridian", Subsystem: "ownership", Name: name, Help: help}
	}
	m := &metrics{
		leader:  gauge("leader", "1 while this node leads the Raft group."),
		ready:   gauge("ready", "1 while this node knows a leader."),
		term:    gauge("term", "Raft term this node knows of."),
		voters:  gauge("voters", "Voters of the Raft group."),
		entries: gauge("entries", "Rooms with an owner in this node's view."),
		epochs: prometheus.NewCounter(counter("epoch_changes_total",
			"New epochs this node learned of: rooms opened or given to another owner.")),
		claimSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "meridian", Subsystem: "ownership", Name: "claim_seconds",
			Help:    "Time from asking for a room to knowing its owner, where the claim succeeded.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}),
		commands: prometheus.NewCounterVec(counter("commands_total",
			"Commands this node carried out or refused as the leader."), []string{"kind", "result"}),
		refused: prometheus.NewCounterVec(counter("refused_total",
			"Streams from other nodes that were refused."), []string{"reason"}),
		undecodable: prometheus.NewCounter(counter("undecodable_commands_total",
			"Log entries this release cannot read; they change nothing here.")),
	}
	for _, k := range []opKind{opClaim, opRelease, opReassign} {
		for _, r := range []string{
			outcomeOK.String(), outcomeExisting.String(), outcomeStale.String(), outcomeFull.String(),
			outcomeInvalid.String(), resultOwnerAlive, resultUnavailable,
		} {
			m.commands.WithLabelValues(k.String(), r)
		}
	}
	for _, r := range []string{refusedForeign, refusedBad, refusedBusy, refusedClosed} {
		m.refused.WithLabelValues(r)
	}
	for _, c := range []prometheus.Collector{
		m.leader, m.ready, m.term, m.voters, m.entries, m.epochs, m.claimSeconds, m.commands, m.refused, m.undecodable,
	} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("ownership: register metrics: %w", err)
		}
	}
	return m, nil
}

// Results of commands that never reach the table.
const (
	resultOwnerAlive  = "owner_alive"
	resultUnavailable = "unavailable" // leadership was lost on the way
)
