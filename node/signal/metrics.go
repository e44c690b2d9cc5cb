package signal

import (
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/livekit/protocol/livekit"
)

// How joins and connections may end, as label values.
const (
	joinOK          = "ok"
	joinRefused     = "refused"       // by the hall
	joinDenied      = "denied"        // by the token
	joinBadRequest  = "bad_request"   // by its content
	joinFailed      = "failed"        // internal error
	joinUpgrade     = "upgrade"       // joined, but the upgrade failed
	joinUnavailable = "unavailable"   // shutting down
	malformedDecode = "undecodable"   // not a message
	malformedSize   = "too_large"     // over MaxMessageBytes
	malformedLimit  = "over_limit"    // a list or a value in it is too long
	closeQueue      = "queue_full"    // the client reads too slowly
	closeWrite      = "write_timeout" // a write timed out
)

type metrics struct {
	connections prometheus.Gauge
	joins       *prometheus.CounterVec // by result
	checks      *prometheus.CounterVec // by result
	malformed   *prometheus.CounterVec // by reason
	slowCloses  *prometheus.CounterVec // by reason
	timeouts    prometheus.Counter
	in          map[protoreflect.Name]prometheus.Counter // by kind; "" is unknown
	out         map[protoreflect.Name]prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "meridian_signal_" + name, Help: help}, labels)
	}
	m := &metrics{
		connections: prometheus.NewGauge(prometheus.GaugeOpts{Name: "meridian_signal_connections", Help: "Signalling connections open now."}),
		joins:       counter("joins_total", "Joins and resumes by result.", "result"),
		checks:      counter("checks_total", "Validate requests by result.", "result"),
		malformed:   counter("malformed_frames_total", "Frames from clients that ended their connection, by reason.", "reason"),
		slowCloses:  counter("slow_client_closes_total", "Connections closed because the client did not take its messages, by reason.", "reason"),
		timeouts:    prometheus.NewCounter(prometheus.CounterOpts{Name: "meridian_signal_read_timeouts_total", Help: "Connections closed because nothing came from the client."}),
		in:          make(map[protoreflect.Name]prometheus.Counter),
		out:         make(map[protoreflect.Name]prometheus.Counter),
	}
	messages := counter("messages_total", "Signalling messages by direction and kind.", "direction", "kind")
	for _, result := range []string{joinOK, joinRefused, joinDenied, joinBadRequest, joinFailed, joinUpgrade, joinUnavailable} {
		m.joins.WithLabelValues(result)
	}
	for _, result := range []string{joinOK, joinRefused, joinDenied, joinBadRequest, joinFailed, joinUnavailable} {
		m.checks.WithLabelValues(result)
	}
	for _, reason := range []string{malformedDecode, malformedSize, malformedLimit} {
		m.malformed.WithLabelValues(reason)
	}
	for _, reason := range []string{closeQueue, closeWrite} {
		m.slowCloses.WithLabelValues(reason)
	}
	preset := func(into map[protoreflect.Name]prometheus.Counter, direction string, oneof protoreflect.OneofDescriptor) {
		into[""] = messages.WithLabelValues(direction, "unknown")
		for i := range oneof.Fields().Len() {
			name := oneof.Fields().Get(i).Name()
			into[name] = messages.WithLabelValues(direction, string(name))
		}
	}
	preset(m.in, "in", requestOneof)
	preset(m.out, "out", responseOneof)
	for _, c := range []prometheus.Collector{m.connections, m.joins, m.checks, m.malformed, m.slowCloses, m.timeouts, messages} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

var (
	requestOneof  = (&livekit.SignalRequest{}).ProtoReflect().Descriptor().Oneofs().ByName("message")
	responseOneof = (&livekit.SignalResponse{}).ProtoReflect().Descriptor().Oneofs().ByName("message")
)

// kindOf names the member of a message's oneof; "" when it is one we do not know.
func kindOf(m protoreflect.Message, oneof protoreflect.OneofDescriptor) protoreflect.Name {
	if fd := m.WhichOneof(oneof); fd != nil {
		return fd.Name()
	}
	return ""
}
