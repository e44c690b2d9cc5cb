package cascade

import (
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

// mendGap is between keyframes asked for because of drops on this node.
const mendGap = time.Second

// sendFlow is a local source's way to one peer: a sink like any other. However many watch it over there, it is one.
type sendFlow struct {
	id     uint32
	room   mesh.RoomName
	source mesh.SourceID
	audio  bool
	link   *link

	sub         *rtpstream.Subscription
	maxTemporal atomic.Uint32
	twin        atomic.Bool   // it reaches the puller by another path as well
	encodings   atomic.Uint32 // demanded, for status

	clocks   [rtpstream.MaxEncodings]atomic.Pointer[rtpstream.SenderClock] // last ones sent
	keyframe [rtpstream.MaxEncodings]time.Duration                         // last request taken; readControl only
	broken   [rtpstream.MaxEncodings]atomic.Bool                           // a packet others build on was dropped: a keyframe is due
	mended   [rtpstream.MaxEncodings]time.Duration                         // last keyframe asked for because of that; ticker only

	demands  int                              // that may come at once; readControl only
	demandAt time.Duration                    // when that was so; readControl only
	waiting  atomic.Pointer[cascadepb.Demand] // what came too fast: the ticker's business

	path []mesh.NodeID // guarded by Cascade.mu; written by readControl only
	hops uint32        // the same

	enc    [rtpstream.MaxEncodings]sendEncoding // guarded by sender.mu
	closed bool                                 // guarded by sender.mu
}

var (
	_ rtpstream.Sink  = (*sendFlow)(nil)
	_ rtpstream.Ender = (*sendFlow)(nil)
)

// WritePacket queues a packet for the peer. It never blocks.
func (f *sendFlow) WritePacket(p *rtpstream.Packet) {
	if uint32(p.Temporal) > f.maxTemporal.Load() {
		return
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

func (f *sendFlow) encoding(p *rtpstream.Packet) *sendEncoding {
	return &f.enc[p.Stream.Encoding%rtpstream.MaxEncodings]
}

// mend asks the source for the keyframes that repair what this node had to drop, one a second at most.
func (f *sendFlow) mend(now time.Duration) {
	for e := range f.broken {
		if !f.broken[e].Load() || (f.mended[e] != 0 && now-f.mended[e] < mendGap) {
			continue
		}
		f.broken[e].Store(false)
		f.mended[e] = now
		f.sub.RequestKeyframe(uint8(e), rtpstream.KeyframeForRepair)
	}
}

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
