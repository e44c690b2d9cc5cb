package trunk

import (
	"encoding/binary"

	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

// stamp is what the last bytes of every packet tell the receiver.
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|            magic              |C|           stream            |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|                           counter                             |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|                 sent, ns of the monotonic clock               |
//	|                                                               |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//
// C: the packet belongs to the counted time.
type stamp struct {
	counted bool
	stream  int
	counter uint32
	sent    int64
}

const (
	stampBytes   = 16
	stampMagic   = 0x4d54
	stampCounted = 0x8000
)

func (s stamp) put(b []byte) {
	stream := uint16(s.stream)
	if s.counted {
		stream |= stampCounted
	}
	binary.BigEndian.PutUint16(b, stampMagic)
	binary.BigEndian.PutUint16(b[2:], stream)
	binary.BigEndian.PutUint32(b[4:], s.counter)
	binary.BigEndian.PutUint64(b[8:], uint64(s.sent))
}

// parseStamp reads the stamp at the end of a packet. It reports false when there is none.
func parseStamp(packet []byte) (s stamp, ok bool) {
	if len(packet) < 12+stampBytes {
		return s, false
	}
	b := packet[len(packet)-stampBytes:]
	if binary.BigEndian.Uint16(b) != stampMagic {
		return s, false
	}
	stream := binary.BigEndian.Uint16(b[2:])
	return stamp{
		counted: stream&stampCounted != 0, stream: int(stream &^ stampCounted),
		counter: binary.BigEndian.Uint32(b[4:]), sent: int64(binary.BigEndian.Uint64(b[8:])),
	}, true
}

// build writes the packet of an event into b, which must have room for it, and returns it. What is neither header nor
// stamp stays as it was in b.
func (e *event) build(b []byte, audio, counted bool, sent int64) []byte {
	b = b[:e.bytes]
	b[0], b[1] = 0x80, 96
	if audio {
		b[1] = 111
	} else if e.marker {
		b[1] |= 0x80
	}
	binary.BigEndian.PutUint16(b[2:], uint16(e.counter))
	binary.BigEndian.PutUint32(b[4:], e.timestamp)
	binary.BigEndian.PutUint32(b[8:], 0x10000+uint32(e.stream))
	if !audio {
		d := rtpstream.VP8Descriptor{
			Start: e.first, HasPictureID: true, LongPictureID: true, PictureID: e.frame & 0x7fff, HasTL0: true, TL0: e.tl0,
			HasTID: true, TID: e.temporal, NonReference: e.temporal == 2,
		}
		payload := d.Append(b[12:12])
		if e.first { // RFC 6386 §9.1: bit 0 is clear in a keyframe
			payload = append(payload, 0x11)
			if e.keyframe {
				payload[len(payload)-1] = 0x10
			}
		}
	}
	stamp{counted: counted, stream: e.stream, counter: e.counter, sent: sent}.put(b[e.bytes-stampBytes:])
	return b
}

// describe sets what a node's receiver finds in a packet that arrives from a client.
func (e *event) describe(p *rtpstream.Packet, audio bool) {
	if audio {
		p.AudioLevel = 20 + uint8(e.counter%20)
		return
	}
	p.Temporal = e.temporal
	p.Keyframe = e.keyframe && e.first
}
