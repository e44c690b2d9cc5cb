package sfm

import (
	"errors"
	"fmt"
	"time"

	"github.com/pion/sdp/v3"
	"github.com/pion/webrtc/v4"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

// startNegotiation is the first thing the loop does.
func (e *Endpoint) startNegotiation() {
	e.h.StateChanged(Connecting)
	e.openSubscriber()
}

func (e *Endpoint) setPermission(publish, subscribe bool) {
	e.cfg.CanPublish, e.cfg.CanSubscribe = publish, subscribe
	e.openSubscriber()
}

// openSubscriber makes the connection we offer on, when there is to be one.
func (e *Endpoint) openSubscriber() {
	if e.cfg.SinglePC || !e.cfg.CanSubscribe || e.sub != nil {
		return
	}
	c, err := e.connect(Subscriber, e.sfm.apis.subscriber)
	if err == nil {
		e.sub = c
		err = e.createChannels(c)
	}
	if err != nil {
		e.h.NegotiationFailed(Subscriber, err)
		return
	}
	e.offers.dirty = true
}

// settle negotiates what commands made necessary. The loop calls it when no command waits.
func (e *Endpoint) settle() {
	if e.cfg.SinglePC {
		e.askSections()
		return
	}
	e.offer()
}

// handleOffer answers an offer of the client.
func (e *Endpoint) handleOffer(d Description) {
	if err := e.answerOffer(d); err != nil {
		e.sfm.metrics.negotiationsFailed.Inc()
		e.h.NegotiationFailed(Publisher, err)
		return
	}
	e.sfm.metrics.negotiations.Inc()
}

func (e *Endpoint) answerOffer(d Description) error {
	sections, text, err := parseRemote(d.SDP)
	if err != nil {
		return err
	}
	if d.Type != "offer" {
		return fmt.Errorf("%w: type %q in place of an offer", errSDP, d.Type)
	}
	c, err := e.connectionFor(Publisher)
	if err != nil {
		return err
	}
	awaitTransport(c)
	keepPath := e.holdPath(c, text)
	if err := c.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: text}); err != nil {
		return errors.Join(fmt.Errorf("sfm: offer: %w", err), e.abandonOffer(c))
	}
	keepPath()
	if e.cfg.SinglePC {
		e.bindSections(sections)
	}
	answer, err := c.pc.CreateAnswer(nil)
	if err != nil {
		return errors.Join(fmt.Errorf("sfm: answer: %w", err), e.abandonOffer(c))
	}
	if err := c.pc.SetLocalDescription(answer); err != nil {
		return errors.Join(fmt.Errorf("sfm: answer: %w", err), e.abandonOffer(c))
	}
	e.flushCandidates(c)
	reply := Description{Type: "answer", ID: d.ID}
	var agreed map[string]negotiated
	reply.SDP, agreed, err = e.outgoingAnswer(c, answer, sections)
	if err != nil {
		return err
	}
	if e.cfg.SinglePC {
		reply.MidToTrack = e.midToTrack()
	}
	e.h.SendDescription(Publisher, reply)
	e.offered(sections, agreed)
	if e.cfg.SinglePC {
		e.sectionsAnswered(sections)
		e.activateSenders()
	}
	return nil
}

// awaitTransport waits until Pion has begun with the ICE credentials of an earlier offer, which it does on a goroutine of
// its own. An offer before that looks to it like an ICE restart, and the connection never comes up. It is a matter of
// microseconds, and only when two offers come at once.
func awaitTransport(c *connection) {
	if c.pc.CurrentRemoteDescription() == nil {
		return
	}
	ice := c.pc.SCTP().Transport().ICETransport()
	for range 100 {
		if p, err := ice.GetRemoteParameters(); err == nil && p.UsernameFragment != "" {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// outgoingAnswer returns the answer as it goes out, and what it agrees to.
func (e *Endpoint) outgoingAnswer(
	c *connection, answer webrtc.SessionDescription, sections []section,
) (string, map[string]negotiated, error) {
	var parsed sdp.SessionDescription
	if err := parsed.UnmarshalString(answer.SDP); err != nil {
		return "", nil, fmt.Errorf("sfm: own answer: %w", err)
	}
	e.chooseCodecs(&parsed, sections)
	negotiated := readAnswer(&parsed)
	silent := map[string]bool{}
	for _, t := range c.pc.GetTransceivers() {
		if t.Sender() == nil {
			silent[t.Mid()] = true
		}
	}
	text, err := outgoing{silent: silent, opus: e.sendingSources(sections, mesh.Audio)}.apply(&parsed)
	return text, negotiated, err
}

// abandonOffer brings a connection out of an offer that failed half-way. Pion has no rollback: a connection that never
// got further is replaced, for nothing hangs on it yet; another one answers as well as it can, to itself.
func (e *Endpoint) abandonOffer(c *connection) error {
	if c.pc.SignalingState() == webrtc.SignalingStateStable {
		return nil
	}
	if c.pc.CurrentRemoteDescription() != nil {
		answer, err := c.pc.CreateAnswer(nil)
		if err == nil {
			err = c.pc.SetLocalDescription(answer)
		}
		if err != nil {
			e.setState(Failed) // no later offer could be taken
		}
		return err
	}
	e.pub = nil
	if e.cfg.SinglePC {
		e.sub = nil
		for _, s := range e.subscriptions {
			s.transceiver, s.rtp = nil, nil
		}
	}
	return c.pc.Close()
}
