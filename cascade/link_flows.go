package cascade

import (
	"slices"
	"time"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/meshpb/cascadepb"
	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

// servedKeyframeGap is how soon a peer's request for the same keyframe is passed on again.
const servedKeyframeGap = 100 * time.Millisecond

// dispatch handles one control message and reports whether it made sense. Used by readControl only.
func (l *link) dispatch(m *cascadepb.LinkMessage) bool {
	switch b := m.GetBody().(type) {
	case *cascadepb.LinkMessage_LinkClose:
		l.cancel(&closeError{reason: b.LinkClose.GetReason(), remote: true})
	case *cascadepb.LinkMessage_LinkUse:
		l.peerWants.Store(b.LinkUse.GetWanted())
		l.peer.signal()
	case *cascadepb.LinkMessage_LanesWanted:
		l.lanesAsked.Store(min(b.LanesWanted.GetLanes(), maxLanes))
	case *cascadepb.LinkMessage_Ping:
		l.post(&cascadepb.LinkMessage{Body: &cascadepb.LinkMessage_Pong{Pong: &cascadepb.Pong{Token: b.Ping.GetToken()}}})
	case *cascadepb.LinkMessage_Pong: // heard is all it says
	case *cascadepb.LinkMessage_FlowOpen:
		return l.openFlow(b.FlowOpen)
	case *cascadepb.LinkMessage_FlowDemand:
		return l.changeFlow(b.FlowDemand)
	case *cascadepb.LinkMessage_FlowClose:
		if !l.endFlow(b.FlowClose.GetFlowId()) {
			l.crossed(&l.over, b.FlowClose.GetFlowId())
		}
	case *cascadepb.LinkMessage_KeyframeRequest:
		l.serveKeyframe(b.KeyframeRequest)
	case *cascadepb.LinkMessage_FlowLimit:
		l.limitFlow(b.FlowLimit.GetFlowId(), rtpstream.AllEncodings&rtpstream.EncodingSet(b.FlowLimit.GetEncodings()))
	case *cascadepb.LinkMessage_FlowAccept:
		if l.rx.flow(b.FlowAccept.GetFlowId()) != nil {
			l.limitFlow(b.FlowAccept.GetFlowId(), rtpstream.AllEncodings) // what another peer said before holds no more
		}
		l.event(b.FlowAccept.GetFlowId(), eventAccepted, 0)
	case *cascadepb.LinkMessage_FlowRefuse:
		l.event(b.FlowRefuse.GetFlowId(), eventRefused, b.FlowRefuse.GetReason())
	case *cascadepb.LinkMessage_SourceEnded:
		l.event(b.SourceEnded.GetFlowId(), eventEnded, 0)
	case *cascadepb.LinkMessage_LinkState:
		return l.hear(b.LinkState)
	case *cascadepb.LinkMessage_HeaderContext:
		return l.takeContext(b.HeaderContext)
	case *cascadepb.LinkMessage_ClockUpdate:
		l.setClock(b.ClockUpdate)
	case *cascadepb.LinkMessage_Hello, *cascadepb.LinkMessage_Welcome:
		return false
	default: // of a later version
		l.senseless(dropBadControl)
	}
	return true
}

func (l *link) event(flow uint32, kind eventKind, reason cascadepb.RefuseReason) {
	if l.rx.flow(flow) == nil {
		l.crossed(&l.left, flow)
		return
	}
	l.peer.push(peerEvent{link: l, flow: flow, kind: kind, reason: reason})
}

func (l *link) setClock(m *cascadepb.ClockUpdate) {
	pl := l.rx.flow(m.GetFlowId())
	if pl == nil {
		l.crossed(&l.left, m.GetFlowId())
		return
	}
	if m.GetEncoding() >= rtpstream.MaxEncodings {
		l.senseless(dropBadControl)
		return
	}
	if s := pl.media.Stream(uint8(m.GetEncoding())); s != nil {
		s.SetClock(rtpstream.SenderClock{NTP: m.GetNtp(), RTPTimestamp: m.GetRtpTimestamp()})
	}
}

// openFlow serves a source to the peer, or says why not. False means that no honest node would send such a message.
func (l *link) openFlow(m *cascadepb.FlowOpen) bool {
	id := m.GetFlowId()
	path, ok := parsePath(m.GetPath(), l.peer.id)
	if !ok || id >= maxFlowIDs || m.GetHops() == 0 ||
		len(m.GetRoom()) > mesh.MaxNameLength || len(m.GetSource()) > mesh.MaxNameLength || !sensibleOrigin(m) {
		return false
	}
	l.flowMu.Lock()
	_, taken := l.flows[id]
	count := len(l.flows)
	l.flowMu.Unlock()
	if taken {
		return false
	}
	room, source := mesh.RoomName(m.GetRoom()), mesh.SourceID(m.GetSource())
	reason := cascadepb.RefuseReason_REFUSE_REASON_UNSPECIFIED
	var src *rtpstream.Source
	switch {
	case count >= l.c.cfg.MaxFlows:
		reason = cascadepb.RefuseReason_REFUSE_REASON_TOO_MANY_FLOWS
	case slices.Contains(path, l.c.self):
		reason = cascadepb.RefuseReason_REFUSE_REASON_LOOP
	case m.GetHops() > maxHops:
		reason = cascadepb.RefuseReason_REFUSE_REASON_TOO_FAR
	default:
		if src = l.find(m, path); src == nil {
			reason = cascadepb.RefuseReason_REFUSE_REASON_UNKNOWN_SOURCE
		}
	}
	f := &sendFlow{id: id, room: room, source: source, link: l, path: path, hops: m.GetHops(), toldLimit: rtpstream.AllEncodings}
	f.encodings.Store(m.GetDemand().GetEncodings())
	f.twin.Store(m.GetTwin())
	f.limit = layerEverything
	if reason == 0 {
		reason = l.c.relay(src, f)
	}
	if reason != 0 {
		l.refuse(id, reason)
		return true
	}
	f.audio, f.sparse = src.Info.Audio, l.knowsWithheld()
	f.sub = src.Subscribe(f)
	l.flowMu.Lock()
	l.flows[id] = f
	l.flowMu.Unlock()
	if l.ctx.Err() != nil { // endFlows may have passed already
		l.endFlow(id)
		return true
	}
	l.post(&cascadepb.LinkMessage{Body: &cascadepb.LinkMessage_FlowAccept{FlowAccept: &cascadepb.FlowAccept{FlowId: id}}})
	f.setDemand(m.GetDemand())
	l.flowNews(f)
	return true
}

func (l *link) refuse(id uint32, reason cascadepb.RefuseReason) {
	l.over.add(id, l.c.now())
	l.post(&cascadepb.LinkMessage{Body: &cascadepb.LinkMessage_FlowRefuse{
		FlowRefuse: &cascadepb.FlowRefuse{FlowId: id, Reason: reason},
	}})
}

// find returns what the peer asks for: produced here, or elsewhere and to be relayed.
func (l *link) find(m *cascadepb.FlowOpen, path []mesh.NodeID) *rtpstream.Source {
	room, source, origin := mesh.RoomName(m.GetRoom()), mesh.SourceID(m.GetSource()), mesh.NodeID(m.GetOrigin())
	if origin == "" || origin == l.c.self {
		src, ok := l.c.deps.Local(l.peer.id, room, source)
		if !ok {
			return nil
		}
		return src
	}
	if l.c.deps.Relay == nil || slices.Contains(path, origin) {
		return nil
	}
	src, ok := l.c.deps.Relay(RelayRequest{
		Peer: l.peer.id, Room: room, Origin: origin, Source: sourceOf(source, m.GetSourceInfo()),
		Waits: m.GetDemand().GetEncodings() == 0,
	})
	if !ok {
		return nil
	}
	return src
}

// changeFlow takes a new demand or path.
func (l *link) changeFlow(m *cascadepb.FlowDemand) bool {
	path, ok := parsePath(m.GetPath(), l.peer.id)
	if !ok || m.GetHops() == 0 {
		return false
	}
	f := l.servedFlow(m.GetFlowId())
	if f == nil {
		l.crossed(&l.over, m.GetFlowId())
		return true
	}
	f.twin.Store(m.GetTwin())
	if !slices.Equal(path, f.path) || m.GetHops() != f.hops {
		l.c.mu.Lock()
		f.path, f.hops = path, m.GetHops()
		l.c.mu.Unlock()
		reason := l.c.relay(f.sub.Source(), f)
		if slices.Contains(path, l.c.self) {
			reason = cascadepb.RefuseReason_REFUSE_REASON_LOOP
		}
		if reason != 0 {
			l.endFlow(f.id)
			l.refuse(f.id, reason)
			return true
		}
	}
	if !f.wish(m.GetDemand(), l.c.now()) {
		l.peer.stats.drop(dropHurried)
	}
	return true
}

func (l *link) serveKeyframe(m *cascadepb.KeyframeRequest) {
	f := l.servedFlow(m.GetFlowId())
	if f == nil {
		l.crossed(&l.over, m.GetFlowId())
		return
	}
	if m.GetEncoding() >= rtpstream.MaxEncodings {
		l.senseless(dropBadControl)
		return
	}
	l.peer.stats.keyframesIn.Add(1)
	e := uint8(m.GetEncoding())
	now := l.c.now()
	if last := time.Duration(f.keyframe[e].Load()); last != 0 && now-last < servedKeyframeGap {
		return
	}
	f.keyframe[e].Store(int64(now))
	why := rtpstream.KeyframeForJoin
	if m.GetLost() {
		why = rtpstream.KeyframeForRepair
	}
	f.sub.RequestKeyframe(e, why)
}

func (l *link) servedFlow(id uint32) *sendFlow {
	l.flowMu.Lock()
	defer l.flowMu.Unlock()
	return l.flows[id]
}

// endFlow ends what is served under a flow ID, and reports whether there was anything.
func (l *link) endFlow(id uint32) bool {
	l.flowMu.Lock()
	f := l.flows[id]
	delete(l.flows, id)
	l.flowMu.Unlock()
	if f == nil {
		return false
	}
	l.over.add(id, l.c.now())
	l.tx.endFlow(f)
	l.c.unrelay(f.sub.Source(), f)
	f.sub.Close()
	return true
}

func (l *link) endFlows() {
	for _, f := range l.served() {
		l.endFlow(f.id)
	}
}

func (l *link) served() []*sendFlow {
	l.flowMu.Lock()
	defer l.flowMu.Unlock()
	all := make([]*sendFlow, 0, len(l.flows))
	for _, f := range l.flows {
		all = append(all, f)
	}
	return all
}

// news tells the peer what changed at the sources it pulls: sender reports, and their end.
func (l *link) news() {
	for _, f := range l.served() {
		l.flowNews(f)
	}
}

func (l *link) flowNews(f *sendFlow) {
	src := f.sub.Source()
	if f.ended() {
		if l.endFlow(f.id) {
			l.post(&cascadepb.LinkMessage{Body: &cascadepb.LinkMessage_SourceEnded{
				SourceEnded: &cascadepb.SourceEnded{FlowId: f.id},
			}})
		}
		return
	}
	f.mend(l.c.now())
	f.grant()
	for e := range uint8(src.Info.Encodings) {
		clock := src.Stream(e).Clock()
		if clock == nil || f.clocks[e].Swap(clock) == clock {
			continue
		}
		l.post(&cascadepb.LinkMessage{Body: &cascadepb.LinkMessage_ClockUpdate{ClockUpdate: &cascadepb.ClockUpdate{
			FlowId: f.id, Encoding: uint32(e), Ntp: clock.NTP, RtpTimestamp: clock.RTPTimestamp,
		}}})
	}
}

// parsePath checks a flow's path: the peer first, only node IDs, not too many.
func parsePath(in []string, from mesh.NodeID) ([]mesh.NodeID, bool) {
	if len(in) == 0 || len(in) > maxPath || in[0] != string(from) {
		return nil, false
	}
	path := make([]mesh.NodeID, 0, len(in))
	for _, s := range in {
		id, err := mesh.ParseNodeID(s)
		if err != nil {
			return nil, false
		}
		path = append(path, id)
	}
	return path, true
}
