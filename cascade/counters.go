package cascade

import "sync/atomic"

// dropReason says why a packet or frame went no further.
type dropReason uint8

const (
	dropQueueFull   dropReason = iota // the link's queue was full
	dropExpired                       // waited longer than its deadline
	dropFrameRest                     // its frame had lost a packet already
	dropLaneDown                      // its lane died under it, or there was no lane
	dropTooLarge                      // does not fit a lane's datagram
	dropFlowClosed                    // its flow, or its encoding, ended while it waited
	dropUnknownFlow                   // came in for a flow this node does not have
	dropDuplicate                     // came in a second time
	dropRecvFull                      // the receive side was too slow
	dropReassembly                    // the other half did not come
	dropBudget                        // retransmission over budget
	dropGarbage                       // malformed frame
	dropBadControl                    // senseless control message
	dropBadReport                     // report of what came that cannot be, or of too many
	dropHurried                       // demand or message that came too fast: put off, or overtaken by the next
	dropOverwork                      // would have cost more than a peer may
	numDropReasons
)

var dropNames = [numDropReasons]string{
	"queue_full", "expired", "frame_rest", "lane_down", "too_large", "flow_closed", "unknown_flow", "duplicate",
	"receive_full", "reassembly", "budget", "garbage", "bad_control", "bad_report", "hurried", "overwork",
}

// String returns the reason as metrics name it.
func (r dropReason) String() string { return dropNames[r] }

// traffic counts RTP packets of one direction by kind.
type traffic struct{ packets, bytes [2]atomic.Uint64 } // index kindIndex

func kindIndex(audio bool) int {
	if audio {
		return 0
	}
	return 1
}

func (t *traffic) count(audio bool, bytes int) {
	i := kindIndex(audio)
	t.packets[i].Add(1)
	t.bytes[i].Add(uint64(bytes))
}

// counters is what is counted of the link to one peer, over all its lives.
type counters struct {
	in, out              traffic
	drops                [numDropReasons]atomic.Uint64
	nacksIn, nacksOut    atomic.Uint64 // packets asked for
	retransmissions      atomic.Uint64 // sent
	parity               atomic.Uint64 // symbols sent
	copies               atomic.Uint64 // of audio packets, sent
	overhead             atomic.Uint64 // bytes of all three
	padding              atomic.Uint64 // bytes sent to see whether the path carries more
	restored             atomic.Uint64 // lost packets made of parity symbols
	repaired             atomic.Uint64 // lost packets that came after a NACK, or out of parity
	lost                 atomic.Uint64 // lost packets that never came
	keyframesIn          atomic.Uint64 // requests from the peer
	keyframesOut         atomic.Uint64 // requests to the peer
	replays              atomic.Uint64 // encodings the peer began with what was kept here
	linksOpened, failed  atomic.Uint64
	flowsRefused         atomic.Uint64
	fragments, coalesced atomic.Uint64
}

func (c *counters) drop(r dropReason) { c.drops[r].Add(1) }
