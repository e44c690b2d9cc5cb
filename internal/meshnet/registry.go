package meshnet

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/quic-go/quic-go/qlog"
	"github.com/quic-go/quic-go/qlogwriter"
)

// registry knows the live connections and, as a Prometheus collector, how many bytes all of them ever carried.
type registry struct {
	sent, received             *prometheus.Desc
	directPackets, directBytes *prometheus.Desc

	mu     sync.Mutex
	live   map[*Conn]struct{} // guarded by mu
	ended  map[ALPN]carried   // guarded by mu; sums of connections that are gone
	direct DirectStats        // guarded by mu; the same of their direct media
}

type carried struct{ sent, received uint64 }

func newRegistry() *registry {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("meridian_meshnet_"+name, help, []string{"alpn"}, nil)
	}
	directDesc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("meridian_meshnet_direct_"+name, help, []string{"direction"}, nil)
	}
	return &registry{
		directPackets: directDesc("packets_total", "Direct media packets sent and received."),
		directBytes:   directDesc("bytes_total", "UDP payload bytes of direct media sent and received."),
		sent:          desc("sent_bytes_total", "UDP payload bytes sent to other nodes."),
		received:      desc("received_bytes_total", "UDP payload bytes received from other nodes."),
		live:          make(map[*Conn]struct{}),
		ended:         make(map[ALPN]carried),
	}
}

func (r *registry) add(c *Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.live[c] = struct{}{}
}

func (r *registry) remove(c *Conn) {
	s := c.qc.ConnectionStats()
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.live[c]; !ok {
		return
	}
	delete(r.live, c)
	sum := r.ended[c.alpn]
	r.ended[c.alpn] = carried{sum.sent + s.BytesSent, sum.received + s.BytesReceived}
	if c.direct != nil {
		r.direct = r.direct.plus(c.direct.Stats())
	}
}

// plus adds up what the collector tells.
func (s DirectStats) plus(t DirectStats) DirectStats {
	return DirectStats{
		PacketsSent: s.PacketsSent + t.PacketsSent, BytesSent: s.BytesSent + t.BytesSent,
		PacketsReceived: s.PacketsReceived + t.PacketsReceived, BytesReceived: s.BytesReceived + t.BytesReceived,
	}
}

func (r *registry) snapshot() []*Conn {
	r.mu.Lock()
	defer r.mu.Unlock()
	conns := make([]*Conn, 0, len(r.live))
	for c := range r.live {
		conns = append(conns, c)
	}
	return conns
}

// Describe implements prometheus.Collector.
func (r *registry) Describe(ch chan<- *prometheus.Desc) {
	ch <- r.sent
	ch <- r.received
	ch <- r.directPackets
	ch <- r.directBytes
}

// Collect implements prometheus.Collector.
func (r *registry) Collect(ch chan<- prometheus.Metric) {
	sums := make(map[ALPN]carried)
	r.mu.Lock()
	direct := r.direct
	for a, s := range r.ended {
		sums[a] = s
	}
	for c := range r.live {
		s := c.qc.ConnectionStats() // atomic loads only
		sum := sums[c.alpn]
		sums[c.alpn] = carried{sum.sent + s.BytesSent, sum.received + s.BytesReceived}
		if c.direct != nil {
			direct = direct.plus(c.direct.Stats())
		}
	}
	r.mu.Unlock()
	for _, v := range []struct {
		desc      *prometheus.Desc
		value     uint64
		direction string
	}{
		{r.directPackets, direct.PacketsSent, dirOut},
		{r.directPackets, direct.PacketsReceived, dirIn},
		{r.directBytes, direct.BytesSent, dirOut},
		{r.directBytes, direct.BytesReceived, dirIn},
	} {
		ch <- prometheus.MustNewConstMetric(v.desc, prometheus.CounterValue, float64(v.value), v.direction)
	}
	for a, s := range sums {
		ch <- prometheus.MustNewConstMetric(r.sent, prometheus.CounterValue, float64(s.sent), string(a))
		ch <- prometheus.MustNewConstMetric(r.received, prometheus.CounterValue, float64(s.received), string(a))
	}
}

// strayRecorder counts packets that look like QUIC but belong to no connection. quic-go offers them only to a tracer.
type strayRecorder struct{ m *metrics }

var _ qlogwriter.Recorder = strayRecorder{}

// RecordEvent implements qlogwriter.Recorder.
func (r strayRecorder) RecordEvent(e qlogwriter.Event) {
	if _, ok := e.(qlog.PacketDropped); ok {
		r.m.stray.WithLabelValues(strayMalformed).Inc()
	}
}

// Close implements io.Closer.
func (strayRecorder) Close() error { return nil }
