package rtpstream

import (
	"encoding/binary"
	"sync/atomic"
	"time"
)

// rtpBytes builds an RTP packet with the given payload.
func rtpBytes(seq uint16, ts uint32, payload ...byte) []byte {
	b := make([]byte, 12, 12+len(payload))
	b[0], b[1] = 0x80, 96
	binary.BigEndian.PutUint16(b[2:], seq)
	binary.BigEndian.PutUint32(b[4:], ts)
	binary.BigEndian.PutUint32(b[8:], 0x1234)
	return append(b, payload...)
}

// fill puts raw bytes into a packet of the pool and parses them.
func fill(pl *Pool, raw []byte) (*Packet, error) {
	p := pl.Get()
	n := copy(p.Buffer(), raw)
	return p, p.Parse(n)
}

type fakeFeedback struct {
	keyframes atomic.Int32
	changes   atomic.Int32
}

func (f *fakeFeedback) RequestKeyframe(uint8, KeyframeReason) { f.keyframes.Add(1) }
func (f *fakeFeedback) DemandChanged()                        { f.changes.Add(1) }

type countingSink struct{ n atomic.Int64 }

func (s *countingSink) WritePacket(*Packet) { s.n.Add(1) }

func videoSource(encodings int) (*Source, *fakeFeedback) {
	f := &fakeFeedback{}
	return NewSource(SourceInfo{ID: "TR_V", MIMEType: "video/VP8", ClockRate: 90000, Encodings: encodings}, f), f
}

// frame describes a VP8 packet for the rewriter tests.
type frame struct {
	encoding uint8
	seq      uint16
	ts       uint32
	at       time.Duration
	key      bool
	pid      int // −1 for none
	long     bool
	tl0      int // −1 for none
	tid      int // −1 for none
}

func (f frame) payload() []byte {
	d := VP8Descriptor{Start: true}
	if f.pid >= 0 {
		d.HasPictureID, d.LongPictureID, d.PictureID = true, f.long, uint16(f.pid)
	}
	if f.tl0 >= 0 {
		d.HasTL0, d.TL0 = true, uint8(f.tl0)
	}
	if f.tid >= 0 {
		d.HasTID, d.TID = true, uint8(f.tid)
	}
	b := d.Append(nil)
	first := byte(1)
	if f.key {
		first = 0
	}
	return append(b, first, 0xaa, 0xbb)
}
