package cascade

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

// LinkStatus is what is known of the link to one node. Counters run over all lives of the link.
type LinkStatus struct {
	Peer      mesh.NodeID
	Up        bool
	RTT       time.Duration // smoothed, of the nearest lane; 0 when not measured
	Jitter    time.Duration // mean deviation of the round trip
	Age       time.Duration // since the last round trip was measured
	Lanes     int           // connected
	WantLanes int           // as many as rate, round trip and loss call for; 0 where the peer decides

	Offered Bitrate // of RTP the flows bring for this link
	Drained Bitrate // of datagrams the lanes take, repair included
	Room    Bitrate // what the lanes' congestion windows let through; 0 when not known

	Rate     RateStatus
	Withheld int // flows of which this link does not carry all that is wanted

	LossIn       float64 // share of incoming packets lost before repair, 0 to 1
	LossRepaired float64 // share of incoming packets lost after repair, 0 to 1
	LossOut      float64 // share of outgoing packets the peer says were lost before repair, 0 to 1

	In, Out         Traffic
	Drops           map[string]uint64 // by reason, only what is not 0
	NacksSent       uint64            // packets asked for
	NacksReceived   uint64            // packets the peer asked for
	Retransmissions uint64            // packets sent again
	Parity          uint64            // parity symbols sent
	AudioCopies     uint64            // audio packets sent a second time in advance
	RepairBytes     uint64            // bytes of retransmissions, parity and copies sent
	PaddingBytes    uint64            // bytes sent to see whether the path carries more
	Repaired        uint64            // lost packets that came after all: sent again, in advance or out of parity
	Restored        uint64            // of these, those made of parity symbols
	Lost            uint64            // lost packets that never came
	Flows           []FlowStatus

	keyframesIn, keyframesOut, replays     uint64
	linksOpened, linksFailed, flowsRefused uint64
	wire                                   uint64 // bytes of datagrams sent on this link
}

// RateStatus is what the link's outgoing path was found to carry.
type RateStatus struct {
	State    string        // "unlimited" before it was ever seen full, "limited", or "shared" with flows that keep its queue full
	Estimate Bitrate       // 0 while unlimited
	Budget   Bitrate       // for media and its repair; 0 while unlimited
	Queue    time.Duration // that stands on the path now, by one-way delay
}

func (r RateStatus) String() string {
	return fmt.Sprintf("%s, estimate %.2f Mbit/s, queue %v", r.State, float64(r.Estimate)/1e6, r.Queue.Round(time.Millisecond))
}

// Bitrate is in bits per second.
type Bitrate uint64

// Traffic counts whole RTP packets of one direction, retransmissions not included when sent.
type Traffic struct{ AudioPackets, AudioBytes, VideoPackets, VideoBytes uint64 }

// FlowStatus is one source on its way over a link.
type FlowStatus struct {
	ID        uint32
	Room      mesh.RoomName
	Source    mesh.SourceID
	Direction string // "in" or "out"
	Kind      mesh.MediaKind
	Encodings rtpstream.EncodingSet // wanted by the receiving side
}

// Links returns what is known of every link, by peer. A node without a link appears while it is kept or pulled from.
func (c *Cascade) Links() []LinkStatus {
	c.mu.Lock()
	peers := make([]*peer, 0, len(c.peers))
	links := make([]*link, 0, len(c.peers))
	born := make([]time.Duration, len(c.peers))
	for _, p := range c.peers {
		peers, links = append(peers, p), append(links, p.link)
		if p.link != nil {
			born[len(links)-1] = p.link.born // set again when the greeting is over
		}
	}
	c.mu.Unlock()
	out := make([]LinkStatus, 0, len(peers))
	for i, p := range peers {
		s := p.stats.status()
		s.Peer = p.id
		if l := links[i]; l != nil {
			l.status(&s, born[i])
		}
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b LinkStatus) int { return cmp.Compare(a.Peer, b.Peer) })
	return out
}

func (l *link) status(s *LinkStatus, born time.Duration) {
	s.Up = l.up.Load()
	s.RTT, s.Jitter = l.nearest()
	l.liveMu.Lock()
	s.Age = l.c.now() - max(l.live.lastAnswer, born)
	l.liveMu.Unlock()
	l.laneMu.Lock()
	s.Lanes, s.WantLanes = len(l.attached), l.want
	for _, ln := range l.attached {
		s.Room += ln.room()
	}
	l.laneMu.Unlock()
	r := l.tx.rateState()
	s.Rate = RateStatus{State: r.phase.String(), Estimate: r.estimate, Budget: r.budget, Queue: max(r.queue, 0)}
	s.wire = r.drained
	s.Withheld = int(l.withheld.Load())
	s.Offered, s.Drained = Bitrate(l.offered.Load()), Bitrate(l.drained.Load())
	s.LossIn, s.LossRepaired = share(&l.lossIn), share(&l.lossRepaired)
	s.LossOut = float64(l.lossOut.Load()) / 65535
	for _, f := range l.served() {
		s.Flows = append(s.Flows, FlowStatus{
			ID: f.id, Room: f.room, Source: f.source, Direction: "out", Kind: kindOf(f.audio),
			Encodings: rtpstream.EncodingSet(f.encodings.Load()),
		})
	}
	for id, pl := range l.rx.table() {
		if pl == nil {
			continue
		}
		s.Flows = append(s.Flows, FlowStatus{
			ID: uint32(id), Room: pl.key.room, Source: pl.key.source, Direction: "in", Kind: kindOf(pl.audio),
			Encodings: rtpstream.EncodingSet(pl.wanted.Load()),
		})
	}
	slices.SortFunc(s.Flows, func(a, b FlowStatus) int {
		return cmp.Or(cmp.Compare(a.Direction, b.Direction), cmp.Compare(a.ID, b.ID))
	})
}

func kindOf(audio bool) mesh.MediaKind {
	if audio {
		return mesh.Audio
	}
	return mesh.Video
}

func (c *counters) status() LinkStatus {
	s := LinkStatus{
		In: c.in.status(), Out: c.out.status(), Drops: make(map[string]uint64),
		NacksSent: c.nacksOut.Load(), NacksReceived: c.nacksIn.Load(),
		Retransmissions: c.retransmissions.Load(), Parity: c.parity.Load(), AudioCopies: c.copies.Load(),
		RepairBytes: c.overhead.Load(), PaddingBytes: c.padding.Load(), Restored: c.restored.Load(), Repaired: c.repaired.Load(), Lost: c.lost.Load(),
		keyframesIn: c.keyframesIn.Load(), keyframesOut: c.keyframesOut.Load(),
		replays:     c.replays.Load(),
		linksOpened: c.linksOpened.Load(), linksFailed: c.failed.Load(), flowsRefused: c.flowsRefused.Load(),
	}
	for r := range numDropReasons {
		if n := c.drops[r].Load(); n > 0 {
			s.Drops[r.String()] = n
		}
	}
	return s
}

func (t *traffic) status() Traffic {
	return Traffic{
		AudioPackets: t.packets[0].Load(), AudioBytes: t.bytes[0].Load(),
		VideoPackets: t.packets[1].Load(), VideoBytes: t.bytes[1].Load(),
	}
}
