package cascade

import (
	"sync/atomic"
	"time"

	"github.com/meridian-sfu/meridian/internal/meshpb/cascadepb"
	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

// Limits of how often contexts are proposed.
const (
	contextGap   = time.Second // between two of an encoding: what is on its way has an old one
	contextRound = 64          // proposals a round of the ticker
)

// flowContexts is what the receiver of a flow has said it knows of its RTP headers. The rings are read by whoever
// parses; everything else is guarded by receiver.turn.
type flowContexts struct {
	rings [rtpstream.MaxEncodings][contextRing]atomic.Pointer[headerContext]
	state [rtpstream.MaxEncodings]contextState
}

type contextState struct {
	latest *headerContext
	at     time.Duration // when it was proposed
	due    bool          // a proposal waits for the ticker
	header [rtpHeaderBytes]byte
}

// proposal is a context the peer is to be told of.
type proposal struct {
	flow     uint32
	encoding uint8
	contexts *flowContexts
}

// contextTable is the receiver's contexts by flow ID. They outlive their flow: packets on their way, and parity that
// covers these, still need them.
type contextTable struct {
	flows atomic.Pointer[[]*flowContexts] // replaced as a whole by the peer's goroutine
	on    atomic.Bool                     // the peer understands them
	due   []proposal                      // guarded by receiver.turn
}

// begin forgets what was known of a flow ID, for another flow. Called by the peer's goroutine only.
func (t *contextTable) begin(flow uint32) {
	var old []*flowContexts
	if p := t.flows.Load(); p != nil {
		old = *p
	}
	fresh := make([]*flowContexts, max(len(old), int(flow)+1))
	copy(fresh, old)
	fresh[flow] = &flowContexts{}
	t.flows.Store(&fresh)
}

func (t *contextTable) flow(id uint32) *flowContexts {
	if p := t.flows.Load(); p != nil && uint64(id) < uint64(len(*p)) {
		return (*p)[id]
	}
	return nil
}

// find returns the context a frame names, or nil.
func (t *contextTable) find(h *mediaHeader, cut cutHeader) *headerContext {
	f := t.flow(h.Flow)
	if f == nil {
		return nil
	}
	return f.rings[h.Encoding%rtpstream.MaxEncodings][cut.context%contextRing].Load()
}

// note looks whether a packet of a flow calls for another context. The turn is the caller's.
func (t *contextTable) note(flow uint32, encoding uint8, rtp []byte, now time.Duration) {
	f := t.flow(flow)
	if f == nil || !t.on.Load() {
		return
	}
	s := &f.state[encoding%rtpstream.MaxEncodings]
	if s.latest != nil {
		if offset, ok := s.latest.serves(rtp); ok && offset < contextRenew || now-s.at < contextGap {
			return
		}
	}
	if s.due || len(t.due) == contextRound || len(rtp) < rtpHeaderBytes {
		return
	}
	s.due = true
	copy(s.header[:], rtp)
	t.due = append(t.due, proposal{flow, encoding % rtpstream.MaxEncodings, f})
}

// propose makes the contexts that are due, and returns what the peer is to be told of them.
func (r *receiver) propose(now time.Duration) (out []*cascadepb.HeaderContext) {
	r.turn.Lock()
	defer r.turn.Unlock()
	for _, p := range r.contexts.due {
		s := &p.contexts.state[p.encoding]
		s.due = false
		if r.contexts.flow(p.flow) != p.contexts || r.flow(p.flow) == nil { // it ended meanwhile
			continue
		}
		id := uint8(0)
		if s.latest != nil {
			id = s.latest.id + 1
		}
		c := newContext(id, s.header[:])
		s.latest, s.at = c, now
		p.contexts.rings[p.encoding][c.id].Store(c) // before the peer can use it
		out = append(out, &cascadepb.HeaderContext{
			FlowId: p.flow, Encoding: uint32(p.encoding), Context: uint32(c.id),
			Octets: uint32(c.octets), Ssrc: c.ssrc, Timestamp: c.timestamp,
		})
	}
	r.contexts.due = r.contexts.due[:0]
	return out
}

// takeContext has packets of a flow leave with the context its receiver proposes. False means that no honest node would
// send such a message.
func (l *link) takeContext(m *cascadepb.HeaderContext) bool {
	if m.GetEncoding() >= rtpstream.MaxEncodings || m.GetContext() >= contextRing || m.GetOctets()>>14 != 2 || m.GetOctets()&^0xff7f != 0 {
		return false
	}
	l.flowMu.Lock()
	f := l.flows[m.GetFlowId()]
	l.flowMu.Unlock()
	if f == nil {
		l.crossed(&l.over, m.GetFlowId())
		return true
	}
	f.contexts[m.GetEncoding()].Store(&headerContext{
		id: uint8(m.GetContext()), octets: uint16(m.GetOctets()), ssrc: m.GetSsrc(), timestamp: m.GetTimestamp(),
	})
	return true
}
