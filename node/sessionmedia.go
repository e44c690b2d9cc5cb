package node

import (
	"time"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/rtpstream"
	"github.com/meridian-sfu/meridian/node/sfm"
	"github.com/meridian-sfu/meridian/node/signal"
)

// This file is the endpoint's side of a session: what negotiation, media and data channels bring.

// SendDescription implements sfm.Handler.
func (s *session) SendDescription(t sfm.Target, d sfm.Description) {
	s.send(func(c *signal.Conn) {
		out := signal.SessionDescription{Type: d.Type, SDP: d.SDP, ID: d.ID}
		if d.Type == "offer" {
			c.SendOffer(out, d.MidToTrack)
		} else {
			c.SendAnswer(out, d.MidToTrack)
		}
	})
}

// SendCandidate implements sfm.Handler.
func (s *session) SendCandidate(t sfm.Target, candidate string) {
	s.send(func(c *signal.Conn) { c.SendTrickle(signal.Target(t), candidate, false) })
}

// NeedSections implements sfm.Handler.
func (s *session) NeedSections(audios, videos int) {
	s.send(func(c *signal.Conn) { c.SendMediaSections(uint32(audios), uint32(videos)) })
}

// NegotiationFailed implements sfm.Handler.
func (s *session) NegotiationFailed(t sfm.Target, err error) {
	s.room.node.metrics.negotiationFailures.Inc()
	s.log.Warn("negotiation failed", "target", t, "err", err)
	s.send(func(c *signal.Conn) {
		c.SendRequestResponse(signal.RequestResponse{Reason: signal.RequestFailed, Message: "the session description could not be used: " + err.Error()})
	})
}

// Published implements sfm.Handler: an announced source was negotiated and its media may come.
func (s *session) Published(source mesh.Source, media *rtpstream.Source) {
	s.room.postWait(func() {
		if s.ended {
			media.Close()
			return
		}
		if p, ok := s.pending[source.ClientID]; ok {
			source.Muted = p.Muted
			delete(s.pending, source.ClientID)
		}
		s.room.node.addLocalMedia(source.ID, s.room.name, media)
		s.record.Sources = append(s.record.Sources, source)
		s.record.Publisher = true
		s.room.publish(s)
	})
}

// Unpublished implements sfm.Handler.
func (s *session) Unpublished(id mesh.SourceID) {
	s.room.postWait(func() {
		for i, source := range s.record.Sources {
			if source.ID == id {
				s.record.Sources = append(s.record.Sources[:i:i], s.record.Sources[i+1:]...)
				s.room.publish(s)
				s.room.node.removeLocalMedia(id)
				return
			}
		}
	})
}

// DemandChanged implements sfm.Handler: the publisher is told which of its encodings anybody in the mesh wants.
func (s *session) DemandChanged(id mesh.SourceID, d rtpstream.Demand) {
	s.send(func(c *signal.Conn) {
		source, ok := s.record.Source(id)
		if !ok || source.Kind != mesh.Video {
			return
		}
		codec := signal.SubscribedCodec{Codec: source.MIMEType}
		if len(source.Encodings) <= 1 { // clients differ in which quality they call their only encoding
			on := d.Encodings != 0
			codec.Enabled = [3]bool{on, on, on}
		}
		for i := range source.Encodings {
			if d.Encodings.Has(uint8(i)) {
				codec.Enabled[signal.QualityOf(source.Encodings, i)] = true
			}
		}
		c.SendSubscribedQuality(id, []signal.SubscribedCodec{codec})
	})
}

// Data implements sfm.Handler.
func (s *session) Data(reliable bool, _ string, payload []byte) {
	s.room.postWait(func() {
		if s.ended {
			return
		}
		m, err := signal.StampData(payload, reliable, s.record)
		if err != nil {
			s.room.node.metrics.dataRefused.Inc()
			s.log.Debug("data message refused", "err", err)
			return
		}
		s.room.deliver(m)
		s.room.handle.Data(m)
	})
}

// StateChanged implements sfm.Handler.
func (s *session) StateChanged(state sfm.State) {
	s.room.postWait(func() {
		if s.ended {
			return
		}
		switch state {
		case sfm.Connected:
			s.failedAt = time.Time{}
			if s.record.State != mesh.StateActive {
				s.record.State = mesh.StateActive
				s.room.publish(s)
			}
		case sfm.Failed:
			s.failedAt = time.Now()
			s.log.Info("participant's media failed")
			if s.conn == nil {
				s.room.leave(s, int32(signal.LeaveConnectionTimeout))
			}
		}
	})
}
