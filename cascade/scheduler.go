package cascade

import (
	"time"

	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

// queueSlots is how many packets of one class may wait, whatever their size.
const queueSlots = 1024

// halfParity marks a parity symbol.
const halfParity = 3

// halfPadding marks a padding frame.
const halfPadding = 4

// item is one RTP packet, or one half of it, on its way out. It owns a reference to its packet.
type item struct {
	pkt            *rtpstream.Packet
	flow           *sendFlow
	seq            uint64 // link sequence number; 0 until the packet leaves the scheduler
	class          class
	retransmission bool
	past           bool  // kept since the latest keyframe, for a receiver that begins
	withheld       uint8 // packets of the stream right before this one that were left out on purpose
	compact        bool  // the peer takes short headers
	half           uint8 // 0 whole, 1 first, 2 second half; no RTP packet at all: 3 a parity symbol, 4 padding
	kind           uint8 // of a parity symbol: its frame
	size           int   // of these: bytes of its frame's body, which are at the front of the buffer
	avoid          *lane // of a retransmission: the lane it was lost on
	queued         time.Duration
	deadline       time.Duration
}

// urgent reports whether the item may overtake what waits on a lane.
func (it *item) urgent() bool { return it.class == classAudio && !it.retransmission }

// stepped reports whether the item is of an encoding that has been stepped down from.
func (it *item) stepped() bool {
	return !it.flow.audio && !it.retransmission && !it.past && !it.flow.passes(it.pkt.Stream.Encoding)
}

// repairKind is what a retransmission of the item is.
func (it *item) repairKind() repairKind {
	if it.class == classAudio {
		return repairAudio
	}
	return repairVideo
}

// rtp is what of the packet travels in this item.
func (it *item) rtp() []byte {
	if it.half >= halfParity {
		return it.pkt.Buffer()[:it.size]
	}
	raw := it.pkt.Raw()
	switch cut := (len(raw) + 1) / 2; it.half {
	case 1:
		return raw[:cut]
	case 2:
		return raw[cut:]
	default:
		return raw
	}
}

// sendEncoding is what the scheduler remembers of one encoding of a flow. It is guarded by the sender's mutex.
type sendEncoding struct {
	withheld          withheld
	gate              rtpstream.LayerGate
	keyframe          bool   // a keyframe began at keyframeTimestamp
	keyframeTimestamp uint32 // of the last keyframe: all its packets are base class
	dropping          bool   // a packet of the frame at dropTimestamp was dropped: the rest is of no use
	dropTimestamp     uint32
}

// lose shuts the spatial layer of a packet that was dropped, and those above it, until the next keyframe, unless that came
// already. Whoever wants them asks for one as if they were new.
func (e *sendEncoding) lose(p *rtpstream.Packet) {
	if e.keyframe && int32(e.keyframeTimestamp-p.Timestamp) > 0 {
		return
	}
	e.gate.Lose(p.Spatial)
}

// scheduler orders what leaves on a link: one bounded FIFO for each class, the most urgent class first, each packet
// with a deadline. It has no lock and no clock.
type scheduler struct {
	queues   [numClasses]ring[item]
	bytes    int
	maxBytes int
	shedding bool // base layers alone are let through, and wait longer
	stats    *counters
}

func newScheduler(maxBytes int, stats *counters) scheduler {
	s := scheduler{maxBytes: maxBytes, stats: stats}
	for c := range s.queues {
		s.queues[c] = newRing[item](queueSlots)
	}
	return s
}

// push takes over it and its reference. When there is no room, older packets of the same or a less urgent class make
// place; when there are none, it itself is dropped.
func (s *scheduler) push(it item) {
	if s.pointless(&it) {
		s.drop(it, dropFrameRest)
		return
	}
	q := it.class
	if it.retransmission {
		q = classRetransmission
	}
	if s.queues[q].full() {
		s.evict(q)
	}
	size := len(it.pkt.Raw())
	for s.bytes+size > s.maxBytes {
		victim := numClasses
		for c := numClasses; c > q; c-- {
			if s.queues[c-1].n > 0 {
				victim = c - 1
				break
			}
		}
		if victim == numClasses {
			s.drop(it, dropQueueFull)
			return
		}
		s.evict(victim)
	}
	s.bytes += size
	s.queues[q].push(it)
}

// pop takes the next packet to send of the classes from … to, dropping on the way what is too late or of no use.
func (s *scheduler) pop(now time.Duration, from, to class) (it item, ok bool) {
	for c := from; c <= to; c++ {
		for s.queues[c].n > 0 {
			it = s.take(c)
			switch {
			case it.flow.closed, s.shedding && it.stepped():
				s.drop(it, dropFlowClosed)
			case s.pointless(&it):
				s.drop(it, dropFrameRest)
			case s.late(&it, now):
				s.drop(it, dropExpired)
			default:
				return it, true
			}
		}
	}
	return item{}, false
}

// expire drops what is too late at the head of each queue: deadlines of one queue hardly differ in order.
func (s *scheduler) expire(now time.Duration, why dropReason) {
	for c := range s.queues {
		for s.queues[c].n > 0 && s.late(s.queues[c].peek(), now) {
			s.drop(s.take(class(c)), why)
		}
	}
}

// late reports whether nobody has a use for an item any more. While base layers alone are let through they are few, and
// all that comes after them builds on them.
func (s *scheduler) late(it *item, now time.Duration) bool {
	deadline := it.deadline
	if s.shedding && it.class == classBase {
		deadline += shedPatience
	}
	return now > deadline
}

// clear drops everything.
func (s *scheduler) clear() {
	for c := range s.queues {
		for s.queues[c].n > 0 {
			s.drop(s.take(class(c)), dropFlowClosed)
		}
	}
}

// waiting reports whether anything of the classes from … to waits.
func (s *scheduler) waiting(from, to class) bool {
	for c := from; c <= to; c++ {
		if s.queues[c].n > 0 {
			return true
		}
	}
	return false
}

func (s *scheduler) empty() bool { return !s.waiting(0, numClasses-1) }

func (s *scheduler) take(c class) item {
	it := s.queues[c].pop()
	s.bytes -= len(it.pkt.Raw())
	return it
}

func (s *scheduler) evict(c class) { s.drop(s.take(c), dropQueueFull) }

// pointless reports whether the frame of a video packet has lost a packet before it left this node.
func (s *scheduler) pointless(it *item) bool {
	if it.class == classAudio {
		return false
	}
	enc := it.flow.encoding(it.pkt)
	return enc.dropping && enc.dropTimestamp == it.pkt.Timestamp
}

// drop counts and releases. A video packet takes the rest of its frame with it: what the decoder cannot use should not
// cost the link anything. No link sequence number is spent, so the far side asks for none of it again.
func (s *scheduler) drop(it item, why dropReason) {
	if it.class != classAudio && !it.retransmission && why != dropFlowClosed {
		enc := it.flow.encoding(it.pkt)
		enc.dropping, enc.dropTimestamp = true, it.pkt.Timestamp
		switch {
		case it.pkt.Temporal > 0 && it.class != classBase: // what builds on it ends with the next frame of the base
		case it.class == classBase || !it.flow.sparse:
			it.flow.broken[it.pkt.Stream.Encoding%rtpstream.MaxEncodings].Store(true)
		default:
			enc.lose(it.pkt)
		}
	}
	s.stats.drop(why)
	it.pkt.Release()
}
