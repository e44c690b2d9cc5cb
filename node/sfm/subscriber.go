package sfm

import (
	"fmt"
	"slices"

	"github.com/pion/webrtc/v4"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

// subscription is one source the client receives, or shall.
type subscription struct {
	Subscribe
	sender      *sender
	transceiver *webrtc.RTPTransceiver // nil until there is an m-line
	rtp         *webrtc.RTPSender
}

// subscribe begins to send a source, as soon as there is an m-line for it.
func (e *Endpoint) subscribe(s Subscribe) {
	if !e.cfg.CanSubscribe || s.Media == nil {
		return
	}
	e.unsubscribe(s.Source.ID)
	e.subscriptions = append(e.subscriptions, &subscription{Subscribe: s, sender: newSender(e, s)})
	e.offers.dirty, e.sections.dirty = true, true
}

// unsubscribe stops to send a source. Its m-line goes inactive and can be used again once the client has seen that.
func (e *Endpoint) unsubscribe(id mesh.SourceID) {
	i := slices.IndexFunc(e.subscriptions, func(s *subscription) bool { return s.Source.ID == id })
	if i < 0 {
		return
	}
	s := e.subscriptions[i]
	e.subscriptions = slices.Delete(e.subscriptions, i, i+1)
	s.sender.close()
	if s.transceiver == nil {
		return
	}
	if err := e.sub.pc.RemoveTrack(s.rtp); err != nil {
		e.log.Debug("m-line not given back", "source", string(id), "err", err)
		return
	}
	e.offers.released = append(e.offers.released, s.transceiver)
	e.offers.dirty, e.sections.dirty = true, true
}

func (e *Endpoint) setWanted(id mesh.SourceID, w Wanted) {
	if s := e.subscription(id); s != nil {
		s.sender.want(w, e.sfm.now())
	}
}

func (e *Endpoint) subscription(id mesh.SourceID) *subscription {
	for _, s := range e.subscriptions {
		if s.Source.ID == id {
			return s
		}
	}
	return nil
}

// bind puts a subscription on a free transceiver.
func (e *Endpoint) bind(s *subscription, t *webrtc.RTPTransceiver) error {
	rtp, err := e.sub.api.NewRTPSender(s.sender.track, e.sub.pc.SCTP().Transport())
	if err != nil {
		return fmt.Errorf("sfm: new sender: %w", err)
	}
	if err := t.SetSender(rtp, s.sender.track); err != nil {
		return fmt.Errorf("sfm: use transceiver again: %w", err)
	}
	e.bound(s, t)
	return nil
}

// bound notes that a subscription has its m-line, and begins to read what the client says of it.
func (e *Endpoint) bound(s *subscription, t *webrtc.RTPTransceiver) {
	s.transceiver, s.rtp = t, t.Sender()
	rtp := s.rtp
	e.wg.Go(func() {
		s.sender.readRTCP(func(b []byte) (int, error) {
			n, _, err := rtp.Read(b)
			return n, err
		}, e.sfm.now)
	})
}

// activateSenders begins to send what has become negotiated on a connection that is up.
func (e *Endpoint) activateSenders() {
	if e.sub == nil || e.sub.pc.ConnectionState() != webrtc.PeerConnectionStateConnected {
		return
	}
	for _, s := range e.subscriptions {
		if s.transceiver != nil {
			s.sender.activate(e.sfm.now())
		}
	}
}

// midToTrack names the source on every m-line we send on.
func (e *Endpoint) midToTrack() map[string]string {
	out := map[string]string{}
	for _, s := range e.subscriptions {
		if s.transceiver != nil && s.transceiver.Mid() != "" {
			out[s.transceiver.Mid()] = string(s.Source.ID)
		}
	}
	return out
}

func kindOf(k webrtc.RTPCodecType) mesh.MediaKind {
	if k == webrtc.RTPCodecTypeAudio {
		return mesh.Audio
	}
	return mesh.Video
}
