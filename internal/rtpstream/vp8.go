package rtpstream

import "errors"

// ErrVP8Descriptor is a VP8 payload whose descriptor does not fit in it.
var ErrVP8Descriptor = errors.New("rtpstream: VP8 payload shorter than its descriptor")

// Widths of the counters of a VP8 payload descriptor.
const (
	pictureIDMask = 0x7fff // 15 bits
	keyIndexMask  = 0x1f   // 5 bits
)

// VP8Descriptor is the payload descriptor in front of every VP8 RTP payload.
//
//	     0 1 2 3 4 5 6 7
//	    +-+-+-+-+-+-+-+-+
//	    |X|R|N|S|R| PID | (REQUIRED)
//	    +-+-+-+-+-+-+-+-+
//	X:  |I|L|T|K|   RSV | (OPTIONAL)
//	    +-+-+-+-+-+-+-+-+
//	I:  |M| PictureID   | (OPTIONAL)
//	    +-+-+-+-+-+-+-+-+
//	M:  |   PictureID   | (OPTIONAL, with M set: 15 bits in two octets)
//	    +-+-+-+-+-+-+-+-+
//	L:  |   TL0PICIDX   | (OPTIONAL)
//	    +-+-+-+-+-+-+-+-+
//	T/K:|TID|Y| KEYIDX  | (OPTIONAL)
//	    +-+-+-+-+-+-+-+-+
//
// RFC 7741 §4.2.
type VP8Descriptor struct {
	Size          int // octets of the descriptor in the payload it was parsed from
	NonReference  bool
	Start         bool  // first octet of a partition
	Partition     uint8 // 0 to 7
	HasPictureID  bool
	LongPictureID bool   // 15 bits wide, else 7
	PictureID     uint16 // counts frames
	HasTL0        bool
	TL0           uint8 // TL0PICIDX: counts frames of the temporal base layer
	HasTID        bool
	TID           uint8 // temporal layer, 0 to 3
	LayerSync     bool  // depends on the temporal base layer only
	HasKeyIndex   bool
	KeyIndex      uint8 // KEYIDX: counts keyframes, 5 bits
}

// ParseVP8 reads the descriptor at the start of a VP8 RTP payload. It returns ErrVP8Descriptor when it does not fit.
func ParseVP8(b []byte) (d VP8Descriptor, err error) {
	if len(b) == 0 {
		return d, ErrVP8Descriptor
	}
	d.NonReference = b[0]&0x20 != 0
	d.Start = b[0]&0x10 != 0
	d.Partition = b[0] & 0x07
	d.Size = 1
	if b[0]&0x80 == 0 {
		return d, nil
	}
	if len(b) < 2 {
		return d, ErrVP8Descriptor
	}
	x := b[1]
	d.HasPictureID, d.HasTL0 = x&0x80 != 0, x&0x40 != 0
	d.HasTID, d.HasKeyIndex = x&0x20 != 0, x&0x10 != 0
	i := 2
	if d.HasPictureID {
		if i >= len(b) {
			return d, ErrVP8Descriptor
		}
		d.PictureID = uint16(b[i] & 0x7f)
		d.LongPictureID = b[i]&0x80 != 0
		i++
		if d.LongPictureID {
			if i >= len(b) {
				return d, ErrVP8Descriptor
			}
			d.PictureID = d.PictureID<<8 | uint16(b[i])
			i++
		}
	}
	if d.HasTL0 {
		if i >= len(b) {
			return d, ErrVP8Descriptor
		}
		d.TL0 = b[i]
		i++
	}
	if d.HasTID || d.HasKeyIndex {
		if i >= len(b) {
			return d, ErrVP8Descriptor
		}
		if d.HasTID {
			d.TID = b[i] >> 6
			d.LayerSync = b[i]&0x20 != 0
		}
		if d.HasKeyIndex {
			d.KeyIndex = b[i] & keyIndexMask
		}
		i++
	}
	d.Size = i
	return d, nil
}

// Append writes the descriptor as d says and returns the extended slice. Size is not looked at.
func (d VP8Descriptor) Append(b []byte) []byte {
	first := d.Partition & 0x07
	if d.NonReference {
		first |= 0x20
	}
	if d.Start {
		first |= 0x10
	}
	if !d.HasPictureID && !d.HasTL0 && !d.HasTID && !d.HasKeyIndex {
		return append(b, first)
	}
	var x, last uint8
	if d.HasPictureID {
		x |= 0x80
	}
	if d.HasTL0 {
		x |= 0x40
	}
	if d.HasTID {
		x |= 0x20
		last |= d.TID << 6
		if d.LayerSync {
			last |= 0x20
		}
	}
	if d.HasKeyIndex {
		x |= 0x10
		last |= d.KeyIndex & keyIndexMask
	}
	b = append(b, first|0x80, x)
	switch {
	case d.HasPictureID && d.LongPictureID:
		b = append(b, 0x80|uint8(d.PictureID>>8), uint8(d.PictureID))
	case d.HasPictureID:
		b = append(b, uint8(d.PictureID)&0x7f)
	}
	if d.HasTL0 {
		b = append(b, d.TL0)
	}
	if d.HasTID || d.HasKeyIndex {
		b = append(b, last)
	}
	return b
}

// Keyframe reports whether the payload the descriptor was parsed from is the first packet of a keyframe: the first
// octet of the first partition, and its P bit ("inverse key frame flag", RFC 7741 §4.3) is 0. End-to-end encryption
// leaves that octet in the clear.
func (d VP8Descriptor) Keyframe(payload []byte) bool {
	return d.Start && d.Partition == 0 && len(payload) > d.Size && payload[d.Size]&0x01 == 0
}

// MarkVP8 sets the layer fields of a packet that carries VP8. A malformed payload leaves them unknown.
func (p *Packet) MarkVP8() {
	payload := p.Payload()
	d, err := ParseVP8(payload)
	if err != nil {
		return
	}
	p.Described, p.Keyframe = true, d.Keyframe(payload)
	p.FrameStart, p.FrameEnd, p.Discardable = d.Start && d.Partition == 0, p.Marker, d.NonReference
	if d.HasTID {
		p.Temporal = d.TID
		if d.LayerSync {
			p.RiseTo = d.TID
		}
	}
}
