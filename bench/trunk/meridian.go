package trunk

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"time"

	"github.com/meridian-sfu/meridian/cascade"
	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/meshnet"
	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

// benchRoom is the room all sources are in.
const benchRoom mesh.RoomName = "bench"

// meridianNode is one end of Meridian's link: meshnet and cascade as a node builds them, with default configuration.
type meridianNode struct {
	cascade      *cascade.Cascade
	net, trunk   background
	ctx          context.Context // of both
	meshnet      *meshnet.Network
	peerID       mesh.NodeID
	localSources map[mesh.SourceID]*rtpstream.Source // never changed after it runs
}

func newMeridianNode(ctx context.Context, j *job, w *wire, peerID mesh.NodeID, peer netip.AddrPort, local map[mesh.SourceID]*rtpstream.Source) (*meridianNode, error) {
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	nw, err := j.network(w, log)
	if err != nil {
		return nil, err
	}
	resolve := func(id mesh.NodeID) (netip.AddrPort, bool) { return peer, id == peerID }
	nw.SetResolver(resolve)
	n := &meridianNode{ctx: ctx, meshnet: nw, peerID: peerID, localSources: local}
	n.cascade, err = cascade.New(cascade.DefaultConfig(), cascade.Deps{
		Net: cascade.Over(nw), Resolve: resolve,
		Local: func(_ mesh.NodeID, _ mesh.RoomName, id mesh.SourceID) (*rtpstream.Source, bool) {
			s, ok := local[id]
			return s, ok
		},
	}, log, nil)
	if err != nil {
		_ = nw.Close()
		return nil, err
	}
	return n, nil
}

func (n *meridianNode) start() {
	n.net.start(n.ctx, n.meshnet.Run)
	n.trunk.start(n.ctx, n.cascade.Run)
}

func (n *meridianNode) close() {
	n.trunk.stop()
	n.net.stop()
}

func (n *meridianNode) link() (cascade.LinkStatus, bool) {
	for _, l := range n.cascade.Links() {
		if l.Peer == n.peerID {
			return l, true
		}
	}
	return cascade.LinkStatus{}, false
}

func (n *meridianNode) counters() counters {
	l, ok := n.link()
	if !ok {
		return counters{}
	}
	return counters{
		Packets: l.Out.AudioPackets + l.Out.VideoPackets, Bytes: l.Out.AudioBytes + l.Out.VideoBytes,
		Repair: l.RepairBytes,
		Link: &linkCounters{
			Parity: l.Parity, AudioCopies: l.AudioCopies, Restored: l.Restored,
			Lanes: l.Lanes, RTT: millis(l.RTT), Retransmissions: l.Retransmissions, Repaired: l.Repaired, Lost: l.Lost, Drops: l.Drops,
			RateState: l.Rate.State, Estimate: uint64(l.Rate.Estimate), Queue: millis(l.Rate.Queue), Withheld: l.Withheld,
			PaddingBytes: l.PaddingBytes,
		},
	}
}

// meridianSending offers the workload's sources and writes their packets as the SFU's receivers do.
type meridianSending struct {
	*meridianNode
	streams []*rtpstream.Stream // by stream of the workload
	sources []*rtpstream.Source
	pool    rtpstream.Pool
	clock   clock
	origin  int64
}

// deaf ignores what consumers ask for: the workload goes by its own schedule.
type deaf struct{}

func (deaf) RequestKeyframe(uint8, rtpstream.KeyframeReason) {}
func (deaf) DemandChanged()                                  {}

func newMeridianSending(ctx context.Context, j *job, w *wire, peer netip.AddrPort, load *workload) (*meridianSending, error) {
	s := new(meridianSending)
	local := make(map[mesh.SourceID]*rtpstream.Source)
	for _, src := range load.sources {
		media := rtpstream.NewSource(rtpstream.SourceInfo{
			ID: string(src.ID), Audio: src.Kind == mesh.Audio, MIMEType: src.MIMEType, ClockRate: src.ClockRate,
			Encodings: len(src.Encodings),
		}, deaf{})
		local[src.ID] = media
		s.sources = append(s.sources, media)
	}
	for _, st := range load.streams {
		s.streams = append(s.streams, s.sources[st.source].Stream(st.encoding))
	}
	var err error
	if s.clock, err = newClock(); err != nil {
		return nil, err
	}
	s.origin = s.clock.now()
	if s.meridianNode, err = newMeridianNode(ctx, j, w, receiverID, peer, local); err != nil {
		return nil, err
	}
	s.start()
	return s, nil
}

func (s *meridianSending) ready(ctx context.Context) error {
	return waitFor(ctx, func() string {
		for _, src := range s.sources {
			if d := src.Demand(); d.Encodings != everything(src).Encodings {
				return fmt.Sprintf("the demand of %s", src.Info.ID)
			}
		}
		if l, ok := s.link(); !ok || !l.Up || l.Lanes == 0 {
			return "the link"
		}
		return ""
	})
}

func everything(src *rtpstream.Source) rtpstream.Demand {
	return rtpstream.Everything(1<<src.Info.Encodings - 1)
}

func (s *meridianSending) send(e *event, raw []byte) {
	p := s.pool.Get()
	defer p.Release()
	n := copy(p.Buffer(), raw)
	if err := p.Parse(n); err != nil {
		return // the meter misses it
	}
	stream := s.streams[e.stream]
	p.Arrival = time.Duration(s.clock.now() - s.origin)
	e.describe(p, stream.Source().Info.Audio)
	stream.Write(p)
}

// meridianReceiving pulls every source, all of it.
type meridianReceiving struct {
	*meridianNode
	remotes []*cascade.RemoteSource
}

func newMeridianReceiving(ctx context.Context, j *job, w *wire, peer netip.AddrPort, load *workload, m taker, c clock) (*meridianReceiving, error) {
	n, err := newMeridianNode(ctx, j, w, senderID, peer, nil)
	if err != nil {
		return nil, err
	}
	r := &meridianReceiving{meridianNode: n}
	n.start()
	for _, src := range load.sources {
		remote := n.cascade.Remote(benchRoom, src, senderID)
		media := remote.Media()
		media.Subscribe(&meterSink{m, c}).SetDemand(everything(media))
		r.remotes = append(r.remotes, remote)
	}
	return r, nil
}

func (r *meridianReceiving) ready(ctx context.Context) error {
	return waitFor(ctx, func() string {
		if l, ok := r.link(); !ok || !l.Up || len(l.Flows) < len(r.remotes) {
			return "the flows"
		}
		return ""
	})
}

func (r *meridianReceiving) close() {
	for _, remote := range r.remotes {
		remote.Close()
	}
	r.meridianNode.close()
}

// taker takes RTP packets that arrived at now, of the monotonic clock: a meter, or a liveMeter.
type taker interface{ packet(raw []byte, now int64) }

// meterSink gives the packets of a source to a meter.
type meterSink struct {
	meter taker
	clock clock
}

var _ rtpstream.Sink = (*meterSink)(nil)

func (s *meterSink) WritePacket(p *rtpstream.Packet) { s.meter.packet(p.Raw(), s.clock.now()) }
