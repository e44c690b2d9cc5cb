package trunk

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

// The contestants.
const (
	Meridian = "meridian" // the cascade, as nodes use it
	QUIC     = "quic"     // one QUIC connection with datagrams
	UDP      = "udp"      // plain datagrams, nothing repaired
)

// Contestants in the order they run and are shown.
var Contestants = []string{Meridian, QUIC, UDP}

// The two nodes of a cell.
const (
	senderID   mesh.NodeID = "sender"
	receiverID mesh.NodeID = "receiver"
)

// sending is the sender's end of a contestant. Only the pacing goroutine uses it.
type sending interface {
	// ready returns when the receiver is there and wants everything.
	ready(ctx context.Context) error
	// send takes one packet: the event and its bytes, which are the caller's again when it returns. It does not block.
	send(e *event, raw []byte)
	// counters are what the contestant itself has counted.
	counters() counters
	close()
}

// receiving is the receiver's end. It gives every packet to a meter.
type receiving interface {
	ready(ctx context.Context) error
	counters() counters
	close()
}

// counters are what a contestant tells of itself, since it began.
type counters struct {
	// Packets and Bytes are RTP that left for the wire the first time; the rest of what was offered was dropped before.
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
	// Repair is bytes sent for what may be or was lost: parity, copies, retransmissions.
	Repair uint64 `json:"repair"`
	// Link is Meridian's own account of the link.
	Link *linkCounters `json:"link,omitempty"`
}

// linkCounters are of cascade.LinkStatus.
type linkCounters struct {
	Lanes           int               `json:"lanes"`
	RTT             float64           `json:"rtt_ms"`
	Retransmissions uint64            `json:"retransmissions"`
	Parity          uint64            `json:"parity"`
	AudioCopies     uint64            `json:"audio_copies"`
	Restored        uint64            `json:"restored"`
	Repaired        uint64            `json:"repaired"`
	Lost            uint64            `json:"lost"`
	Drops           map[string]uint64 `json:"drops,omitempty"`

	// At the end of the counted time: what the path was found to carry.
	RateState    string  `json:"rate_state"` // "unlimited", "limited" or "shared"
	Estimate     uint64  `json:"estimate_bps"`
	Queue        float64 `json:"queue_ms"`
	Withheld     int     `json:"withheld_flows"` // not sent in full
	PaddingBytes uint64  `json:"padding_bytes"`
}

func newSending(ctx context.Context, j *job, w *wire, peer netip.AddrPort, load *workload) (sending, error) {
	switch j.Contestant {
	case Meridian:
		return newMeridianSending(ctx, j, w, peer, load)
	case QUIC:
		return newQUICSending(ctx, j, w, peer)
	case UDP:
		return newUDPSending(w, peer), nil
	case Null:
		return new(nullSending), nil
	default:
		return nil, fmt.Errorf("trunk: no contestant is called %q", j.Contestant)
	}
}

func newReceiving(ctx context.Context, j *job, w *wire, peer netip.AddrPort, load *workload, m *meter, c clock) (receiving, error) {
	switch j.Contestant {
	case Meridian:
		return newMeridianReceiving(ctx, j, w, peer, load, m, c)
	case QUIC:
		return newQUICReceiving(ctx, j, w, m, c)
	case UDP:
		return newUDPReceiving(w, m, c), nil
	case Null:
		return newNullReceiving(j, load, m, c), nil
	default:
		return nil, fmt.Errorf("trunk: no contestant is called %q", j.Contestant)
	}
}
