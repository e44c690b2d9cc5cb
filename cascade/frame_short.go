package cascade

import "github.com/meridian-sfu/meridian/internal/rtpstream"

// shortSeq is how much of a link sequence number a short header has. Half of it, eight million packets, is more than any
// link sends between two probes, which tell the whole number.
const shortSeq = 1<<24 - 1

// fits reports whether a short header says all that the header does.
func (h *mediaHeader) fits() bool {
	if h.Total != 0 || h.Spatial != 0 || h.Withheld != 0 || h.Past {
		return false
	}
	if h.Class == classAudio {
		return !h.Keyframe && !h.Marker && h.Encoding == 0 && h.Temporal == 0 && h.AudioLevel <= 127
	}
	return h.Temporal < 8 && h.AudioLevel == rtpstream.NoAudioLevel && !h.Quiet
}

// appendShort appends a media frame whose header fits a short one: six octets instead of nine.
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|Ver| Type  |L|R|         [Length]              | Flow ID (8…32) …
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|     link sequence number, 24 lower bits       |K|M|B|Enc| TID |  RTP bytes of video …
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	                                                |Q| audio level |  RTP bytes of audio …
//	                                                +-+-+-+-+-+-+-+-+
//
// K, M, R, Q, Enc and TID are those of the long header, B says base class. Audio is of its own class and of encoding 0, without
// marker; nothing was left out before the packet. Only a peer that greeted with FEATURE_COMPACT gets one.
func appendShort(b []byte, h *mediaHeader, rtp []byte, last bool) []byte {
	kind := uint8(frameAudio)
	if h.Class != classAudio {
		kind = frameVideo
	}
	return append(h.appendShortHead(b, kind, len(rtp), last), rtp...)
}

// appendShortHead appends all of such a frame in front of so many RTP bytes.
func (h *mediaHeader) appendShortHead(b []byte, kind uint8, rtpBytes int, last bool) []byte {
	tail := bit(h.Quiet, 7) | h.AudioLevel
	if h.Class != classAudio {
		tail = bit(h.Keyframe, 7) | bit(h.Marker, 6) | bit(h.Class == classBase, 5) | h.Encoding&3<<3 | h.Temporal&7
	}
	at := len(b)
	b = appendFrameHead(b, kind, varintBytes(h.Flow)+4+rtpBytes, last)
	b[at] |= bit(h.Retransmission, 0)
	b = appendVarint(b, h.Flow)
	return append(b, byte(h.LinkSeq>>16), byte(h.LinkSeq>>8), byte(h.LinkSeq), tail)
}

// parseShort reads the body of a frame with a short header.
func parseShort(f frame, h *mediaHeader) (rtp []byte, err error) {
	var b []byte
	if h.Flow, b, err = parseVarint(f.body); err != nil {
		return nil, err
	}
	if len(b) < 4 {
		return nil, errFrameShort
	}
	h.LinkSeq, h.Short, h.Retransmission = uint32(b[0])<<16|uint32(b[1])<<8|uint32(b[2]), true, f.r
	tail := b[3]
	if f.ofAudio() {
		h.Quiet, h.AudioLevel = tail&0x80 != 0, tail&0x7f // classAudio is 0
	} else {
		h.Keyframe, h.Marker, h.Encoding, h.Temporal = tail&0x80 != 0, tail&0x40 != 0, tail>>3&3, tail&7
		h.Class, h.AudioLevel = classRest, rtpstream.NoAudioLevel
		if tail&0x20 != 0 {
			h.Class = classBase
		}
	}
	b = b[4:]
	if h.Flow >= maxFlowIDs || len(b) == 0 || len(b) > rtpstream.MaxPacketBytes {
		return nil, errFrameField
	}
	return b, nil
}

// complete makes the link sequence number whole: the one nearest to the highest so far.
func (h *mediaHeader) complete(highest uint64) {
	if h.Short {
		ahead := int32((h.LinkSeq-uint32(highest))<<8) >> 8
		h.LinkSeq, h.Short = uint32(highest)+uint32(ahead), false
	}
}
