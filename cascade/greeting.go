package cascade

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/meshnet"
	"github.com/meridian-sfu/meridian/internal/meshpb/cascadepb"
)

// protocolVersion is what this release speaks: control messages and frames together.
const protocolVersion = 1

// features is what this release understands beyond that.
const features = uint32(cascadepb.Feature_FEATURE_FEC | cascadepb.Feature_FEATURE_RATE | cascadepb.Feature_FEATURE_WITHHELD |
	cascadepb.Feature_FEATURE_COMPACT | cascadepb.Feature_FEATURE_LINK_STATE | cascadepb.Feature_FEATURE_SLIDING |
	cascadepb.Feature_FEATURE_HEADER_CONTEXT)

// maxControlBytes bounds one control message. The largest is a FlowOpen with a long path.
const maxControlBytes = 32 << 10

var (
	errVersion  = errors.New("cascade: peer speaks no common version")
	errGreeting = errors.New("cascade: greeting makes no sense")
)

// A link is opened by whoever needs it first: Hello on a control stream, answered by Welcome. When both open at once,
// the opening of the node with the lower ID wins: that node refuses the other's Hello, and the other takes the winner's
// in place of its own. When a link is there already, a Hello replaces it if the peer must know better: it runs anew,
// had opened the old one itself, or the old one is not up. Lanes are always dialled by the node with the lower ID.

// greet opens a control stream and a link on it. It returns nil, nil when the peer's own opening won meanwhile.
func (p *peer) greet(ctx context.Context) (*link, error) {
	c := p.c
	s, err := c.deps.Net.OpenControl(ctx, p.id)
	if err != nil {
		return nil, err
	}
	l := newLink(p, s, randomID(), true)
	c.mu.Lock()
	if p.link != nil {
		c.mu.Unlock()
		l.abandon()
		return nil, nil
	}
	p.link = l
	c.mu.Unlock()
	stop := context.AfterFunc(ctx, l.abandon)
	welcome, err := exchange(s, &cascadepb.LinkMessage{Version: protocolVersion, Body: &cascadepb.LinkMessage_Hello{
		Hello: &cascadepb.Hello{
			Version: protocolVersion, MinVersion: protocolVersion,
			Session: l.session, Instance: c.instance, Lanes: uint32(c.cfg.MaxLanes), Features: c.features,
		},
	}})
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if p.link != l {
		l.abandon()
		return nil, nil
	}
	if err != nil {
		p.link = nil
		l.abandon()
		return nil, err
	}
	l.features.Store(welcome.GetFeatures() & c.features)
	l.establishLocked(welcome.GetInstance(), min(int(welcome.GetLanes()), c.cfg.MaxLanes))
	return l, nil
}

func exchange(s net.Conn, hello *cascadepb.LinkMessage) (*cascadepb.Welcome, error) {
	if err := meshnet.WriteMessage(s, hello); err != nil {
		return nil, err
	}
	var answer cascadepb.LinkMessage
	if err := meshnet.ReadMessage(s, maxControlBytes, &answer); err != nil {
		return nil, err
	}
	if lc := answer.GetLinkClose(); lc != nil {
		return nil, fmt.Errorf("cascade: peer refuses the link: %s", closeName(lc.GetReason()))
	}
	w := answer.GetWelcome()
	if w == nil || w.GetLanes() < 2 || w.GetLanes() > maxLanes {
		return nil, errGreeting
	}
	if w.GetVersion() != protocolVersion {
		return nil, errVersion
	}
	return w, nil
}

// acceptControl is the other half: it serves one control stream that a peer opened, until its link ends.
func (c *Cascade) acceptControl(from mesh.NodeID, s net.Conn) {
	if !c.enter() {
		_ = s.Close() // nothing was promised on it
		return
	}
	defer c.leave()
	_ = s.SetDeadline(time.Now().Add(c.cfg.OpenTimeout)) // a stream that cannot take a deadline fails at the read
	stop := context.AfterFunc(c.ctx, func() { _ = s.Close() })
	defer stop()
	var m cascadepb.LinkMessage
	if err := meshnet.ReadMessage(s, maxControlBytes, &m); err != nil {
		_ = s.Close()
		return
	}
	l, reason := c.admit(from, s, m.GetHello())
	if l == nil {
		_ = meshnet.WriteMessage(s, closeMessage(reason)) // the peer learns it from the end of the stream otherwise
		_ = s.Close()
		return
	}
	err := meshnet.WriteMessage(s, &cascadepb.LinkMessage{Version: protocolVersion, Body: &cascadepb.LinkMessage_Welcome{
		Welcome: &cascadepb.Welcome{
			Version: protocolVersion, Instance: c.instance, Lanes: uint32(l.lanes), Features: c.features,
		},
	}})
	if err != nil {
		l.cancel(err)
	}
	_ = s.SetDeadline(time.Time{})
	stop()
	l.run()
}

// admit decides over a Hello.
func (c *Cascade) admit(from mesh.NodeID, s net.Conn, h *cascadepb.Hello) (*link, cascadepb.CloseReason) {
	switch {
	case h == nil || from == c.self || h.GetLanes() == 0:
		return nil, cascadepb.CloseReason_CLOSE_REASON_PROTOCOL
	case h.GetMinVersion() > protocolVersion || h.GetVersion() < protocolVersion:
		return nil, cascadepb.CloseReason_CLOSE_REASON_VERSION
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state != stateRunning {
		return nil, cascadepb.CloseReason_CLOSE_REASON_SHUTDOWN
	}
	p := c.peerLocked(from)
	if c.now() < p.banned {
		return nil, cascadepb.CloseReason_CLOSE_REASON_BANNED
	}
	if old := p.link; old != nil {
		switch {
		case !old.established && c.self < from:
			return nil, cascadepb.CloseReason_CLOSE_REASON_DUPLICATE
		case old.established && old.opener && old.peerInstance == h.GetInstance() && (old.up.Load() || c.self < from && c.now()-old.born < c.cfg.SuspectAfter):
			return nil, cascadepb.CloseReason_CLOSE_REASON_DUPLICATE
		case old.established:
			old.close(cascadepb.CloseReason_CLOSE_REASON_REPLACED)
		default:
			old.abandon()
		}
	}
	l := newLink(p, s, h.GetSession(), false)
	l.peerWants.Store(true) // it would not open otherwise
	l.features.Store(h.GetFeatures() & c.features)
	l.establishLocked(h.GetInstance(), min(max(int(h.GetLanes()), 2), maxLanes, c.cfg.MaxLanes))
	p.link = l
	return l, 0
}

// acceptMedia takes a media connection: its first message says which link it belongs to.
func (c *Cascade) acceptMedia(conn MediaConn) {
	if !c.enter() {
		_ = conn.Close(codeShutdown, "shutting down")
		return
	}
	defer c.leave()
	ctx, cancel := context.WithTimeout(c.ctx, c.cfg.OpenTimeout)
	defer cancel()
	hello, err := readLaneHello(ctx, conn)
	if err != nil {
		_ = conn.Close(codeProtocol, "no lane hello")
		return
	}
	l := c.linkOf(conn.Peer(), hello)
	if l == nil {
		_ = conn.Close(codeProtocol, "no such link")
		return
	}
	l.attach(conn, int(hello.GetIndex()))
}

// linkOf returns the link a lane belongs to, which may still wait for its Welcome, or nil.
func (c *Cascade) linkOf(peer mesh.NodeID, hello *cascadepb.LaneHello) *link {
	c.mu.Lock()
	defer c.mu.Unlock()
	p, ok := c.peers[peer]
	if !ok || p.link == nil || p.link.session != hello.GetSession() {
		return nil
	}
	l := p.link
	if l.dialer || hello.GetIndex() >= uint32(l.lanes) || hello.GetVersion() != protocolVersion {
		return nil
	}
	return l
}

func readLaneHello(ctx context.Context, conn MediaConn) (*cascadepb.LaneHello, error) {
	s, err := conn.AcceptStream(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = s.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stop()
	var m cascadepb.LaneHello
	if err := meshnet.ReadMessage(s, 64, &m); err != nil {
		return nil, err
	}
	return &m, nil
}
