package cascade

import (
	"slices"
	"time"

	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

// Limits of putting packets back in order.
const (
	maxHeld      = 256
	minHold      = 2 * time.Millisecond
	maxHold      = 15 * time.Millisecond
	maxAudioHold = 5 * time.Millisecond
)

// reorder puts packets of one stream back in the order they were sent in, where lanes overtook each other. A packet
// waits only while both are true: its own stream has a gap before it, and a link sequence number below its own is
// missing for so short a time that it may only be late. It has no lock and no clock.
//
//	arrives      1 3 4 2 5 7 8 …
//	link gap         2 young         6 older than the window: lost, its repair comes by itself
//	released     1 · · 2 3 4 5 · · 7 8
type reorder struct {
	held []heldPacket // ascending by link sequence number
}

// heldPacket owns a reference to its packet.
type heldPacket struct {
	inbound
	seq  uint64
	pull *pull
}

// streamOrder is where one encoding of a flow stands. Receive loop only.
type streamOrder struct {
	last    uint16 // RTP sequence number handed on last
	started bool
}

// flowOrder is where a flow stands.
type flowOrder struct {
	pull *pull
	enc  [rtpstream.MaxEncodings]streamOrder
}

// next reports whether nothing of the stream is missing before a packet, or whether it is late itself.
func (o *streamOrder) next(rtpSeq uint16, withheld uint8) bool {
	return o.started && int16(rtpSeq-uint16(withheld)-o.last) <= 1
}

// handed notes a packet that was handed on.
func (o *streamOrder) handed(rtpSeq uint16) {
	if ahead := int16(rtpSeq - o.last); !o.started || ahead > 0 || ahead < -maxHeld { // far behind: it began anew
		o.last, o.started = rtpSeq, true
	}
}

// until is when a packet may wait no longer, given when the youngest gap below it was noticed.
func (p *heldPacket) until(since, window time.Duration) time.Duration {
	due := min(since+window, p.at+window)
	if p.pull.audio {
		due = min(due, p.at+maxAudioHold)
	}
	return due
}

// hold takes a packet over. When there is no room, the oldest is returned to be handed on.
func (r *reorder) hold(p heldPacket) (oldest heldPacket, full bool) {
	if r.held == nil {
		r.held = make([]heldPacket, 0, maxHeld)
	}
	if len(r.held) == maxHeld {
		oldest, full = r.held[0], true
		r.held = slices.Delete(r.held, 0, 1)
	}
	i := len(r.held)
	for i > 0 && r.held[i-1].seq > p.seq {
		i--
	}
	r.held = slices.Insert(r.held, i, p)
	return oldest, full
}

// release takes out the next packet that need not wait at now, or reports when the first will not need to.
func (r *reorder) release(t *tracker, orders []flowOrder, from int, now time.Duration) (p heldPacket, next int, ok bool) {
	window := t.holdWindow()
	for i := from; i < len(r.held); i++ {
		h := &r.held[i]
		since, young := t.youngGap(h.seq)
		order := &orders[h.h.Flow].enc[h.h.Encoding%rtpstream.MaxEncodings]
		if order.next(h.pkt.SequenceNumber, h.h.Withheld) || !young || now >= h.until(since, window) {
			p = *h
			r.held = slices.Delete(r.held, i, i+1)
			return p, i, true
		}
	}
	return p, 0, false
}

// due is when the first held packet will have waited enough, or never.
func (r *reorder) due(t *tracker) time.Duration {
	first, window := never, t.holdWindow()
	for i := range r.held {
		if since, young := t.youngGap(r.held[i].seq); young {
			first = min(first, r.held[i].until(since, window))
		} else {
			return 0
		}
	}
	return first
}

// clear releases every packet.
func (r *reorder) clear() {
	for i := range r.held {
		r.held[i].pkt.Release()
	}
	r.held = r.held[:0]
}
