package directory

import "github.com/prometheus/client_golang/prometheus"

// Why something was dropped or refused.
const (
	dropQueueFull = "queue_full"
	dropNoRoom    = "no_room"
	dropLinkDown  = "link_down"
	dropForeign   = "foreign_sender"
	dropInvalid   = "invalid"
)

type metrics struct {
	rooms     *prometheus.GaugeVec
	reports   *prometheus.CounterVec
	updates   *prometheus.CounterVec
	data      *prometheus.CounterVec
	dropped   *prometheus.CounterVec
	stale     prometheus.Counter
	resyncs   prometheus.Counter
	refused   prometheus.Counter
	evictions prometheus.Counter
	ghosts    prometheus.Counter
	takeovers prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	opts := func(name, help string) prometheus.CounterOpts {
		return prometheus.CounterOpts{Namespace: "meridian", Subsystem: "directory", Name: name, Help: help}
	}
	m := &metrics{
		rooms: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Namespace: "meridian", Subsystem: "directory", Name: "rooms", Help: "Rooms this node takes part in, by its role.",
		}, []string{"role"}),
		reports:   prometheus.NewCounterVec(opts("reports_total", "Reports of edges, by direction."), []string{"direction"}),
		updates:   prometheus.NewCounterVec(opts("updates_total", "Updates of owners, by direction."), []string{"direction"}),
		data:      prometheus.NewCounterVec(opts("data_messages_total", "Data messages between nodes, by direction."), []string{"direction"}),
		dropped:   prometheus.NewCounterVec(opts("dropped_total", "Frames dropped, by reason."), []string{"reason"}),
		stale:     prometheus.NewCounter(opts("stale_epoch_refused_total", "Frames refused because their epoch is over.")),
		resyncs:   prometheus.NewCounter(opts("resyncs_total", "Snapshots asked for because an update was missed.")),
		refused:   prometheus.NewCounter(opts("streams_refused_total", "Streams closed because of a malformed frame.")),
		evictions: prometheus.NewCounter(opts("duplicate_identities_total", "Participants evicted because their identity joined again.")),
		ghosts:    prometheus.NewCounter(opts("participants_expired_total", "Participants dropped because their node was silent.")),
		takeovers: prometheus.NewCounter(opts("takeovers_total", "Rooms this node took over from an owner that was gone.")),
	}
	for _, r := range []Role{RoleOwner, RoleEdge, RoleProvisional} {
		m.rooms.WithLabelValues(string(r))
	}
	for _, dir := range []string{"in", "out"} {
		m.reports.WithLabelValues(dir)
		m.updates.WithLabelValues(dir)
		m.data.WithLabelValues(dir)
	}
	for _, r := range []string{dropQueueFull, dropNoRoom, dropLinkDown, dropForeign, dropInvalid} {
		m.dropped.WithLabelValues(r)
	}
	reg.MustRegister(m.rooms, m.reports, m.updates, m.data, m.dropped, m.stale, m.resyncs, m.refused, m.evictions, m.ghosts, m.takeovers)
	return m
}
