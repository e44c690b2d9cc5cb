package cascade

import (
	"encoding/binary"
	"time"
)

// rateReport says what came in on a link so far, all lanes together. Counters and clock start anywhere and wrap: only
// differences mean something, and no two clocks are compared but for the change of their difference.
type rateReport struct {
	Clock   uint32 // receiver's monotonic clock when the report was made, µs
	Seq     uint32 // link sequence number of the newest packet that came by itself, not sent again and not restored
	Age     uint32 // how long before Clock it came, µs
	Bytes   uint32 // of all datagrams
	Packets uint32 // link sequence numbers that came by themselves
}

const (
	rateReportBytes = 20
	rateMaxAge      = time.Minute // a packet that came longer ago is no news
)

// appendReport appends a report frame, which only peers that greeted with FEATURE_RATE understand.
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|Ver| Type  |L|0|           Length              |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|                 receiver's clock, µs, modulo 2³²              |
//	|                newest link sequence number (32)               |
//	|              µs since that came, below 60,000,000             |
//	|           bytes of datagrams received, modulo 2³²             |
//	|       packets received other than by repair, modulo 2³²       |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//
// Where there is no media to show what a link carries, a padding frame does. Its octets mean nothing.
//
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|Ver| Type  |L|0|         [Length]              | any octets …
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
func appendReport(b []byte, r rateReport) []byte {
	b = appendFrameHead(b, frameReport, rateReportBytes, false)
	for _, v := range [...]uint32{r.Clock, r.Seq, r.Age, r.Bytes, r.Packets} {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	return b
}

func parseReport(body []byte) (r rateReport, err error) {
	if len(body) != rateReportBytes {
		return r, errFrameLength
	}
	for i, v := range [...]*uint32{&r.Clock, &r.Seq, &r.Age, &r.Bytes, &r.Packets} {
		*v = binary.BigEndian.Uint32(body[4*i:])
	}
	if r.Age >= uint32(rateMaxAge/time.Microsecond) {
		return r, errFrameField
	}
	return r, nil
}
