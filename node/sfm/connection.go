package sfm

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/pion/webrtc/v4"
)

// Bounds on what a client may make us keep.
const (
	maxPendingCandidates = 64
	maxCandidateBytes    = 2048
)

// connection is one peer connection with what the loop knows of it.
type connection struct {
	target  Target
	pc      *webrtc.PeerConnection
	api     *webrtc.API
	pending []webrtc.ICECandidateInit // came before the description
	held    path                      // of before an ICE restart; none: without a socket
}

// connect makes a peer connection whose events come to the loop.
func (e *Endpoint) connect(t Target, api *webrtc.API) (*connection, error) {
	pc, err := e.sfm.newPeerConnection(api)
	if err != nil {
		return nil, err
	}
	c := &connection{target: t, pc: pc, api: api}
	pc.OnICECandidate(func(candidate *webrtc.ICECandidate) {
		if candidate == nil {
			return
		}
		text, err := json.Marshal(candidate.ToJSON())
		if err != nil {
			return
		}
		e.post(func() { e.h.SendCandidate(t, string(text)) })
	})
	pc.OnConnectionStateChange(func(webrtc.PeerConnectionState) {
		e.post(func() { e.connectionChanged(c) })
	})
	pc.OnTrack(func(track *webrtc.TrackRemote, r *webrtc.RTPReceiver) {
		e.post(func() { e.trackStarted(track, r) })
	})
	pc.OnDataChannel(func(dc *webrtc.DataChannel) {
		e.receiveData(dc)
		if e.cfg.SinglePC {
			e.useChannel(dc)
		}
	})
	return c, nil
}

// addCandidate gives a candidate to its connection, or keeps it until that has a description.
func (e *Endpoint) addCandidate(t Target, text string) {
	var init webrtc.ICECandidateInit
	if len(text) > maxCandidateBytes {
		e.h.NegotiationFailed(t, fmt.Errorf("sfm: candidate of %d bytes", len(text)))
		return
	}
	if err := json.Unmarshal([]byte(text), &init); err != nil {
		e.h.NegotiationFailed(t, fmt.Errorf("sfm: candidate: %w", err))
		return
	}
	if strings.Contains(init.Candidate, ".local ") {
		return // a name only the client's own network can resolve
	}
	c, err := e.connectionFor(t)
	if err != nil {
		e.h.NegotiationFailed(t, err)
		return
	}
	if c.pc.RemoteDescription() == nil {
		if len(c.pending) < maxPendingCandidates {
			c.pending = append(c.pending, init)
		}
		return
	}
	if err := c.pc.AddICECandidate(init); err != nil {
		e.h.NegotiationFailed(t, fmt.Errorf("sfm: candidate: %w", err))
	}
}

// flushCandidates adds what came before the description.
func (e *Endpoint) flushCandidates(c *connection) {
	pending := c.pending
	c.pending = nil
	for _, init := range pending {
		if err := c.pc.AddICECandidate(init); err != nil {
			e.h.NegotiationFailed(c.target, fmt.Errorf("sfm: candidate: %w", err))
		}
	}
}

// connectionFor returns the connection of a target, making the publisher's when it is first used: many clients only
// watch.
func (e *Endpoint) connectionFor(t Target) (*connection, error) {
	if t == Subscriber && !e.cfg.SinglePC {
		if e.sub == nil {
			return nil, fmt.Errorf("sfm: there is no subscriber connection")
		}
		return e.sub, nil
	}
	if e.pub != nil {
		return e.pub, nil
	}
	api := e.sfm.apis.publisher
	if e.cfg.SinglePC {
		api = e.sfm.apis.single
	}
	c, err := e.connect(Publisher, api)
	if err != nil {
		return nil, err
	}
	e.pub = c
	if e.cfg.SinglePC {
		e.sub = c
	}
	return c, nil
}

// primary is the connection whose state is the endpoint's.
func (e *Endpoint) primary() *connection {
	if e.sub != nil {
		return e.sub
	}
	return e.pub
}

func (e *Endpoint) connectionChanged(c *connection) {
	if c != e.pub && c != e.sub {
		return // was replaced
	}
	state := c.pc.ConnectionState()
	if state == webrtc.PeerConnectionStateConnected {
		e.releasePath(c)
	}
	if state == webrtc.PeerConnectionStateConnected && c == e.sub {
		e.activateSenders()
	}
	switch {
	case state == webrtc.PeerConnectionStateFailed, state == webrtc.PeerConnectionStateClosed: // closed by the client
		e.setState(Failed)
	case c != e.primary():
	case state == webrtc.PeerConnectionStateConnected:
		e.noteTransport(c)
		e.setState(Connected)
	case state == webrtc.PeerConnectionStateDisconnected:
		e.setState(Disconnected)
	}
}

// noteTransport logs how the client is reached: over TCP means its network blocks UDP.
func (e *Endpoint) noteTransport(c *connection) {
	pair, err := c.pc.SCTP().Transport().ICETransport().GetSelectedCandidatePair()
	if err != nil || pair == nil {
		return
	}
	e.log.Debug("client connected", "link", pair.Local.Protocol.String())
}
