package cascade

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/meshpb/cascadepb"
	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

// A puller says what it wants every demandGap at most. What comes faster than this waits for the ticker, and only the
// last of it counts: whoever flaps wakes the source no more often.
const (
	flowDemandRate  = 50 // a second
	flowDemandBurst = 20
)

// Limits of what is sent at once to a peer that begins with an encoding.
const (
	replayBytes = 128 << 10 // six seconds of 170 kbit/s
	replayDelay = time.Second
	replaying   = ^uint64(0) // as a floor: no packet is newer
)

// mendGap is between keyframes asked for because of drops on this node.
const mendGap = time.Second

// sendFlow is a local source's way to one peer: a sink like any other. However many watch it over there, it is one.
type sendFlow struct {
	id      uint32
	room    mesh.RoomName
	source  mesh.SourceID
	audio   bool
	relayed bool // it is carried on from another node
	link    *link

	sub       *rtpstream.Subscription
	sparse    bool          // the peer understands that packets were left out on purpose
	twin      atomic.Bool   // it reaches the puller by another path as well
	encodings atomic.Uint32 // demanded, for status
	flowLimit
	toldLimit rtpstream.EncodingSet // what the peer knows can come; ticker only

	contexts [rtpstream.MaxEncodings]atomic.Pointer[headerContext]         // what the peer knows of RTP headers
	clocks   [rtpstream.MaxEncodings]atomic.Pointer[rtpstream.SenderClock] // last ones sent
	keyframe [rtpstream.MaxEncodings]atomic.Int64                          // last request taken, a time.Duration
	broken   [rtpstream.MaxEncodings]atomic.Bool                           // a packet others build on was dropped: a keyframe is due
	rising   [rtpstream.MaxEncodings]atomic.Bool                           // a wanted spatial layer waits for a keyframe
	mended   [rtpstream.MaxEncodings]time.Duration                         // last keyframe asked for because of that; ticker only

	demands  int                                   // that may come at once; readControl only
	demandAt time.Duration                         // when that was so; readControl only
	waiting  atomic.Pointer[cascadepb.Demand]      // what came too fast: the ticker's business
	beginMu  sync.Mutex                            // held while an encoding begins in the past
	floor    [rtpstream.MaxEncodings]atomic.Uint64 // the newest packet sent by that; replaying while it goes on

	path []mesh.NodeID // guarded by Cascade.mu; written by readControl only
	hops uint32        // the same

	enc        [rtpstream.MaxEncodings]sendEncoding // guarded by sender.mu
	layerBytes layerCount                           // brought; guarded by sender.mu
	closed     bool                                 // guarded by sender.mu
}

var (
	_ rtpstream.Sink    = (*sendFlow)(nil)
	_ rtpstream.Ender   = (*sendFlow)(nil)
	_ rtpstream.Limited = (*sendFlow)(nil)
)

// WritePacket queues a packet for the peer. It never blocks.
func (f *sendFlow) WritePacket(p *rtpstream.Packet) {
	if !f.passes(p.Stream.Encoding) {
		return
	}
	if floor := &f.floor[p.Stream.Encoding%rtpstream.MaxEncodings]; p.ExtSeq <= floor.Load() {
		f.beginMu.Lock() // until what comes before it is sent
		sent := p.ExtSeq <= floor.Load()
		f.beginMu.Unlock()
		if sent {
			return
		}
	}
	f.link.tx.write(f, p, f.link.c.now())
}

// wish takes a new demand of the puller, or leaves it to the ticker when they come too fast. It reports which.
func (f *sendFlow) wish(m *cascadepb.Demand, now time.Duration) (taken bool) {
	if grown := int((now - f.demandAt) * flowDemandRate / time.Second); grown > 0 {
		f.demands, f.demandAt = min(f.demands+grown, flowDemandBurst), now
	}
	if f.demands == 0 || f.waiting.Load() != nil { // none overtakes another
		f.waiting.Store(m)
		return false
	}
	f.demands--
	f.setDemand(m)
	return true
}

// grant takes the demand that waits, if one does. Ticker only.
func (f *sendFlow) grant() {
	if m := f.waiting.Load(); m != nil {
		f.setDemand(m)
		f.waiting.CompareAndSwap(m, nil) // else another came meanwhile
	}
}

// waits reports whether nothing is wanted of the flow so far.
func (f *sendFlow) waits() bool { return f.encodings.Load() == 0 }

// leavesOut reports whether the peer has no use for a packet: of a layer above what it wants, or of somebody who does not
// speak. To a peer that would take the gap for loss everything is sent. The sender's mutex is held.
func (f *sendFlow) leavesOut(p *rtpstream.Packet) bool {
	if !f.sparse {
		return false
	}
	pass, waits := f.encoding(p).gate.Pass(p)
	if waits {
		f.rising[p.Stream.Encoding%rtpstream.MaxEncodings].Store(true)
	}
	return p.Quiet || !pass
}

// setDemand takes what the peer wants.
func (f *sendFlow) setDemand(m *cascadepb.Demand) {
	d := demandOf(m)
	waited := f.encodings.Swap(uint32(d.Encodings)) == 0
	f.demand(d, rtpstream.EncodingSet(m.GetReplay()))
	if waited != (d.Encodings == 0) {
		f.link.c.reachChanged(f.sub.Source())
	}
}

func (f *sendFlow) subscribe(d rtpstream.Demand, begin rtpstream.EncodingSet) {
	if begin == 0 {
		f.sub.SetDemand(d)
		return
	}
	f.beginMu.Lock()
	for e := range uint8(rtpstream.MaxEncodings) {
		if begin.Has(e) {
			f.floor[e].Store(replaying)
		}
	}
	f.sub.SetDemand(d) // from here on live packets wait
	var ask rtpstream.EncodingSet
	for e := range uint8(rtpstream.MaxEncodings) {
		if begin.Has(e) && !f.begin(e) {
			ask = ask.With(e)
		}
	}
	f.beginMu.Unlock()
	for e := range uint8(rtpstream.MaxEncodings) {
		if ask.Has(e) {
			f.sub.RequestKeyframe(e, rtpstream.KeyframeForJoin)
		}
	}
}

// begin sends what is kept of an encoding, and reports whether there was anything. Either way the peer's request for a
// keyframe, which comes with its demand, is dealt with. beginMu is held.
func (f *sendFlow) begin(e uint8) bool {
	stream := f.sub.Source().Stream(e)
	if stream == nil {
		return true
	}
	now := f.link.c.now()
	f.keyframe[e].Store(int64(now))
	packets := stream.Replay(now, replayBytes, nil)
	if len(packets) == 0 {
		f.floor[e].Store(0)
		return false
	}
	f.link.tx.replay(f, packets, now)
	f.floor[e].Store(packets[len(packets)-1].ExtSeq)
	for _, p := range packets {
		p.Release()
	}
	f.link.peer.stats.replays.Add(1)
	return true
}

func (f *sendFlow) encoding(p *rtpstream.Packet) *sendEncoding {
	return &f.enc[p.Stream.Encoding%rtpstream.MaxEncodings]
}

// mend asks the source for the keyframes that repair what this node had to drop, or with which a spatial layer begins, one
// a second at most.
func (f *sendFlow) mend(now time.Duration) {
	for e := range f.broken {
		broken := f.broken[e].Load()
		if !broken && !f.rising[e].Load() || (f.mended[e] != 0 && now-f.mended[e] < mendGap) {
			continue
		}
		f.broken[e].Store(false)
		f.rising[e].Store(false)
		f.mended[e] = now
		why := rtpstream.KeyframeForJoin
		if broken {
			why = rtpstream.KeyframeForRepair
		}
		f.sub.RequestKeyframe(uint8(e), why)
	}
}

// AvailableChanged implements rtpstream.Limited: the ticker plans anew, and tells the peer.
func (f *sendFlow) AvailableChanged() { f.link.replan.Store(true); f.link.tx.wake() }

// SourceEnded implements rtpstream.Ender: the ticker tells the peer.
func (f *sendFlow) SourceEnded() { f.link.sourceEnded.Store(true); f.link.tx.wake() }

// ended reports whether the local source is gone.
func (f *sendFlow) ended() bool {
	select {
	case <-f.sub.Source().Done():
		return true
	default:
		return false
	}
}
