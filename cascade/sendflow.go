package cascade

import (
	"sync/atomic"
	"time"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

// sendFlow is a local source's way to one peer: a sink like any other. However many watch it over there, it is one.
type sendFlow struct {
	id     uint32
	room   mesh.RoomName
	source mesh.SourceID
	audio  bool
	link   *link

	sub         *rtpstream.Subscription
	maxTemporal atomic.Uint32
	encodings   atomic.Uint32 // demanded, for status

	clocks   [rtpstream.MaxEncodings]atomic.Pointer[rtpstream.SenderClock] // last ones sent
	keyframe [rtpstream.MaxEncodings]time.Duration                         // last request taken; readControl only

	path []mesh.NodeID // guarded by Cascade.mu; written by readControl only
	hops uint32        // the same

	enc    [rtpstream.MaxEncodings]sendEncoding // guarded by sender.mu
	closed bool                                 // guarded by sender.mu
}

var _ rtpstream.Sink = (*sendFlow)(nil)

// WritePacket queues a packet for the peer. It never blocks.
func (f *sendFlow) WritePacket(p *rtpstream.Packet) {
	if uint32(p.Temporal) > f.maxTemporal.Load() {
		return
	}
	f.link.tx.write(f, p, f.link.c.now())
}

func (f *sendFlow) encoding(p *rtpstream.Packet) *sendEncoding {
	return &f.enc[p.Stream.Encoding%rtpstream.MaxEncodings]
}

// ended reports whether the local source is gone: closing a source ends all its subscriptions, and this one is never
// ended by this side before the flow is.
func (f *sendFlow) ended() bool { return f.sub.Source().Subscribers() == 0 }
