package cascade

import (
	"encoding/binary"

	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

// Sizes of RTP headers (RFC 3550 §5.1).
const (
	rtpHeaderBytes     = 12
	contextHeaderBytes = 5 // what is left of it behind a context

	contextRing  = 4           // contexts of an encoding that can be told apart
	contextRange = 1 << 22     // RTP time a context serves: 46 s at 90 kHz
	contextBack  = 1 << 20     // … of which it begins earlier, for packets that come late
	contextRenew = 3 * 1 << 20 // and from where on another one is due
)

// headerContext is what the receiver of an encoding knows of its packets' RTP headers, and says so, so that it need not
// be sent with each (the term is that of RFC 5795). Nothing depends on another packet: none is lost with one that is.
type headerContext struct {
	id        uint8  // below contextRing
	octets    uint16 // the first two of the header, without marker
	ssrc      uint32
	timestamp uint32 // where its range begins
}

const rtpMarker = 0x80

// newContext returns the context that serves an RTP packet and those after it.
func newContext(id uint8, rtp []byte) *headerContext {
	return &headerContext{
		id:        id % contextRing,
		octets:    binary.BigEndian.Uint16(rtp) &^ rtpMarker,
		ssrc:      binary.BigEndian.Uint32(rtp[8:]),
		timestamp: binary.BigEndian.Uint32(rtp[4:]) - contextBack,
	}
}

// serves reports whether the packet's header follows from the context, its sequence number and how far behind the
// beginning of the range it is.
func (c *headerContext) serves(rtp []byte) (offset uint32, ok bool) {
	if len(rtp) < rtpHeaderBytes {
		return 0, false
	}
	offset = binary.BigEndian.Uint32(rtp[4:]) - c.timestamp
	return offset, binary.BigEndian.Uint16(rtp)&^rtpMarker == c.octets && binary.BigEndian.Uint32(rtp[8:]) == c.ssrc && offset < contextRange
}

// appendContext appends a media frame with a short header whose RTP header is cut down to what a context does not tell:
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|  short header of video or audio, up to the RTP bytes …
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|ID |    RTP timestamp, from the context's on   | RTP sequence  |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|  number       |  what follows the twelve octets of the RTP header …
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//
// The timestamp has 22 bits. The marker is that of the short header, or none; all else is the context's. It reports
// false, and appends nothing, where this does not say all that the RTP header does.
func appendContext(b []byte, h *mediaHeader, c *headerContext, rtp []byte, last bool) ([]byte, bool) {
	offset, ok := c.serves(rtp)
	if !ok || rtp[1]&rtpMarker != 0 != h.Marker {
		return b, false
	}
	kind := uint8(frameContextAudio)
	if h.Class != classAudio {
		kind = frameContextVideo
	}
	b = h.appendShortHead(b, kind, contextHeaderBytes+len(rtp)-rtpHeaderBytes, last)
	b = append(b, c.id<<6|byte(offset>>16), byte(offset>>8), byte(offset), rtp[2], rtp[3])
	return append(b, rtp[rtpHeaderBytes:]...), true
}

// cutHeader is what a frame tells of a packet's RTP header when a context tells the rest.
type cutHeader struct {
	context  uint8
	offset   uint32
	sequence uint16
}

// parseContext takes what is left of an RTP header off the bytes of a frame.
func parseContext(b []byte, cut *cutHeader) (rest []byte, err error) {
	if len(b) < contextHeaderBytes {
		return nil, errFrameShort
	}
	if len(b)-contextHeaderBytes > rtpstream.MaxPacketBytes-rtpHeaderBytes {
		return nil, errFrameField
	}
	first := binary.BigEndian.Uint32(b)
	cut.context, cut.offset, cut.sequence = b[0]>>6, first>>8&(contextRange-1), binary.BigEndian.Uint16(b[3:])
	return b[contextHeaderBytes:], nil
}

// whole writes the RTP packet to dst, which has room for it, and returns its bytes.
func (c *headerContext) whole(dst []byte, cut cutHeader, marker bool, rest []byte) int {
	binary.BigEndian.PutUint16(dst, c.octets)
	if marker {
		dst[1] |= rtpMarker
	}
	binary.BigEndian.PutUint16(dst[2:], cut.sequence)
	binary.BigEndian.PutUint32(dst[4:], c.timestamp+cut.offset)
	binary.BigEndian.PutUint32(dst[8:], c.ssrc)
	return rtpHeaderBytes + copy(dst[rtpHeaderBytes:], rest)
}
