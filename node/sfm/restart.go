package sfm

import (
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/pion/webrtc/v4"
)

// pathPatience is how long a path in doubt may be silent: clients report on video about once a second.
const pathPatience = time.Second

// pathDoubt is a subscriber connection that may have lost its path.
type pathDoubt struct {
	since time.Duration // 0: none
	heard uint64        // bytes received until then
}

// checkPath has judgePath look whether the client is still heard on the subscriber connection. An offer it may have
// missed goes out again.
func (e *Endpoint) checkPath() {
	if e.cfg.SinglePC || e.sub == nil {
		return
	}
	if e.sub.pc.ConnectionState() != webrtc.PeerConnectionStateConnected {
		e.restartICE()
		return
	}
	e.doubt = pathDoubt{max(e.sfm.now(), 1), e.heard()}
	if e.offers.inFlight {
		e.h.SendDescription(Subscriber, e.offers.latest)
	}
}

// judgePath restarts ICE on a path that stayed silent.
func (e *Endpoint) judgePath() {
	switch {
	case e.doubt.since == 0 || e.sub == nil:
	case e.heard() != e.doubt.heard:
		e.doubt = pathDoubt{}
	case e.sfm.now()-e.doubt.since >= pathPatience:
		e.restartICE()
	}
}

func (e *Endpoint) heard() uint64 {
	return e.sub.pc.SCTP().Transport().ICETransport().Stats().BytesReceived
}

// path is where a connection's media goes over UDP.
type path struct {
	socket *mediaSocket
	client netip.AddrPort
}

// currentPath returns the path in use; ok is false without one, and over TCP, whose connection ends with its ICE session.
func (e *Endpoint) currentPath(c *connection) (p path, ok bool) {
	pair, err := c.pc.SCTP().Transport().ICETransport().GetSelectedCandidatePair()
	if err != nil || pair == nil || pair.Local.Protocol != webrtc.ICEProtocolUDP {
		return path{}, false
	}
	remote, err := netip.ParseAddr(pair.Remote.Address)
	if err != nil {
		return path{}, false
	}
	local, err := netip.ParseAddr(pair.Local.Address)
	if err != nil {
		return path{}, false
	}
	p = path{e.sfm.sockets.at(local.Unmap()), netip.AddrPortFrom(remote.Unmap(), pair.Remote.Port)}
	return p, p.socket != nil
}

// at returns the socket with a local address, or the only one there is behind an advertised one, or nil.
func (s *sockets) at(local netip.Addr) *mediaSocket {
	if m := s.media[local]; m != nil {
		return m
	}
	var only *mediaSocket
	for a, m := range s.media {
		if a.Is4() != local.Is4() {
			continue
		}
		if only != nil {
			return nil
		}
		only = m
	}
	return only
}

// holdPath keeps the path of a connection in use whose client offers to restart ICE. It is called before Pion gets the
// offer, and what it returns after that.
func (e *Endpoint) holdPath(c *connection, offer string) (keep func()) {
	ufrag, password := sdpValue(offer, "ice-ufrag"), sdpValue(offer, "ice-pwd")
	ice := c.pc.SCTP().Transport().ICETransport()
	known, err := ice.GetRemoteParameters()
	if err != nil || known.UsernameFragment == "" || known.UsernameFragment == ufrag || ice.Role() != webrtc.ICERoleControlled {
		return func() {}
	}
	p, ok := e.currentPath(c)
	if !ok {
		return func() {}
	}
	e.releasePath(c)
	p.socket.hold(p.client, heldPath{ufrag, password, time.Now().Add(heldFor)})
	c.held = p
	return func() {
		candidate := "candidate:0 1 udp 1 " + p.client.Addr().String() + " " + strconv.Itoa(int(p.client.Port())) + " typ host"
		if err := c.pc.AddICECandidate(webrtc.ICECandidateInit{Candidate: candidate}); err != nil {
			e.log.Debug("path not held", "err", err)
			e.releasePath(c)
		}
	}
}

// sdpValue returns the value of an attribute where it is first named. BUNDLE has one transport, so one set of ICE
// credentials.
func sdpValue(text, attribute string) string {
	_, rest, _ := strings.Cut(text, "a="+attribute+":")
	line, _, _ := strings.Cut(rest, "\n")
	return strings.TrimSuffix(line, "\r")
}

// releasePath holds the path no longer: there is a new one, or there shall be none.
func (e *Endpoint) releasePath(c *connection) {
	if c.held.socket != nil {
		c.held.socket.release(c.held.client)
		c.held = path{}
	}
}
