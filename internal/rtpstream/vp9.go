package rtpstream

import (
	"encoding/binary"
	"errors"
)

// ErrVP9Descriptor is a VP9 payload whose descriptor does not fit in it, or refers to more pictures than may be.
var ErrVP9Descriptor = errors.New("rtpstream: VP9 payload descriptor makes no sense")

// Bounds of the VP9 payload format.
const (
	vp9MaxSpatial = 8 // N_S and SID have three bits
	vp9MaxDiffs   = 3
)

// VP9Descriptor is the payload descriptor in front of every VP9 RTP payload.
//
//	     0 1 2 3 4 5 6 7
//	    +-+-+-+-+-+-+-+-+
//	    |I|P|L|F|B|E|V|Z| (REQUIRED)
//	    +-+-+-+-+-+-+-+-+
//	I:  |M| PICTURE ID  | (with M set: 15 bits in two octets)
//	    +-+-+-+-+-+-+-+-+
//	M:  | EXTENDED PID  |
//	    +-+-+-+-+-+-+-+-+
//	L:  | TID |U| SID |D|
//	    +-+-+-+-+-+-+-+-+
//	    |   TL0PICIDX   | (with L, without F)
//	    +-+-+-+-+-+-+-+-+
//	P,F:| P_DIFF      |N| (with P and F: up to three times, while N)
//	    +-+-+-+-+-+-+-+-+
//	V:  | SS            | see VP9Structure
//	    | ..            |
//	    +-+-+-+-+-+-+-+-+
//
// RFC 9628 §4.2.
type VP9Descriptor struct {
	Size          int // octets of the descriptor in the payload it was parsed from
	HasPictureID  bool
	LongPictureID bool   // 15 bits wide, else 7
	PictureID     uint16 // counts pictures, which are all layer frames of one instant
	InterPicture  bool   // P: predicted from another picture
	HasLayers     bool   // L: TID, SID, SwitchUp and InterLayer are told
	Flexible      bool   // F: each picture names those it is predicted from
	Start, End    bool   // B, E: first and last packet of a layer frame
	Discardable   bool   // Z: no upper spatial layer is predicted from it
	TID, SID      uint8  // temporal and spatial layer, 0 to 7
	SwitchUp      bool   // U
	InterLayer    bool   // D: predicted from the spatial layer below
	HasTL0        bool
	TL0           uint8              // TL0PICIDX: counts pictures of the temporal base layer
	NumDiffs      uint8              // of Diffs
	Diffs         [vp9MaxDiffs]uint8 // how many picture IDs back the pictures are that it is predicted from
	HasStructure  bool
	Structure     VP9Structure
}

// VP9Structure is the scalability structure, as far as it tells of spatial layers. What it tells of a group of
// pictures is passed over: packets carry their own TID.
//
//	    +-+-+-+-+-+-+-+-+
//	V:  | N_S |Y|G|-|-|-|
//	    +-+-+-+-+-+-+-+-+              -\
//	Y:  |     WIDTH     |               .
//	    +               +               .
//	    |               |               . N_S + 1 times
//	    +-+-+-+-+-+-+-+-+               .
//	    |     HEIGHT    |               .
//	    +               +               .
//	    |               |               .
//	    +-+-+-+-+-+-+-+-+              -/
//	G:  |      N_G      |
//	    +-+-+-+-+-+-+-+-+              -\
//	    | TID |U| R |-|-|               .
//	    +-+-+-+-+-+-+-+-+  -\           . N_G times
//	    |    P_DIFF     |   . R times   .
//	    +-+-+-+-+-+-+-+-+  -/          -/
//
// RFC 9628 §4.2.1.
type VP9Structure struct {
	Spatials uint8 // spatial layers, 1 to 8
	HasSizes bool
	Sizes    [vp9MaxSpatial]PictureSize // by spatial layer
	Pictures uint8                      // N_G: in a group of pictures, 0 when not told
}

// PictureSize is in pixels.
type PictureSize struct{ Width, Height uint16 }

// ParseVP9 reads the descriptor at the start of a VP9 RTP payload. It returns ErrVP9Descriptor when it makes no sense.
func ParseVP9(b []byte) (d VP9Descriptor, err error) {
	if len(b) == 0 {
		return d, ErrVP9Descriptor
	}
	first, i := b[0], 1
	d.HasPictureID, d.InterPicture = first&0x80 != 0, first&0x40 != 0
	d.HasLayers, d.Flexible = first&0x20 != 0, first&0x10 != 0
	d.Start, d.End = first&0x08 != 0, first&0x04 != 0
	d.HasStructure, d.Discardable = first&0x02 != 0, first&0x01 != 0
	if d.HasPictureID {
		if i >= len(b) {
			return d, ErrVP9Descriptor
		}
		d.PictureID, d.LongPictureID = uint16(b[i]&0x7f), b[i]&0x80 != 0
		i++
		if d.LongPictureID {
			if i >= len(b) {
				return d, ErrVP9Descriptor
			}
			d.PictureID = d.PictureID<<8 | uint16(b[i])
			i++
		}
	}
	if d.HasLayers {
		if i >= len(b) {
			return d, ErrVP9Descriptor
		}
		d.TID, d.SwitchUp = b[i]>>5, b[i]&0x10 != 0
		d.SID, d.InterLayer = b[i]>>1&7, b[i]&1 != 0
		i++
		if !d.Flexible {
			if i >= len(b) {
				return d, ErrVP9Descriptor
			}
			d.HasTL0, d.TL0 = true, b[i]
			i++
		}
	}
	if d.InterPicture && d.Flexible {
		for more := true; more; i++ {
			if i >= len(b) || d.NumDiffs == vp9MaxDiffs {
				return d, ErrVP9Descriptor
			}
			d.Diffs[d.NumDiffs], more = b[i]>>1, b[i]&1 != 0
			d.NumDiffs++
		}
	}
	if d.HasStructure {
		n, ok := d.Structure.parse(b[i:])
		if !ok {
			return d, ErrVP9Descriptor
		}
		i += n
	}
	d.Size = i
	return d, nil
}

// parse reads a scalability structure and returns its octets.
func (s *VP9Structure) parse(b []byte) (n int, ok bool) {
	if len(b) == 0 {
		return 0, false
	}
	s.Spatials, s.HasSizes = b[0]>>5+1, b[0]&0x10 != 0
	group := b[0]&0x08 != 0
	i := 1
	if s.HasSizes {
		if i+4*int(s.Spatials) > len(b) {
			return 0, false
		}
		for l := range s.Spatials {
			s.Sizes[l] = PictureSize{binary.BigEndian.Uint16(b[i:]), binary.BigEndian.Uint16(b[i+2:])}
			i += 4
		}
	}
	if group {
		if i >= len(b) {
			return 0, false
		}
		s.Pictures = b[i]
		i++
		for range s.Pictures {
			if i >= len(b) {
				return 0, false
			}
			i += 1 + int(b[i]>>2&3)
		}
		if i > len(b) {
			return 0, false
		}
	}
	return i, true
}

// Keyframe reports whether the payload the descriptor was parsed from is the first packet of a picture that a decoder
// can start at: of the lowest spatial layer, predicted from no other picture. End-to-end encryption leaves the
// descriptor in the clear.
func (d *VP9Descriptor) Keyframe() bool { return d.Start && !d.InterPicture && d.SID == 0 }
