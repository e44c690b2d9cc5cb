package rtpstream

import "encoding/binary"

// Types of H.264 NAL units, and of the payloads that hold several (RFC 6184 §5.2).
const (
	nalSPS   = 7
	nalSTAPA = 24
)

// h264Keyframe reports whether a payload is the first packet of a picture that a decoder can start at: that with the
// sequence parameter set, which encoders for RTP send before each such picture, alone or with other NAL units.
//
//	+---------------+    +---------------+-------------------------------+---------------
//	|F|NRI|  Type   |    |F|NRI|   24    |            size               |F|NRI|  Type   |  … STAP-A
//	+---------------+    +---------------+-------------------------------+---------------
func h264Keyframe(b []byte) bool {
	if len(b) < 2 {
		return false
	}
	switch kind := b[0] & 0x1f; kind {
	case nalSPS:
		return true
	case nalSTAPA:
		for b = b[1:]; len(b) > 2; {
			n := int(binary.BigEndian.Uint16(b))
			if b = b[2:]; n == 0 || n > len(b) {
				return false
			}
			if b[0]&0x1f == nalSPS {
				return true
			}
			b = b[n:]
		}
	}
	return false
}
