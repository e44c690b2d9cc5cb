package cascade

import (
	"time"

	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

// inbound is one parsed media, fragment or parity frame. It owns a reference to its packet.
type inbound struct {
	h    mediaHeader
	pkt  *rtpstream.Packet // of a fragment: unparsed, the half's bytes at the front of the buffer
	size int               // RTP bytes in the frame
	at   time.Duration

	parity   parityHeader // of a parity symbol, whose bytes are at the front of the buffer; no parities otherwise
	restored bool         // made of parity symbols
}

// parseInbound makes a packet of a media or fragment frame that is not cut.
func parseInbound(f frame, pool *rtpstream.Pool, now time.Duration) (inbound, error) {
	in := inbound{at: now}
	rtp, err := parseMedia(f, &in.h)
	switch {
	case err != nil:
		return inbound{}, err
	case f.cut():
		return inbound{}, errFrameType
	}
	in.pkt, in.size = pool.Get(), len(rtp)
	copy(in.pkt.Buffer(), rtp)
	if in.h.Total == 0 {
		if err := in.pkt.Parse(in.size); err != nil {
			in.pkt.Release()
			return inbound{}, err
		}
	}
	return in, nil
}

// parseInboundCut makes a packet of a media frame whose RTP header is cut down.
func (r *receiver) parseInboundCut(f frame, now time.Duration) (inbound, error) {
	in := inbound{at: now}
	var cut cutHeader
	rtp, err := parseMedia(f, &in.h)
	if err == nil {
		rtp, err = parseContext(rtp, &cut)
	}
	if err != nil {
		return inbound{}, err
	}
	c := r.contexts.find(&in.h, cut)
	if c == nil {
		return inbound{}, errFrameContext
	}
	in.pkt = r.pool.Get()
	in.size = c.whole(in.pkt.Buffer(), cut, in.h.Marker, rtp)
	if err := in.pkt.Parse(in.size); err != nil {
		in.pkt.Release()
		return inbound{}, err
	}
	return in, nil
}

// parseInboundParity makes a packet of a parity frame.
func parseInboundParity(f frame, pool *rtpstream.Pool, now time.Duration) (inbound, error) {
	h, symbol, err := parseParity(f)
	if err != nil {
		return inbound{}, err
	}
	in := inbound{at: now, parity: h, pkt: pool.Get(), size: len(symbol)}
	copy(in.pkt.Buffer(), symbol)
	return in, nil
}
