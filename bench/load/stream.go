package load

import (
	"encoding/binary"
	"time"
)

// stream measures one RTP stream by its packets' headers. The reader feeds it; the subscriber's lock guards it.
type stream struct {
	ssrc  uint32
	video bool

	firstAt       time.Duration // of its first packet
	base, highest uint64        // sequence numbers, unwrapped
	received      uint64
	bytes         uint64

	timestamp uint32        // of the latest frame
	frameAt   time.Duration // when it began to arrive
	interval  time.Duration // between frames, smoothed; 0 before the second
	freezes   int
	frozen    time.Duration

	gapAt, gap uint16 // packets just found missing before the first picture, and how many; 0: none

	decoded bool // a whole keyframe was seen: from now on a sample is decrypted
	arrived [arrivals]arrival
	next    int
}

// arrival is when a packet that is decrypted had been read.
type arrival struct {
	seq uint16
	at  time.Duration
}

// arrivals is how many packets may be on their way through Pion.
const arrivals = 64

// isRTP tells RTP from everything else on the socket (RFC 7983, RFC 5761).
func isRTP(b []byte) bool { return len(b) >= 12 && b[0]>>6 == 2 && (b[1] < 192 || b[1] > 223) }

// isMedia tells RTP and RTCP from STUN and DTLS.
func isMedia(b []byte) bool { return len(b) >= 8 && b[0]>>6 == 2 }

// take counts a packet, and reports whether it shall be decrypted.
//
// quiet is until when publishers were muted last.
func (s *stream) take(b []byte, now, quiet time.Duration, sample int) bool {
	seq, timestamp := binary.BigEndian.Uint16(b[2:]), binary.BigEndian.Uint32(b[4:])
	s.received++
	s.bytes += uint64(len(b))
	if s.received == 1 {
		s.firstAt, s.base = now, 1<<32|uint64(seq)
		s.highest, s.timestamp, s.frameAt = s.base, timestamp, now
	} else if ahead := int16(seq - uint16(s.highest)); ahead > 0 {
		if ahead > 1 && s.video && !s.decoded {
			s.gapAt, s.gap = uint16(s.highest)+1, uint16(ahead)-1
		}
		s.highest += uint64(ahead)
	}
	if s.video && int32(timestamp-s.timestamp) > 0 {
		s.frame(timestamp, now, quiet)
	}
	decrypt := s.video && !s.decoded || s.received%uint64(sample) == 1%uint64(sample)
	if decrypt {
		s.arrived[s.next%arrivals] = arrival{seq, now}
		s.next++
	}
	return decrypt
}

// frame notes that a new frame begins. A freeze is a gap of three times the usual one, or 150 ms more than it (as
// browsers count freezes), unless the publisher was muted meanwhile.
func (s *stream) frame(timestamp uint32, now, quiet time.Duration) {
	gap := now - s.frameAt
	muted := s.frameAt <= quiet
	s.timestamp, s.frameAt = timestamp, now
	if muted {
		return
	}
	if s.interval > 0 && gap >= max(3*s.interval, s.interval+150*time.Millisecond) {
		s.freezes++
		s.frozen += gap
		return
	}
	if s.interval == 0 {
		s.interval = gap
	}
	s.interval += (gap - s.interval) / 16
}

// arrivedAt returns when a decrypted packet was read.
func (s *stream) arrivedAt(seq uint16) (time.Duration, bool) {
	for i := range s.arrived {
		if a := s.arrived[i]; a.seq == seq && a.at != 0 {
			return a.at, true
		}
	}
	return 0, false
}

// expected is how many packets were sent as far as sequence numbers tell.
func (s *stream) expected() uint64 {
	if s.received == 0 {
		return 0
	}
	return s.highest - s.base + 1
}

// frameHunt looks for the first whole keyframe.
type frameHunt struct {
	in         bool
	timestamp  uint32
	start, end uint16 // sequence numbers: of its first packet and after its last one; equal while that is not known
	have       map[uint16]bool
}

// take reports whether a packet completes a keyframe, whose packets may come in any order after the first.
func (h *frameHunt) take(seq uint16, timestamp uint32, marker, keyStart bool) bool {
	if keyStart && (!h.in || int32(timestamp-h.timestamp) > 0) {
		*h = frameHunt{in: true, timestamp: timestamp, start: seq, end: seq, have: map[uint16]bool{}}
	}
	if !h.in || timestamp != h.timestamp {
		return false
	}
	h.have[seq] = true // as many as there are packets of one frame
	if marker {
		h.end = seq + 1
	}
	return h.end != h.start && len(h.have) == int(h.end-h.start)
}
