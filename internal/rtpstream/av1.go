package rtpstream

import "errors"

// ErrAV1Payload is an AV1 payload whose OBU elements do not fit in it.
var ErrAV1Payload = errors.New("rtpstream: AV1 payload makes no sense")

// AV1Payload is what the aggregation header of an AV1 RTP payload, and the first OBU header with an extension, tell.
//
//	 0 1 2 3 4 5 6 7
//	+-+-+-+-+-+-+-+-+
//	|Z|Y| W |N|-|-|-|  aggregation header, once in a payload
//	+-+-+-+-+-+-+-+-+
//	|F| type  |X|S|-|  OBU header, of each OBU element that does not continue one of the packet before
//	+-+-+-+-+-+-+-+-+
//	| TID |SID|-|-|-|  X: OBU extension header
//	+-+-+-+-+-+-+-+-+
//
// In front of an OBU element stands its length in LEB128; with W not 0 there are W elements, the last one without.
// RTP Payload Format For AV1 §4.4, AV1 bitstream §5.3.
type AV1Payload struct {
	Continues   bool  // Z: the first OBU element continues one of the packet before
	Unfinished  bool  // Y: the last OBU element goes on in the next packet
	NewSequence bool  // N: first packet of a coded video sequence, which begins with a keyframe
	HasLayers   bool  // an OBU extension header was there
	TID, SID    uint8 // temporal layer 0 to 7, spatial layer 0 to 3
}

// ParseAV1 reads an AV1 RTP payload as far as layers are told. It returns ErrAV1Payload when it makes no sense. Under
// end-to-end encryption only the aggregation header tells the truth.
func ParseAV1(b []byte) (a AV1Payload, err error) {
	if len(b) < 2 {
		return a, ErrAV1Payload
	}
	a.Continues, a.Unfinished = b[0]&0x80 != 0, b[0]&0x40 != 0
	a.NewSequence = b[0]&0x08 != 0
	count := int(b[0] >> 4 & 3)
	if a.Continues && a.NewSequence {
		return a, ErrAV1Payload
	}
	b = b[1:]
	for n := 1; len(b) > 0 && (count == 0 || n <= count); n++ {
		size := len(b)
		if count == 0 || n < count {
			var used int
			if size, used = leb128(b); used == 0 || size > len(b)-used {
				return a, ErrAV1Payload
			}
			b = b[used:]
		}
		obu := b[:size]
		b = b[size:]
		if n == 1 && a.Continues || len(obu) < 2 || obu[0]&0x04 == 0 {
			continue
		}
		a.HasLayers, a.TID, a.SID = true, obu[1]>>5, obu[1]>>3&3
		return a, nil
	}
	return a, nil
}

// leb128 reads a little-endian base 128 number of at most four octets: no element is longer than a packet. It uses no
// octets when there is none.
func leb128(b []byte) (v, used int) {
	for i := range min(len(b), 4) {
		v |= int(b[i]&0x7f) << (7 * i)
		if b[i]&0x80 == 0 {
			return v, i + 1
		}
	}
	return 0, 0
}
