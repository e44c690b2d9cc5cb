package rtpstream

import (
	"encoding/binary"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// MaxPacketBytes is the largest RTP packet a node takes in: an Ethernet frame's worth.
const MaxPacketBytes = 1500

// Errors of Packet.Parse. Each is a malformed packet from the network, to be counted and dropped.
var (
	ErrPacketTooShort = errors.New("rtpstream: packet shorter than its header")
	ErrPacketTooLong  = errors.New("rtpstream: packet longer than MaxPacketBytes")
	ErrBadVersion     = errors.New("rtpstream: RTP version is not 2")
	ErrBadPadding     = errors.New("rtpstream: padding longer than the payload")
)

// Packet is one RTP packet in a pooled, reference-counted buffer. Whoever holds it has one reference; nobody writes to
// it after the first Retain. The producer fills Buffer, calls Parse and sets the layer fields; Stream.Write sets the rest.
type Packet struct {
	Stream *Stream // where it came in; set by Stream.Write

	ExtSeq       uint64        // unwrapped sequence number; set by Stream.Write
	ExtTimestamp uint64        // unwrapped timestamp; set by Stream.Write
	Arrival      time.Duration // monotonic, since an arbitrary start of the process

	SequenceNumber uint16
	Timestamp      uint32
	SSRC           uint32
	PayloadType    uint8
	Marker         bool
	Keyframe       bool  // belongs to the first packet of a keyframe: a decoder can start here
	Spatial        uint8 // spatial layer inside the stream, 0 the base
	Temporal       uint8 // temporal layer inside the stream, 0 the base
	AudioLevel     uint8 // −dBov, 0 loudest to 127 silence (RFC 6464); NoAudioLevel when not told
	Withheld       uint8 // packets right before this one that were left out on purpose on the way here
	Quiet          bool  // audio of somebody who does not speak: nobody needs to hear it
	Described      bool  // the packet told the five that follow
	FrameStart     bool  // first packet of a picture, or of a spatial layer of it
	FrameEnd       bool  // the last one
	Discardable    bool  // nothing is predicted from it
	RiseFrom       uint8 // who has temporal layers up to this one …
	RiseTo         uint8 // … can decode those up to this one from here on; not above RiseFrom is no news
	Past           bool  // video kept since the latest keyframe, for who begins: for caches, sinks begin by Stream.Replay

	size, payload, payloadEnd int
	ext, extEnd               int // header extension block, without its 4-byte head
	extProfile                uint16
	refs                      atomic.Int32
	pool                      *Pool
	buf                       [MaxPacketBytes]byte
}

// NoAudioLevel marks a packet whose sender did not tell how loud it is.
const NoAudioLevel = 255

// Pool hands out packets. It is safe for concurrent use. The zero value is ready.
type Pool struct{ pool sync.Pool }

// Get returns an empty packet with one reference, held by the caller.
func (pl *Pool) Get() *Packet {
	p, ok := pl.pool.Get().(*Packet)
	if !ok {
		p = &Packet{pool: pl}
	}
	p.refs.Store(1)
	return p
}

// Buffer is the whole buffer to read a packet into. Only the producer may use it, before the first Retain.
func (p *Packet) Buffer() []byte { return p.buf[:] }

// Retain adds a reference: the caller may keep the packet beyond the call it was given in, and must Release it.
func (p *Packet) Retain() *Packet {
	if p.refs.Add(1) <= 1 {
		panic("rtpstream: packet retained after its last release")
	}
	return p
}

// Release gives one reference back. The last one returns the packet to its pool. One release too many panics.
func (p *Packet) Release() {
	switch n := p.refs.Add(-1); {
	case n > 0:
	case n < 0:
		panic("rtpstream: packet released twice")
	default:
		p.reset()
		p.pool.pool.Put(p)
	}
}

func (p *Packet) reset() {
	p.Stream = nil
	p.ExtSeq, p.ExtTimestamp, p.Arrival = 0, 0, 0
	p.forget()
	p.size, p.payload, p.payloadEnd, p.ext, p.extEnd, p.extProfile = 0, 0, 0, 0, 0, 0
}

// forget resets what the packet's own bytes do not tell.
func (p *Packet) forget() {
	p.Keyframe, p.Spatial, p.Temporal, p.AudioLevel = false, 0, 0, NoAudioLevel
	p.Withheld, p.Quiet, p.Past = 0, false, false
	p.Described, p.FrameStart, p.FrameEnd, p.Discardable, p.RiseFrom, p.RiseTo = false, false, false, false, 0, 0
}

// Parse reads the header of the first n bytes of Buffer. Layer fields are reset to "unknown".
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|V=2|P|X|  CC   |M|     PT      |       sequence number         |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|                           timestamp                           |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|           synchronization source (SSRC) identifier            |
//	+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+
//
// RFC 3550 §5.1, extension block §5.3.1.
func (p *Packet) Parse(n int) error {
	switch {
	case n > MaxPacketBytes:
		return ErrPacketTooLong
	case n < 12:
		return ErrPacketTooShort
	}
	b := p.buf[:n]
	if b[0]>>6 != 2 {
		return ErrBadVersion
	}
	head := 12 + 4*int(b[0]&0x0f)
	p.ext, p.extEnd, p.extProfile = 0, 0, 0
	if b[0]&0x10 != 0 {
		if head+4 > n {
			return ErrPacketTooShort
		}
		words := int(binary.BigEndian.Uint16(b[head+2:]))
		p.extProfile = binary.BigEndian.Uint16(b[head:])
		p.ext, p.extEnd = head+4, head+4+4*words
		head = p.extEnd
	}
	if head > n {
		return ErrPacketTooShort
	}
	end := n
	if b[0]&0x20 != 0 {
		if end == head {
			return ErrBadPadding
		}
		pad := int(b[n-1])
		if pad == 0 || pad > n-head {
			return ErrBadPadding
		}
		end -= pad
	}
	p.size, p.payload, p.payloadEnd = n, head, end
	p.Marker = b[1]&0x80 != 0
	p.PayloadType = b[1] & 0x7f
	p.SequenceNumber = binary.BigEndian.Uint16(b[2:])
	p.Timestamp = binary.BigEndian.Uint32(b[4:])
	p.SSRC = binary.BigEndian.Uint32(b[8:])
	p.forget()
	return nil
}

// Raw is the packet as it came in. It must not be written to.
func (p *Packet) Raw() []byte { return p.buf[:p.size] }

// Payload is the payload without padding. It must not be written to.
func (p *Packet) Payload() []byte { return p.buf[p.payload:p.payloadEnd] }

// Extension returns the header extension element with the given ID (RFC 8285, one- and two-byte form), or nil.
func (p *Packet) Extension(id uint8) []byte {
	b := p.buf[p.ext:p.extEnd]
	switch {
	case p.extProfile == 0xBEDE:
		for len(b) > 0 {
			if b[0] == 0 { // padding
				b = b[1:]
				continue
			}
			got, n := b[0]>>4, int(b[0]&0x0f)+1
			if got == 15 || 1+n > len(b) {
				return nil
			}
			if got == id {
				return b[1 : 1+n]
			}
			b = b[1+n:]
		}
	case p.extProfile&0xfff0 == 0x1000:
		for len(b) > 0 {
			if b[0] == 0 {
				b = b[1:]
				continue
			}
			if len(b) < 2 || 2+int(b[1]) > len(b) {
				return nil
			}
			n := int(b[1])
			if b[0] == id {
				return b[2 : 2+n]
			}
			b = b[2+n:]
		}
	}
	return nil
}
