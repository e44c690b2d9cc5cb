package sfm

import (
	"fmt"
	"slices"
	"time"

	"github.com/pion/sdp/v3"
	"github.com/pion/webrtc/v4"
)

// offerState is what the loop knows of its offers on the subscriber connection. Never two are in flight.
type offerState struct {
	dirty    bool
	inFlight bool
	restart  bool   // make new ICE credentials with the next one
	id       uint32 // of the latest one
	latest   Description

	released []*webrtc.RTPTransceiver // of ended subscriptions, the client does not know yet
	leaving  []*webrtc.RTPTransceiver // inactive in the offer in flight
	free     []freeSection            // inactive, the client knows
}

// freeSection is an m-line that may be used again.
type freeSection struct {
	*webrtc.RTPTransceiver
	since time.Duration
}

// offer offers the subscriptions as they are now, unless an offer is in flight: then it follows the answer.
func (e *Endpoint) offer() {
	o := &e.offers
	if !o.dirty || o.inFlight || e.sub == nil {
		return
	}
	o.dirty = false
	if err := e.sendOffer(); err != nil {
		e.sfm.metrics.negotiationsFailed.Inc()
		e.h.NegotiationFailed(Subscriber, err)
	}
}

func (e *Endpoint) sendOffer() error {
	o := &e.offers
	for _, s := range e.subscriptions {
		if s.transceiver != nil {
			continue
		}
		if err := e.place(s); err != nil {
			return err
		}
	}
	offer, err := e.sub.pc.CreateOffer(&webrtc.OfferOptions{ICERestart: o.restart})
	if err != nil {
		return fmt.Errorf("sfm: offer: %w", err)
	}
	if err := e.sub.pc.SetLocalDescription(offer); err != nil {
		return fmt.Errorf("sfm: offer: %w", err)
	}
	var parsed sdp.SessionDescription
	if err := parsed.UnmarshalString(offer.SDP); err != nil {
		return fmt.Errorf("sfm: own offer: %w", err)
	}
	text, err := outgoing{}.apply(&parsed)
	if err != nil {
		return err
	}
	o.restart, o.inFlight = false, true
	o.leaving, o.released = append(o.leaving, o.released...), nil
	o.id++
	o.latest = Description{Type: "offer", SDP: text, ID: o.id, MidToTrack: e.midToTrack()}
	e.h.SendDescription(Subscriber, o.latest)
	return nil
}

// place gives a subscription an m-line: one that is free, else a new one.
func (e *Endpoint) place(s *subscription) error {
	o := &e.offers
	rested := e.sfm.now() - e.sfm.cfg.SectionRest
	i := slices.IndexFunc(o.free, func(f freeSection) bool { return kindOf(f.Kind()) == s.Source.Kind && f.since <= rested })
	if i >= 0 {
		t := o.free[i].RTPTransceiver
		o.free = slices.Delete(o.free, i, i+1)
		return e.bind(s, t)
	}
	t, err := e.sub.pc.AddTransceiverFromTrack(s.sender.track, webrtc.RTPTransceiverInit{
		Direction: webrtc.RTPTransceiverDirectionSendonly,
	})
	if err != nil {
		return fmt.Errorf("sfm: add transceiver: %w", err)
	}
	e.bound(s, t)
	return nil
}

// handleAnswer takes the answer to our offer. One that belongs to an older offer is left alone.
func (e *Endpoint) handleAnswer(d Description) {
	o := &e.offers
	if !o.inFlight || d.ID != 0 && d.ID != o.id {
		return
	}
	err := e.acceptAnswer(d)
	if e.sub.pc.SignalingState() == webrtc.SignalingStateStable {
		o.inFlight = false
		for _, t := range o.leaving {
			o.free = append(o.free, freeSection{t, e.sfm.now()})
		}
		o.leaving = nil
	}
	if err != nil {
		e.sfm.metrics.negotiationsFailed.Inc()
		e.h.NegotiationFailed(Subscriber, err)
		return
	}
	e.sfm.metrics.negotiations.Inc()
	e.flushCandidates(e.sub)
	e.activateSenders()
}

func (e *Endpoint) acceptAnswer(d Description) error {
	sections, text, err := parseRemote(d.SDP)
	if err != nil {
		return err
	}
	if d.Type != "answer" {
		return fmt.Errorf("%w: type %q in place of an answer", errSDP, d.Type)
	}
	// Pion would look up each section's transceiver by MID and start half of them before it found one missing.
	for _, s := range sections {
		if s.kind() != 0 && e.transceiver(s.mid) == nil {
			return fmt.Errorf("%w: answer with MID %q, which was not offered", errSDP, s.mid)
		}
	}
	if err := e.sub.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: text}); err != nil {
		return fmt.Errorf("sfm: answer: %w", err)
	}
	return nil
}

// restartICE makes new ICE credentials on the subscriber connection. An offer in flight goes out again first, for a
// client that comes back may never have seen it; the restart follows its answer.
func (e *Endpoint) restartICE() {
	if e.cfg.SinglePC || e.sub == nil {
		return
	}
	e.doubt = pathDoubt{}
	o := &e.offers
	o.restart, o.dirty = true, true
	if o.inFlight {
		e.h.SendDescription(Subscriber, o.latest)
	}
}
