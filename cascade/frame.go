package cascade

import (
	"encoding/binary"
	"errors"

	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

// A datagram on a lane holds one or more frames, one after the other. Each begins with the same octet:
//
//	 0 1 2 3 4 5 6 7
//	+-+-+-+-+-+-+-+-+
//	|Ver| Type  |L|R|   L: 16 bits of length follow; without it the frame reaches to the end of the datagram
//	+-+-+-+-+-+-+-+-+
//	|  [Length 16]  …
//
// R belongs to the frames with a short header, see appendShort; it is 0 in all others.
//
// A version or type that is not known ends the parsing of the datagram with an error.
const (
	frameVersion = 1

	frameMedia    = 1 // a whole RTP packet
	frameFragment = 2 // one half of an RTP packet that does not fit a datagram
	frameNack     = 3
	frameProbe    = 4
	frameAnswer   = 5
	frameParity   = 6  // a symbol that makes up for a lost packet
	frameReport   = 7  // what came in so far
	framePadding  = 8  // nothing, to see whether the path carries more
	frameGraded   = 9  // a symbol of a graded block
	frameVideo    = 10 // a whole RTP packet of video behind a short header
	frameAudio    = 11 // the same of audio
	frameSliding  = 12 // a symbol of a sliding window

	frameContextVideo = 13 // a packet of video behind a short header, its RTP header cut down
	frameContextAudio = 14 // the same of audio

	frameHeadBytes = 3 // octet and length
)

// Errors of the frame parsers. Each is garbage from the network, to be counted and dropped.
var (
	errFrameShort   = errors.New("cascade: frame shorter than its head")
	errFrameVersion = errors.New("cascade: frame of an unknown version")
	errFrameType    = errors.New("cascade: frame of an unknown type")
	errFrameLength  = errors.New("cascade: frame longer than its datagram")
	errFrameContext = errors.New("cascade: frame of a context nobody proposed")
	errFrameField   = errors.New("cascade: frame with a field out of range")
)

// frame is one frame of a datagram, its head taken off.
type frame struct {
	kind uint8
	r    bool
	body []byte
}

// media reports whether the frame is for the receiver.
func (f *frame) media() bool {
	return f.kind == frameMedia || f.kind == frameFragment || f.short() || f.parity()
}

// parity reports whether the frame makes up for lost ones.
func (f *frame) parity() bool {
	return f.kind == frameParity || f.kind == frameGraded || f.kind == frameSliding
}

// short reports whether the frame has a short header.
func (f *frame) short() bool { return f.kind == frameVideo || f.kind == frameAudio || f.cut() }

// cut reports whether its RTP header is cut down as well.
func (f *frame) cut() bool { return f.kind == frameContextVideo || f.kind == frameContextAudio }

// ofAudio reports whether the short header is that of audio.
func (f *frame) ofAudio() bool { return f.kind == frameAudio || f.kind == frameContextAudio }

// nextFrame takes the first frame off b.
func nextFrame(b []byte) (f frame, rest []byte, err error) {
	if len(b) == 0 {
		return f, nil, errFrameShort
	}
	head := b[0]
	b = b[1:]
	f.kind, f.r = head>>2&0x0f, head&1 != 0
	if head>>6 != frameVersion || f.r && !f.short() {
		return f, nil, errFrameVersion
	}
	if f.kind < frameMedia || f.kind > frameContextAudio {
		return f, nil, errFrameType
	}
	if head&2 == 0 {
		f.body = b
		return f, nil, nil
	}
	if len(b) < 2 {
		return f, nil, errFrameShort
	}
	n := int(binary.BigEndian.Uint16(b))
	b = b[2:]
	if n > len(b) {
		return f, nil, errFrameLength
	}
	f.body = b[:n]
	return f, b[n:], nil
}

// appendFrameHead starts a frame whose body will have bodyBytes bytes. The last frame of a datagram may do without length.
func appendFrameHead(b []byte, kind uint8, bodyBytes int, last bool) []byte {
	head := frameVersion<<6 | kind<<2
	if last {
		return append(b, head)
	}
	return binary.BigEndian.AppendUint16(append(b, head|2), uint16(bodyBytes))
}

// Flow IDs are QUIC variable-length integers (RFC 9000 §16) of one, two or four bytes.
const maxFlowIDs = 1 << 14 // a peer uses IDs below this, so that they take two bytes at most

func appendVarint(b []byte, v uint32) []byte {
	switch {
	case v < 1<<6:
		return append(b, byte(v))
	case v < 1<<14:
		return binary.BigEndian.AppendUint16(b, uint16(v)|0x4000)
	default:
		return binary.BigEndian.AppendUint32(b, v&0x3fffffff|0x80000000)
	}
}

func parseVarint(b []byte) (v uint32, rest []byte, err error) {
	if len(b) == 0 {
		return 0, nil, errFrameShort
	}
	switch n := 1 << (b[0] >> 6); {
	case n == 8:
		return 0, nil, errFrameField
	case n > len(b):
		return 0, nil, errFrameShort
	case n == 1:
		return uint32(b[0]), b[1:], nil
	case n == 2:
		return uint32(binary.BigEndian.Uint16(b)) & 0x3fff, b[2:], nil
	default:
		return binary.BigEndian.Uint32(b) & 0x3fffffff, b[4:], nil
	}
}

// class is how urgent a packet is, the most urgent first. Retransmission is a class of the queue only: on the wire it
// is a flag beside the packet's own class.
type class uint8

const (
	classAudio class = iota
	classRetransmission
	classBase // keyframes and base layers
	classRest
	numClasses
)

// mediaHeader is the link header in front of an RTP packet or of one half of it.
type mediaHeader struct {
	Flow           uint32
	LinkSeq        uint32 // the lower 24 bits of it alone with Short
	Keyframe       bool   // rtpstream.Packet.Keyframe
	Marker         bool
	Retransmission bool // sent before under the same link sequence number
	Class          class
	Encoding       uint8 // 0 to 3
	Withheld       uint8 // rtpstream.Packet.Withheld, of video 254 at most

	// Of video.
	Spatial  uint8 // 0 to 7
	Temporal uint8 // 0 to 15
	Past     bool  // rtpstream.Packet.Past

	// Of audio.
	AudioLevel uint8 // −dBov, rtpstream.NoAudioLevel when not told and of video
	Quiet      bool  // rtpstream.Packet.Quiet

	Short  bool   // came with a short header, and its link sequence number is still to be completed
	Second bool   // of a fragment: the second half
	Total  uint16 // of a fragment: bytes of the whole RTP packet; 0 in a whole packet
}

// noneWithheld in a video packet's header stands for 0.
const noneWithheld = 255

// mediaHeaderBytes is the most a media or fragment frame takes beside the RTP bytes.
const mediaHeaderBytes = frameHeadBytes + 4 + 4 + 3 + 2

// appendMedia appends a media or fragment frame with its RTP bytes.
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|Ver| Type  |L|0|         [Length]              | Flow ID (8…32) …
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|                     link sequence number                      |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|K|M|R|S|Cls|Enc|P| SID |  TID  |   withheld    |   of video
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|Q|M|R|S|Cls|Enc|   withheld    |  audio level  |   of audio
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	| fragments only: [bytes of the whole RTP packet]  |  RTP bytes …
//
// K keyframe, M marker, R retransmission, S second half, P past, Q quiet; Cls class, of audio its own; Enc encoding,
// SID/TID spatial and temporal layer. Withheld is how many packets of the stream right before this one were left out on
// purpose; of video 255 stands for none, as releases before FEATURE_WITHHELD say it. They get no other value, nor P or Q.
func appendMedia(b []byte, h *mediaHeader, rtp []byte, last bool) []byte {
	kind, n := uint8(frameMedia), 7+varintBytes(h.Flow)+len(rtp)
	if h.Total != 0 {
		kind, n = frameFragment, n+2
	}
	b = appendFrameHead(b, kind, n, last)
	b = appendVarint(b, h.Flow)
	b = binary.BigEndian.AppendUint32(b, h.LinkSeq)
	return append(h.appendTail(b), rtp...)
}

// appendTail appends what follows the link sequence number in front of the RTP bytes.
func (h *mediaHeader) appendTail(b []byte) []byte {
	flags := bit(h.Marker, 6) | bit(h.Retransmission, 5) | bit(h.Second, 4) |
		byte(h.Class&3)<<2 | h.Encoding&3
	if h.Class == classAudio {
		b = append(b, flags|bit(h.Quiet, 7), h.Withheld, h.AudioLevel)
	} else {
		withheld := min(h.Withheld, noneWithheld-1)
		if withheld == 0 {
			withheld = noneWithheld
		}
		b = append(b, flags|bit(h.Keyframe, 7), bit(h.Past, 7)|min(h.Spatial, 7)<<4|min(h.Temporal, 15), withheld)
	}
	if h.Total != 0 {
		b = binary.BigEndian.AppendUint16(b, h.Total)
	}
	return b
}

// parseMedia reads the body of a media or fragment frame, or of one with a short header. The RTP bytes alias the body; of a
// frame that is cut they begin with what is left of the RTP header.
func parseMedia(f frame, h *mediaHeader) (rtp []byte, err error) {
	*h = mediaHeader{}
	if f.short() {
		return parseShort(f, h)
	}
	var b []byte
	if h.Flow, b, err = parseVarint(f.body); err != nil {
		return nil, err
	}
	if len(b) < 7 {
		return nil, errFrameShort
	}
	h.LinkSeq = binary.BigEndian.Uint32(b)
	flags := b[4]
	h.Marker, h.Retransmission = flags&0x40 != 0, flags&0x20 != 0
	h.Second, h.Class, h.Encoding = flags&0x10 != 0, class(flags>>2&3), flags&3
	if h.Class == classAudio {
		h.Quiet, h.Withheld, h.AudioLevel = flags&0x80 != 0, b[5], b[6]
	} else {
		h.Keyframe, h.AudioLevel = flags&0x80 != 0, rtpstream.NoAudioLevel
		h.Past, h.Spatial, h.Temporal = b[5]&0x80 != 0, b[5]>>4&7, b[5]&15
		if h.Withheld = b[6]; h.Withheld == noneWithheld {
			h.Withheld = 0
		}
	}
	b = b[7:]
	switch {
	case h.Flow >= maxFlowIDs || h.Class == classRetransmission:
		return nil, errFrameField
	case f.kind == frameMedia && h.Second:
		return nil, errFrameField
	case f.kind == frameFragment:
		if len(b) < 2 {
			return nil, errFrameShort
		}
		h.Total = binary.BigEndian.Uint16(b)
		b = b[2:]
		if int(h.Total) > rtpstream.MaxPacketBytes || len(b) >= int(h.Total) {
			return nil, errFrameField
		}
	}
	if len(b) == 0 || len(b) > rtpstream.MaxPacketBytes {
		return nil, errFrameField
	}
	return b, nil
}

func varintBytes(v uint32) int {
	switch {
	case v < 1<<6:
		return 1
	case v < 1<<14:
		return 2
	default:
		return 4
	}
}

func bit(set bool, shift uint) byte {
	if set {
		return 1 << shift
	}
	return 0
}
