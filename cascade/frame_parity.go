package cascade

import (
	"encoding/binary"
	"time"

	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

// parityHeaderBytes is what a parity frame has before its symbol.
const parityHeaderBytes = 7

// parityHeader says which block a parity symbol belongs to. A block is a run of link sequence numbers.
type parityHeader struct {
	Base    uint32 // first link sequence number of the block
	Packets int    // in the block, 1 to 128; graded to 192
	Index   int    // of this symbol, from 0
	Parity  int    // symbols of the block, 1 to 40; graded to 64
	Graded  bool   // symbols are of different lengths, and of the wider code

	Sliding bool          // instead of a block, what is protected is a window that moves on; no Parity
	Span    time.Duration // … and how long a packet stays in it, to a millisecond, 1 to 255
}

// kind is the type of frame.
func (h *parityHeader) kind() uint8 {
	switch {
	case h.Sliding:
		return frameSliding
	case h.Graded:
		return frameGraded
	default:
		return frameParity
	}
}

func (h *parityHeader) code() fecCode {
	if h.Graded {
		return gradedCode
	}
	return evenCode
}

// appendParity appends the body of a parity frame.
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|Ver| Type  |L|0|         [Length]              |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|          base: first link sequence number of the block        |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|  packets − 1  |     index     | parities/span |  symbol bytes …
//
// Of a sliding window the index goes round 256, and in place of the number of symbols there is how many milliseconds a
// packet stays in it: that long after it, symbols that cover it may come. Only a peer that greeted with FEATURE_SLIDING gets one.
//
// Only a peer that greeted with FEATURE_FEC gets one, and a graded one only with FEATURE_COMPACT. All symbols of a block
// are of one length, or graded: of lengths of their own, each cut where fewer symbols are enough.
func appendParity(b []byte, h parityHeader, symbol []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, h.Base)
	last := byte(h.Parity)
	if h.Sliding {
		last = byte(h.Span / time.Millisecond)
	}
	b = append(b, byte(h.Packets-1), byte(h.Index), last)
	return append(b, symbol...)
}

// parseParity reads the body of a parity frame. The symbol aliases it.
func parseParity(f frame) (h parityHeader, symbol []byte, err error) {
	body := f.body
	if len(body) <= parityHeaderBytes {
		return h, nil, errFrameShort
	}
	h = parityHeader{
		Base: binary.BigEndian.Uint32(body), Packets: int(body[4]) + 1, Index: int(body[5]), Parity: int(body[6]),
		Graded: f.kind == frameGraded,
	}
	if f.kind == frameSliding {
		h.Parity, h.Sliding, h.Span = 0, true, time.Duration(body[6])*time.Millisecond
		symbol = body[parityHeaderBytes:]
		if h.Packets > fecMaxPackets || h.Span == 0 || len(symbol) > fecSymbolMax {
			return h, nil, errFrameField
		}
		return h, symbol, nil
	}
	code := h.code()
	symbol = body[parityHeaderBytes:]
	if h.Packets > code.packets || h.Parity > code.parity || h.Index >= h.Parity || len(symbol) > fecSymbolMax {
		return h, nil, errFrameField
	}
	return h, symbol, nil
}

// appendSymbol appends the symbol that stands for a media or fragment frame: what is protected of it.
//
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|F|     length of the rest      | flow ID and the rest of the
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	  frame's body, its link sequence number left out and R cleared …
//
// F says that it is a fragment. The link sequence number follows from the place in the block.
func appendSymbol(b []byte, h *mediaHeader, rtp []byte) []byte {
	return appendSymbolUpTo(b, h, rtp, len(rtp))
}

// appendSymbolUpTo does the same where no more of the RTP bytes than so many is of interest.
func appendSymbolUpTo(b []byte, h *mediaHeader, rtp []byte, most int) []byte {
	start := len(b)
	b = append(b, 0, 0)
	b = appendVarint(b, h.Flow)
	first := *h
	first.Retransmission = false
	b = first.appendTail(b)
	n := uint16(len(b) - start - 2 + len(rtp))
	b = append(b, rtp[:min(len(rtp), most)]...)
	if h.Total != 0 {
		n |= 1 << 15
	}
	binary.BigEndian.PutUint16(b[start:], n)
	return b
}

// symbolBytes is the length of the symbol for rtpBytes of a packet.
func symbolBytes(h *mediaHeader, rtpBytes int) int {
	n := 2 + varintBytes(h.Flow) + 3 + rtpBytes
	if h.Total != 0 {
		n += 2
	}
	return n
}

// symbolLength is how many bytes of a symbol the packet takes; what follows is padding.
func symbolLength(symbol []byte) (n int, ok bool) {
	if len(symbol) < 2 {
		return 0, false
	}
	return 2 + int(binary.BigEndian.Uint16(symbol)&(1<<15-1)), true
}

// parseSymbol makes the frame anew from a symbol and its link sequence number, in buf.
func parseSymbol(symbol []byte, seq uint32, buf []byte) (frame, error) {
	if len(symbol) < 2 {
		return frame{}, errFrameShort
	}
	n := binary.BigEndian.Uint16(symbol)
	f := frame{kind: frameMedia}
	if n&(1<<15) != 0 {
		f.kind = frameFragment
	}
	n &= 1<<15 - 1
	symbol = symbol[2:]
	if int(n) > len(symbol) || int(n) > rtpstream.MaxPacketBytes {
		return frame{}, errFrameLength
	}
	flow, rest, err := parseVarint(symbol[:n])
	if err != nil {
		return frame{}, err
	}
	buf = appendVarint(buf, flow)
	buf = binary.BigEndian.AppendUint32(buf, seq)
	buf = append(buf, rest...)
	f.body = buf
	return f, nil
}
