package cascade

import (
	"slices"
	"sync/atomic"
	"time"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/meshpb/cascadepb"
	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

// Timing of what goes upstream.
const (
	demandGap      = 20 * time.Millisecond  // between two demands of one flow
	keyframeGap    = 300 * time.Millisecond // between two requests for the same keyframe
	keyframeSlow   = time.Second            // the same after keyframeTries without success
	keyframeTries  = 5
	retryMin       = 100 * time.Millisecond
	retryMax       = 2 * time.Second
	maxPath        = 64 // nodes in a flow's path
	maxHops        = 3
	switchOverlap  = 500 * time.Millisecond // both ways of a source run this long: more than their delays differ
	switchPatience = 5 * time.Second        // the same when the new way is open and silent: the source may be
	never          = time.Duration(1<<63 - 1)
	flowQuarantine = 5 * time.Second // a flow ID is not used again sooner: late packets must not reach another source
)

type pullKey struct {
	room   mesh.RoomName
	source mesh.SourceID
}

type pullState uint8

const (
	pullIdle pullState = iota
	pullOpening
	pullOpen
)

// pull is one way a source comes here: the receiving end of a flow from one peer. Its producer is the link. Consumers
// and the receive loop touch its atomics, everything else belongs to the peer's goroutine.
type pull struct {
	peer   *peer
	remote *remote
	key    pullKey
	audio  bool
	media  *rtpstream.Source // of the remote, shared by its pulls

	wantKey  [rtpstream.MaxEncodings]atomic.Uint32 // a keyframe is wanted: 0 or one more than the rtpstream.KeyframeReason
	flowing  atomic.Bool                           // packets came since the flow was opened
	carries  atomic.Bool                           // and since it last had to prove itself: see settle
	proved   atomic.Bool                           // packets came at any time
	wanted   atomic.Uint32                         // encodings asked for, for status
	withheld atomic.Uint32                         // encodings that cannot come this way
	refusals atomic.Uint32                         // since the flow was last accepted

	state     pullState
	link      *link // of the flow
	flow      uint32
	sent      rtpstream.Demand
	sentPath  []mesh.NodeID
	sentTwin  bool
	flowed    bool // flowing, as last seen
	sentAt    time.Duration
	openedAt  time.Duration
	flowsAt   time.Duration // when the first packet since change was noticed, or 0
	change    uint64        // of ways, that it is the new way of; 0 when it is not the new one of two
	changedAt time.Duration // when that was noticed
	waited    bool          // beside another way
	lingering bool
	emptyAt   time.Duration // when demand ended, while lingering
	retryAt   time.Duration
	backoff   time.Duration
	keySent   [rtpstream.MaxEncodings]time.Duration
	keyTries  [rtpstream.MaxEncodings]int
}

// write gives a packet to its stream. Whoever asked for a keyframe before it came has what it asked for. The mutex is
// held over the sinks: it makes one writer of two links, and nothing else ever takes it.
func (pl *pull) write(s *rtpstream.Stream, pkt *rtpstream.Packet) {
	if pkt.Keyframe {
		pl.wantKey[s.Encoding].Store(0)
	}
	pl.remote.writeMu.Lock()
	s.Complete(pkt)
	s.Write(pkt)
	pl.remote.writeMu.Unlock()
	if !pl.carries.Load() && !pl.carries.Swap(true) {
		pl.flowing.Store(true)
		pl.proved.Store(true)
		pl.remote.came.Store(true)
		pl.peer.signal()
	}
}

// needed reports whether there is a reason to have a link for this source.
func (pl *pull) needed() bool { return pl.state != pullIdle || pl.media.Demand().Encodings != 0 }

// failingLocked reports whether the source came this way and may not any more. Cascade.mu is held.
func (pl *pull) failingLocked() bool {
	l := pl.peer.link
	return pl.proved.Load() && (l == nil || !l.established || l.doubtful.Load() || pl.refusals.Load() > 0)
}

// step does what is due on link l, nil when there is none, and returns when it wants to be called again. A way that
// waits is open, with a demand for nothing.
func (pl *pull) step(now time.Duration, l *link, s step) time.Duration {
	if pl.state != pullIdle && pl.link != l {
		pl.reset()
	}
	want := pl.media.Demand()
	watched := want.Encodings != 0
	if s.idle {
		want = rtpstream.Demand{}
	} else if pl.waited { // its time has come
		pl.openedAt, pl.flowsAt = now, 0
		pl.silent()
	}
	pl.waited = s.idle
	if flowing := pl.flowing.Load(); flowing != pl.flowed {
		pl.flowed = flowing
		pl.remote.flowChanged(pl)
	}
	pl.wanted.Store(uint32(want.Encodings))
	if pl.state == pullIdle {
		if !watched || l == nil {
			return never
		}
		if now < pl.retryAt {
			return pl.retryAt
		}
		if !pl.open(now, l, want, s) {
			pl.retry(now)
			return pl.retryAt
		}
	}
	if pl.state == pullOpening && now-pl.openedAt >= pl.peer.c.cfg.OpenTimeout {
		pl.close(now)
		pl.retry(now)
		return pl.retryAt
	}
	if !watched {
		return pl.linger(now)
	}
	pl.lingering = false
	due := never
	if pl.state == pullOpening {
		due = pl.openedAt + pl.peer.c.cfg.OpenTimeout
	}
	due = min(due, pl.demand(now, want, s), pl.settle(now, s))
	return min(due, pl.keyframes(now, want))
}

// settle ends the way the source came before, once this one has carried it long enough for no gap to be seen. What came
// or did not come before it was made the new way proves nothing, and which way is the new one it takes from s, as all
// else in this step: read anew it may be one that waited when the step began.
func (pl *pull) settle(now time.Duration, s step) time.Duration {
	if s.change != pl.change {
		pl.change, pl.changedAt, pl.flowsAt = s.change, now, 0
		pl.carries.Store(false)
	}
	if pl.state != pullOpen || s.change == 0 {
		return never
	}
	if pl.flowsAt == 0 && pl.carries.Load() {
		pl.flowsAt = now
	}
	end := max(pl.openedAt, pl.changedAt) + switchPatience
	if pl.flowsAt != 0 {
		end = min(end, pl.flowsAt+switchOverlap)
	}
	if now < end {
		return end
	}
	pl.remote.settled(pl, s.change)
	return never
}

func (pl *pull) open(now time.Duration, l *link, want rtpstream.Demand, s step) bool {
	path, hops, twin := s.path, s.hops, s.twin
	if l.crowded() {
		return false
	}
	id, ok := l.ids.take(now)
	if !ok {
		return false
	}
	pl.state, pl.link, pl.flow, pl.openedAt = pullOpening, l, id, now
	pl.sent, pl.sentAt, pl.sentPath, pl.sentTwin, pl.lingering = want, now, path, twin, false
	pl.flowsAt = 0
	pl.silent()
	l.rx.setFlow(id, pl)
	begin := want.Encodings
	if pl.audio || pl.remote.seamless(pl) {
		begin = 0
	}
	l.post(&cascadepb.LinkMessage{Body: &cascadepb.LinkMessage_FlowOpen{FlowOpen: &cascadepb.FlowOpen{
		Version: protocolVersion, FlowId: id, Room: string(pl.key.room), Source: string(pl.key.source),
		Demand: demandMessage(want, begin), Path: pathMessage(path), Hops: hops,
		Origin: string(pl.remote.origin), SourceInfo: pl.sourceInfo(), Twin: twin,
	}}})
	pl.wish(begin)
	return true
}

// wish asks for keyframes of encodings that begin to flow: nobody can decode them otherwise.
func (pl *pull) wish(set rtpstream.EncodingSet) {
	why := rtpstream.KeyframeForJoin
	if pl.remote.came.Load() { // another way, and what came between is lost
		why = rtpstream.KeyframeForRepair
	}
	for e := range uint8(rtpstream.MaxEncodings) {
		pl.keySent[e], pl.keyTries[e] = 0, 0
		if set.Has(e) && !pl.audio {
			pl.want(e, why)
		}
	}
}

// want notes that a keyframe is needed. Any goroutine.
func (pl *pull) want(e uint8, why rtpstream.KeyframeReason) {
	if !pl.wantKey[e].CompareAndSwap(0, 1+uint32(why)) && why != rtpstream.KeyframeForJoin {
		pl.wantKey[e].Store(1 + uint32(why))
	}
}

// linger closes a flow nobody has wanted for a while.
func (pl *pull) linger(now time.Duration) time.Duration {
	if !pl.lingering {
		pl.lingering, pl.emptyAt = true, now
	}
	end := pl.emptyAt + pl.peer.c.cfg.Linger
	if now < end {
		return end
	}
	pl.close(now)
	return never
}

// demand tells the peer what is wanted when that changed, at most every demandGap.
func (pl *pull) demand(now time.Duration, want rtpstream.Demand, s step) time.Duration {
	if want == pl.sent && slices.Equal(s.path, pl.sentPath) && s.twin == pl.sentTwin {
		return never
	}
	if now < pl.sentAt+demandGap {
		return pl.sentAt + demandGap
	}
	added := want.Encodings &^ pl.sent.Encodings
	first := pl.sent.Encodings == 0
	begin := added
	if pl.audio || first && pl.remote.seamless(pl) { // a decoder here misses nothing
		begin = 0
	}
	pl.sent, pl.sentAt, pl.sentPath, pl.sentTwin = want, now, s.path, s.twin
	pl.link.post(&cascadepb.LinkMessage{Body: &cascadepb.LinkMessage_FlowDemand{FlowDemand: &cascadepb.FlowDemand{
		FlowId: pl.flow, Demand: demandMessage(want, begin), Path: pathMessage(s.path), Hops: s.hops, Twin: s.twin,
	}}})
	if first {
		pl.wish(begin)
		return never
	}
	for e := range uint8(rtpstream.MaxEncodings) {
		if begin.Has(e) {
			pl.keySent[e], pl.keyTries[e] = 0, 0
			pl.want(e, rtpstream.KeyframeForJoin)
		}
	}
	return never
}

// keyframes sends the requests that are due: one in flight for each encoding.
func (pl *pull) keyframes(now time.Duration, want rtpstream.Demand) time.Duration {
	if pl.link.crowded() {
		return now + demandGap
	}
	due := never
	for e := range uint8(rtpstream.MaxEncodings) {
		why := pl.wantKey[e].Load()
		if why == 0 {
			pl.keyTries[e] = 0
			continue
		}
		if !want.Encodings.Has(e) {
			pl.wantKey[e].Store(0)
			continue
		}
		gap := max(keyframeGap, pl.link.roundTrip()*3/2)
		if pl.keyTries[e] >= keyframeTries {
			gap = max(gap, keyframeSlow)
		}
		if at := pl.keySent[e] + gap; pl.keySent[e] != 0 && now < at {
			due = min(due, at)
			continue
		}
		pl.keySent[e] = now
		pl.keyTries[e]++
		due = min(due, now+gap)
		pl.peer.stats.keyframesOut.Add(1)
		pl.link.post(&cascadepb.LinkMessage{Body: &cascadepb.LinkMessage_KeyframeRequest{
			KeyframeRequest: &cascadepb.KeyframeRequest{
				FlowId: pl.flow, Encoding: uint32(e), Lost: why > 1+uint32(rtpstream.KeyframeForJoin),
			},
		}})
	}
	return due
}

// accepted, refused and ended take the peer's answers.
func (pl *pull) accepted() {
	if pl.state == pullOpening {
		pl.state, pl.backoff = pullOpen, 0
		pl.refusals.Store(0)
	}
}

func (pl *pull) refused(now time.Duration, reason cascadepb.RefuseReason) {
	pl.peer.stats.flowsRefused.Add(1)
	if pl.refusals.Add(1) == 1 {
		defer pl.peer.wayChanged()
	}
	pl.forget(now)
	if reason == cascadepb.RefuseReason_REFUSE_REASON_UNKNOWN_SOURCE {
		pl.retry(now) // the directory may be ahead of the origin's media by a moment
		return
	}
	pl.retryAt = now + retryMax
}

func (pl *pull) ended(now time.Duration) {
	pl.refusals.Add(1)
	pl.forget(now)
	pl.retryAt = now + retryMax
}

// close ends the flow, if there is one.
func (pl *pull) close(now time.Duration) {
	if pl.state == pullIdle {
		return
	}
	pl.link.post(&cascadepb.LinkMessage{Body: &cascadepb.LinkMessage_FlowClose{
		FlowClose: &cascadepb.FlowClose{FlowId: pl.flow},
	}})
	pl.forget(now)
}

// forget takes the flow out of its link without a word to the peer.
func (pl *pull) forget(now time.Duration) {
	if pl.state != pullIdle {
		pl.link.left.add(pl.flow, now)
		pl.link.rx.setFlow(pl.flow, nil)
		pl.link.ids.give(pl.flow, now)
	}
	pl.reset()
}

// reset makes the pull idle, its link being gone.
func (pl *pull) reset() {
	pl.state, pl.link, pl.lingering = pullIdle, nil, false
	pl.silent()
	if pl.withheld.Swap(0) != 0 { // another link may carry more
		pl.remote.limits()
	}
}

// silent notes that nothing came since now: carries last, for write looks at that alone.
func (pl *pull) silent() {
	pl.flowing.Store(false)
	pl.carries.Store(false)
}

func (pl *pull) retry(now time.Duration) {
	pl.backoff = min(max(retryMin, 2*pl.backoff), retryMax)
	pl.retryAt = now + pl.backoff
}
