package sfm

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

// Reasons a packet or message is dropped for.
const (
	dropMalformed  = "malformed"       // not RTP, or longer than a packet may be
	dropSlow       = "slow_subscriber" // the client's egress queue was full
	dropWrite      = "write_failed"    // the connection refused it
	dropNACKBudget = "nack_budget"     // retransmissions would have taken too much
	dropNACKGone   = "nack_gone"       // asked for after it left the cache
	dropDataLossy  = "data_lossy_full"
	dropDataFull   = "data_reliable_full"
)

// flow counts one kind of media in one direction.
type flow struct {
	packets, bytes prometheus.Counter
	total          atomic.Uint64 // bytes, for those who cannot read a counter
}

func (f *flow) count(bytes int) {
	f.packets.Inc()
	f.bytes.Add(float64(bytes))
	f.total.Add(uint64(bytes))
}

type metrics struct {
	endpoints prometheus.Gauge
	drops     map[string]prometheus.Counter
	states    map[State]prometheus.Counter
	connect   prometheus.Histogram

	audioIn, videoIn, audioOut, videoOut *flow

	nacksReceived, nacksAnswered                          prometheus.Counter
	keyframesRequested, keyframesSent, keyframesThrottled prometheus.Counter
	replays                                               prometheus.Counter
	dataIn, dataOut, negotiations, negotiationsFailed     prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{drops: map[string]prometheus.Counter{}, states: map[State]prometheus.Counter{}}
	m.endpoints = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "meridian_sfm_endpoints", Help: "Client connections open now.",
	})
	m.connect = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "meridian_sfm_connect_seconds", Help: "Time from a new endpoint to its primary connection being up.",
		Buckets: []float64{.02, .05, .1, .2, .35, .5, .8, 1.2, 2, 5, 10},
	})
	packets := vec("meridian_sfm_packets_total", "RTP packets taken from and given to clients.", "direction", "kind")
	bytes := vec("meridian_sfm_bytes_total", "Bytes of RTP taken from and given to clients.", "direction", "kind")
	drops := vec("meridian_sfm_drops_total", "Packets and messages dropped.", "reason")
	states := vec("meridian_sfm_state_changes_total", "Endpoints coming to a state.", "state")
	nacks := vec("meridian_sfm_nacks_total", "Packets asked for again by clients.", "event")
	keyframes := vec("meridian_sfm_keyframe_requests_total", "Keyframes asked of our clients.", "event")
	m.replays = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "meridian_sfm_replays_total", Help: "Pictures begun with what came since the latest keyframe.",
	})
	data := vec("meridian_sfm_data_messages_total", "Data channel messages.", "direction")
	negotiations := vec("meridian_sfm_negotiations_total", "Session descriptions of clients, by outcome.", "result")
	reg.MustRegister(m.endpoints, m.connect, packets, bytes, drops, states, nacks, keyframes, m.replays, data, negotiations)

	f := func(direction, kind string) *flow {
		return &flow{packets: packets.WithLabelValues(direction, kind), bytes: bytes.WithLabelValues(direction, kind)}
	}
	m.audioIn, m.videoIn, m.audioOut, m.videoOut = f("in", "audio"), f("in", "video"), f("out", "audio"), f("out", "video")
	for _, r := range []string{dropMalformed, dropSlow, dropWrite, dropNACKBudget, dropNACKGone, dropDataLossy, dropDataFull} {
		m.drops[r] = drops.WithLabelValues(r)
	}
	for s := Connecting; s <= Failed; s++ {
		m.states[s] = states.WithLabelValues(s.String())
	}
	m.nacksReceived, m.nacksAnswered = nacks.WithLabelValues("received"), nacks.WithLabelValues("answered")
	m.keyframesRequested = keyframes.WithLabelValues("received")
	m.keyframesSent, m.keyframesThrottled = keyframes.WithLabelValues("sent"), keyframes.WithLabelValues("throttled")
	m.dataIn, m.dataOut = data.WithLabelValues("in"), data.WithLabelValues("out")
	m.negotiations, m.negotiationsFailed = negotiations.WithLabelValues("ok"), negotiations.WithLabelValues("failed")
	return m
}

func vec(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
}

func (m *metrics) in(k mesh.MediaKind) *flow {
	if k == mesh.Audio {
		return m.audioIn
	}
	return m.videoIn
}

func (m *metrics) out(k mesh.MediaKind) *flow {
	if k == mesh.Audio {
		return m.audioOut
	}
	return m.videoOut
}
