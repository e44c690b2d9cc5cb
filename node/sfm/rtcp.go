package sfm

import (
	"encoding/binary"
	"time"

	"github.com/pion/rtcp"

	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

// reportInterval is the time between sender reports.
const reportInterval = time.Second

// Bounds on retransmissions: a share of what is sent, so that a client that asks for everything twice gets no flood.
const (
	budgetShare   = 4        // one retransmitted byte for so many sent
	budgetInitial = 32 << 10 // bytes
	budgetMax     = 256 << 10
)

// nackBudget says how many bytes may be sent again. The zero value holds the initial budget.
type nackBudget struct{ earned, spent uint64 }

func (b *nackBudget) earn(bytes int) {
	b.earned += uint64(bytes)
	if left := budgetInitial + b.earned/budgetShare - b.spent; left > budgetMax {
		b.spent += left - budgetMax
	}
}

func (b *nackBudget) spend(bytes int) bool {
	if b.spent+uint64(bytes) > budgetInitial+b.earned/budgetShare {
		return false
	}
	b.spent += uint64(bytes)
	return true
}

// reportState makes sender reports (RFC 3550 §6.4.1) from the publisher's own: the instant of the latest packet on the
// publisher's wall clock, and its timestamp as sent. No clock of a node enters, so audio and video of a publisher stay
// in step wherever they come from.
type reportState struct {
	packets, octets uint32
	stream          *rtpstream.Stream
	in, out         uint32 // timestamp of the latest packet as received and as sent
	fresh           bool   // sent something since the last report
	reported        bool
	last            time.Duration // when the last report was made, if reported
	offset          uint32        // of timestamps in the last report
	middle          uint32        // middle 32 bits of the NTP timestamp of the last report
}

func (r *reportState) sent(p *rtpstream.Packet, out, offset uint32, bytes int) {
	r.packets++
	r.octets += uint32(bytes)
	r.stream, r.in, r.out, r.fresh = p.Stream, p.Timestamp, out, true
	if offset != r.offset {
		r.offset, r.reported = offset, false // a report at once after a switch
	}
}

// due returns a report when it is time for one and the publisher has told its clock, else nil.
func (r *reportState) due(now time.Duration, ssrc, clockRate uint32, cname string) []rtcp.Packet {
	if !r.fresh || r.reported && now-r.last < reportInterval || clockRate == 0 {
		return nil
	}
	clock := r.stream.Clock()
	if clock == nil {
		return nil
	}
	since := int64(int32(r.in-clock.RTPTimestamp)) << 32 / int64(clockRate) // 32.32 fixed point seconds
	ntp := clock.NTP + uint64(since)
	r.fresh, r.reported, r.last, r.middle = false, true, now, uint32(ntp>>16)
	return []rtcp.Packet{
		&rtcp.SenderReport{SSRC: ssrc, NTPTime: ntp, RTPTime: r.out, PacketCount: r.packets, OctetCount: r.octets},
		rtcp.NewCNAMESourceDescription(ssrc, cname),
	}
}

// readRTCP takes what the client says of an outgoing stream, until read fails.
func (s *sender) readRTCP(read func([]byte) (int, error), now func() time.Duration) {
	raw := make([]byte, rtpstream.MaxPacketBytes)
	buf := newScratch()
	for {
		n, err := read(raw)
		if err != nil {
			return
		}
		packets, err := rtcp.Unmarshal(raw[:n])
		if err != nil {
			s.metrics.drops[dropMalformed].Inc()
			continue
		}
		for _, p := range packets {
			switch p := p.(type) {
			case *rtcp.TransportLayerNack:
				for _, pair := range p.Nacks {
					for _, seq := range pair.PacketList() {
						s.answerNACK(seq, buf)
					}
				}
			case *rtcp.PictureLossIndication, *rtcp.FullIntraRequest:
				s.lost(now())
			case *rtcp.ReceiverReport:
				s.noteReport(p, now())
			}
		}
	}
}

// answerNACK sends a packet again: on the RTX stream (RFC 4588) when there is one, else as it was.
func (s *sender) answerNACK(sequenceNumber uint16, buf *scratch) {
	s.metrics.nacksReceived.Inc()
	b := s.track.bound.Load()
	if b == nil {
		return
	}
	s.mu.Lock()
	encoding, extSeq, ok := s.rewriter.Origin(sequenceNumber)
	s.mu.Unlock()
	var p *rtpstream.Packet
	if ok {
		p = s.media.Stream(encoding).Cached(extSeq)
	}
	if p == nil || len(p.Payload()) == 0 {
		if p != nil {
			p.Release()
		}
		s.metrics.drops[dropNACKGone].Inc()
		return
	}
	defer p.Release()
	s.mu.Lock()
	w, ok := s.rewriter.Again(sequenceNumber, p)
	if ok && !s.budget.spend(len(p.Payload())) {
		s.mu.Unlock()
		s.metrics.drops[dropNACKBudget].Inc()
		return
	}
	if !ok || s.closed {
		s.mu.Unlock()
		s.metrics.drops[dropNACKGone].Inc()
		return
	}
	payload := b.fill(buf, p, w, s.gate.Last(p))
	if b.rtxSSRC != 0 {
		buf.header.SSRC, buf.header.PayloadType = b.rtxSSRC, b.rtxPayloadType
		buf.header.SequenceNumber = s.rtxSequence
		s.rtxSequence++
		// The original sequence number stands in front of the payload: RFC 4588 §4.
		payload = append(payload, 0, 0)
		copy(payload[2:], payload)
		binary.BigEndian.PutUint16(payload, sequenceNumber)
		buf.payload = payload
	}
	s.total.Retransmits++
	s.mu.Unlock()
	if _, err := b.writer.WriteRTP(&buf.header, payload); err != nil {
		s.metrics.drops[dropWrite].Inc()
		return
	}
	s.metrics.nacksAnswered.Inc()
}

// noteReport reads loss and round-trip time from a receiver report (RFC 3550 §6.4.1).
func (s *sender) noteReport(rr *rtcp.ReceiverReport, now time.Duration) {
	b := s.track.bound.Load()
	if b == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range rr.Reports {
		if r.SSRC != b.ssrc {
			continue
		}
		s.total.FractionLost = float64(r.FractionLost) / 256
		if r.LastSenderReport != 0 && r.LastSenderReport == s.report.middle {
			held := time.Duration(r.Delay) * time.Second / 65536
			if rtt := now - s.report.last - held; rtt >= 0 {
				s.rtt = rtt
			}
		}
	}
}
