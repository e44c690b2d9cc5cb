package load

import (
	"encoding/binary"
	"math/rand/v2"
	"time"
)

// What cameras and microphones send.
const (
	framePeriod   = time.Second / 30
	audioPeriod   = 20 * time.Millisecond
	audioBytes    = 100  // of Opus: 40 kbit/s
	packetBytes   = 1100 // of VP8 in one packet at most
	keyframeSize  = 5    // ordinary frames
	keyframeRest  = 300 * time.Millisecond
	stampBytes    = 16
	descriptorLen = 6
)

// stampMark stands in front of the time at the end of each payload.
const stampMark = 0x6d65726469616e21

// appendStamp ends a payload with its time.
func appendStamp(b []byte, at time.Duration) []byte {
	b = binary.BigEndian.AppendUint64(b, stampMark)
	return binary.BigEndian.AppendUint64(b, uint64(at))
}

// readStamp returns the time at the end of a payload.
func readStamp(b []byte) (time.Duration, bool) {
	if len(b) < stampBytes {
		return 0, false
	}
	b = b[len(b)-stampBytes:]
	return time.Duration(binary.BigEndian.Uint64(b[8:])), binary.BigEndian.Uint64(b) == stampMark
}

// noise fills payloads, so that nothing can be compressed or told apart.
var noise = func() []byte {
	b := make([]byte, packetBytes)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(b) // never fails
	return b
}()

// camera makes one encoding's frames: VP8 with three temporal layers (RFC 7741), by their headers.
type camera struct {
	width, height uint16
	frameBytes    int
	picture       uint16
	tl0           uint8
	frames        int // since the last keyframe
}

// temporalPattern is in which layer frames are.
var temporalPattern = [...]uint8{0, 2, 1, 2}

// frame calls emit with the payloads of the next frame.
func (c *camera) frame(key bool, at time.Duration, emit func(payload []byte, last bool)) {
	if key {
		c.frames = 0
	}
	tid := temporalPattern[c.frames%len(temporalPattern)]
	c.frames++
	c.picture = (c.picture + 1) & 0x7fff
	if tid == 0 {
		c.tl0++
	}
	left := c.frameBytes
	if key {
		left *= keyframeSize
	}
	packets := (left + packetBytes - 1) / packetBytes
	size := (left + packets - 1) / packets // equal sizes, as encoders' packetizers make them
	var buf [packetBytes + 64]byte
	for i := range packets {
		b := append(buf[:0], 0x80, 0xe0, 0x80|uint8(c.picture>>8), uint8(c.picture), c.tl0, tid<<6)
		if tid == 2 {
			b[0] |= 0x20 // N: nothing refers to it
		} else {
			b[5] |= 0x20 // Y: refers to the base layer only
		}
		if i == 0 {
			b[0] |= 0x10 // S: begins a partition
			b = c.appendHeader(b, key)
		}
		fill := min(size, left) - (len(b) - descriptorLen) - stampBytes
		b = append(b, noise[:max(min(fill, len(noise)), 0)]...)
		left -= size
		emit(appendStamp(b, at), i == packets-1)
	}
}

// appendHeader appends the frame's header (RFC 6386 §9.1).
func (c *camera) appendHeader(b []byte, key bool) []byte {
	if !key {
		return append(b, 0x31, 0x00, 0x00)
	}
	b = append(b, 0x10, 0x00, 0x00, 0x9d, 0x01, 0x2a)
	b = binary.LittleEndian.AppendUint16(b, c.width)
	return binary.LittleEndian.AppendUint16(b, c.height)
}

// keyframeStart reports whether a VP8 payload begins a keyframe.
func keyframeStart(b []byte) bool {
	if len(b) < 1 || b[0]&0x10 == 0 || b[0]&0x07 != 0 {
		return false
	}
	i := 1
	if b[0]&0x80 != 0 {
		if len(b) < 2 {
			return false
		}
		x := b[1]
		i++
		if x&0x80 != 0 {
			if len(b) <= i {
				return false
			}
			if b[i]&0x80 != 0 {
				i++
			}
			i++
		}
		if x&0x40 != 0 {
			i++
		}
		if x&0x30 != 0 {
			i++
		}
	}
	return len(b) > i && b[i]&1 == 0
}

// opus returns one audio packet's payload.
func opus(buf []byte, at time.Duration) []byte {
	buf = append(buf[:0], 0x78) // 20 ms of CELT, mono
	return appendStamp(append(buf, noise[:audioBytes-1-stampBytes]...), at)
}
