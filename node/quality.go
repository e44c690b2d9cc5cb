package node

import (
	"time"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/node/sfm"
	"github.com/meridian-sfu/meridian/node/signal"
)

const qualityInterval = 5 * time.Second

// path is how a participant's packets fare on the way between it and this node, over the last interval.
type path struct {
	rtt  time.Duration
	loss float64 // share, 0 to 1, of the worse direction
}

// rating is the E-model's transmission rating R, 0 to 93.2, for speech over a path: ITU-T G.107 with default values, the delay
// impairment in the form of R. Cole and J. Rosenbluth, "Voice over IP performance monitoring" (2001), and the loss robustness of a
// codec with concealment from G.113 appendix I.
func (p path) rating() float64 {
	const (
		receiveBuffer  = 40   // ms, what a jitter buffer adds
		lossRobustness = 25.1 // Bpl
	)
	delay := float64(p.rtt.Microseconds())/2000 + receiveBuffer
	impairment := 0.024 * delay
	if delay > 177.3 {
		impairment += 0.11 * (delay - 177.3)
	}
	percent := 100 * p.loss
	impairment += 95 * percent / (percent + lossRobustness)
	return max(0, 93.2-impairment)
}

// opinion is the mean opinion score a rating stands for, 1 to 4.5 (G.107 annex B).
func opinion(rating float64) float32 {
	return float32(max(1, 1+0.035*rating+7e-6*rating*(rating-60)*(100-rating)))
}

// level sorts a rating into what clients show, by the steps of G.109: "satisfied" and better, "nearly all dissatisfied" and worse.
func level(rating float64) signal.ConnectionLevel {
	switch {
	case rating >= 80:
		return signal.ConnectionExcellent
	case rating >= 60:
		return signal.ConnectionGood
	}
	return signal.ConnectionPoor
}

// arrivals are counters of what a participant sent, to take differences of.
type arrivals struct{ packets, lost uint64 }

// measure looks at a participant's endpoint and returns the path since the last look.
func (s *session) measure(stats sfm.EndpointStats) path {
	now := arrivals{}
	for _, published := range stats.Published {
		now.packets += published.Packets
		now.lost += published.Lost
	}
	p := path{rtt: stats.RTT}
	if sent := float64(now.packets-s.arrived.packets) + float64(now.lost) - float64(s.arrived.lost); sent > 0 && now.packets >= s.arrived.packets {
		p.loss = max(0, (float64(now.lost)-float64(s.arrived.lost))/sent)
	}
	s.arrived = now
	for _, sub := range stats.Subscriptions {
		p.loss = max(p.loss, sub.FractionLost)
	}
	return p
}

// rateConnections measures every participant attached here and puts what changed into its record, from where everybody learns it.
func (r *hallRoom) rateConnections() {
	for _, s := range r.sessions {
		if s.endpoint == nil || s.record.State != mesh.StateActive {
			continue
		}
		rating := s.measure(s.endpoint.Stats()).rating()
		quality := mesh.Quality{Level: uint8(level(rating)), Score: opinion(rating)}
		if s.conn == nil || !s.failedAt.IsZero() {
			quality = mesh.Quality{Level: uint8(signal.ConnectionLost)}
		}
		if quality.Level != s.record.Quality.Level || s.record.Quality.Score == 0 {
			s.record.Quality = quality
			r.publish(s)
		}
	}
	r.tellQualities()
}

// tellQualities sends each client the connection qualities it was not told yet.
func (r *hallRoom) tellQualities() {
	var changed []signal.ConnectionQuality
	for _, p := range r.state.All() {
		if p.Permission.Hidden || p.Quality == (mesh.Quality{}) || r.qualities[p.ID] == p.Quality {
			continue
		}
		r.qualities[p.ID] = p.Quality
		changed = append(changed, signal.ConnectionQuality{Participant: p.ID, Level: signal.ConnectionLevel(p.Quality.Level), Score: p.Quality.Score})
	}
	for id := range r.qualities {
		if _, here := r.state.Participant(id); !here {
			delete(r.qualities, id)
		}
	}
	if len(changed) == 0 {
		return
	}
	for _, s := range r.sessions {
		if s.conn != nil {
			s.conn.SendConnectionQuality(changed)
		}
	}
}
