package cascade

import (
	"encoding/binary"
	"time"
)

// maxNackEntries bounds one NACK frame: 30 entries ask for at most 990 packets and fit every lane's control slot.
const maxNackEntries = 30

// nackEntry asks for link sequence number Base and, bit i of Bits, for Base+1+i: RFC 4585 §6.2.1 made wider.
type nackEntry struct{ Base, Bits uint32 }

// appendNack appends a NACK frame for ascending link sequence numbers and returns how many of them it holds.
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|Ver| Type  |L|0|           Length              |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|                  base: link sequence number                   |  1 to 30 times
//	|                     bits: base+1 … base+32                    |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
func appendNack(b []byte, seqs []uint64) (out []byte, taken int) {
	start := len(b)
	b = appendFrameHead(b, frameNack, 0, false)
	for entries := 0; taken < len(seqs) && entries < maxNackEntries; entries++ {
		base := seqs[taken]
		taken++
		var bits uint32
		for taken < len(seqs) && seqs[taken] > base && seqs[taken]-base <= 32 {
			bits |= 1 << (seqs[taken] - base - 1)
			taken++
		}
		b = binary.BigEndian.AppendUint32(b, uint32(base))
		b = binary.BigEndian.AppendUint32(b, bits)
	}
	binary.BigEndian.PutUint16(b[start+1:], uint16(len(b)-start-frameHeadBytes))
	return b, taken
}

// parseNack reads the entries of a NACK frame into out and returns their number.
func parseNack(body []byte, out *[maxNackEntries]nackEntry) (int, error) {
	n := len(body) / 8
	if n == 0 || len(body)%8 != 0 || n > maxNackEntries {
		return 0, errFrameLength
	}
	for i := range n {
		out[i] = nackEntry{
			Base: binary.BigEndian.Uint32(body[8*i:]),
			Bits: binary.BigEndian.Uint32(body[8*i+4:]),
		}
	}
	return n, nil
}

// probe asks whether a lane is alive. Its answer echoes Sent, which is all the sender needs to know the round trip:
// no two clocks are compared.
type probe struct {
	Sent    time.Duration // sender's monotonic clock, µs on the wire
	Highest uint32        // highest link sequence number sent so far: shows the receiver what is lost at the tail
	Loss    uint16        // share of the other direction's frames lost before repair, in 1/65535
	Burst   uint8         // mean number of them lost in a row, in 1/16; 0 for a peer that does not know FEC
}

// appendProbe appends a probe frame; appendAnswer its echo.
//
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|Ver| Type  |L|0|           Length              |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|                         sent, µs (64)                         |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|          probe only: highest link sequence number sent        |
//	|   probe only: loss (16)       |    [burst]    |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//
// Burst is there between peers that both greeted with FEATURE_FEC.
func appendProbe(b []byte, p probe) []byte {
	n := 14
	if p.Burst != 0 {
		n++
	}
	b = appendFrameHead(b, frameProbe, n, false)
	b = binary.BigEndian.AppendUint64(b, uint64(p.Sent.Microseconds()))
	b = binary.BigEndian.AppendUint32(b, p.Highest)
	b = binary.BigEndian.AppendUint16(b, p.Loss)
	if p.Burst != 0 {
		b = append(b, p.Burst)
	}
	return b
}

func parseProbe(body []byte) (p probe, err error) {
	switch {
	case len(body) == 15 && body[14] != 0:
		p.Burst = body[14]
	case len(body) != 14:
		return p, errFrameLength
	}
	if p.Sent, err = parseMicros(body); err != nil {
		return p, err
	}
	p.Highest = binary.BigEndian.Uint32(body[8:])
	p.Loss = binary.BigEndian.Uint16(body[12:])
	return p, nil
}

func appendAnswer(b []byte, sent time.Duration) []byte {
	b = appendFrameHead(b, frameAnswer, 8, false)
	return binary.BigEndian.AppendUint64(b, uint64(sent.Microseconds()))
}

func parseAnswer(body []byte) (sent time.Duration, err error) {
	if len(body) != 8 {
		return 0, errFrameLength
	}
	return parseMicros(body)
}

func parseMicros(b []byte) (time.Duration, error) {
	v := binary.BigEndian.Uint64(b)
	if v > 1<<53 { // three centuries: no process ran that long
		return 0, errFrameField
	}
	return time.Duration(v) * time.Microsecond, nil
}
