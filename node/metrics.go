package node

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	joins               prometheus.Counter
	negotiationFailures prometheus.Counter
	dataRefused         prometheus.Counter
	dataDrops           prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, n *Node) *metrics {
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: "meridian_node_" + name, Help: help})
		reg.MustRegister(c)
		return c
	}
	gauge := func(name, help string, f func() float64) {
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "meridian_node_" + name, Help: help}, f))
	}
	gauge("participants", "Participants attached to this node, joins under way included.", func() float64 { return float64(n.participants()) })
	gauge("rooms", "Rooms with participants attached to this node.", func() float64 { return float64(len(n.allRooms())) })
	gauge("sources", "Sources published at this node.", func() float64 {
		n.mu.Lock()
		defer n.mu.Unlock()
		return float64(len(n.media))
	})
	gauge("draining", "1 while the node takes no new participants.", func() float64 {
		if n.draining.Load() {
			return 1
		}
		return 0
	})
	return &metrics{
		joins:               counter("joins_total", "Participants that entered a room at this node."),
		negotiationFailures: counter("negotiation_failures_total", "Session descriptions of clients that could not be used."),
		dataRefused:         counter("data_refused_total", "Data messages of clients that were malformed, too large or not allowed."),
		dataDrops:           counter("data_drops_total", "Data messages that could not be handed to a client."),
	}
}
