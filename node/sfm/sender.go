package sfm

import (
	"crypto/rand"
	"encoding/binary"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

// History for retransmissions, in packets: as much as the streams keep.
const (
	videoHistory = 512
	audioHistory = 64
)

// keyframeRetry is how often a keyframe that did not come is asked for again.
const keyframeRetry = 500 * time.Millisecond

// sender sends one source to one client: it picks the encoding, rewrites packets to one continuous stream, answers what
// the client asks. It is a sink of the source; packets go through the endpoint's egress.
type sender struct {
	id        mesh.SourceID
	kind      mesh.MediaKind
	cname     string
	media     *rtpstream.Source
	sub       *rtpstream.Subscription
	track     *localTrack
	egress    *egress
	metrics   *metrics
	count     *flow
	writeRTCP func([]rtcp.Packet) error

	active   atomic.Bool // connected and bound: what is sent arrives
	demandMu sync.Mutex  // keeps decisions and what the source is told of them in one order
	backlog  backlog

	mu          sync.Mutex
	closed      bool                // guarded by mu
	rewriter    *rtpstream.Rewriter // guarded by mu
	choice      layerChoice         // guarded by mu
	layers      rtpstream.Layers    // guarded by mu; wanted of whatever encoding
	gate        rtpstream.LayerGate // guarded by mu; of the current encoding
	risingAt    time.Duration       // guarded by mu; last keyframe request for a spatial layer, 0 is none
	askedAt     time.Duration       // guarded by mu; last keyframe request for the target, 0 is none
	start       starter             // guarded by mu
	budget      nackBudget          // guarded by mu
	report      reportState         // guarded by mu
	rtxSequence uint16              // guarded by mu
	total       SubscriptionStats   // guarded by mu; counters only
	rtt         time.Duration       // guarded by mu
}

var (
	_ rtpstream.Sink    = (*sender)(nil)
	_ rtpstream.Limited = (*sender)(nil)
)

func newSender(e *Endpoint, s Subscribe) *sender {
	var random [8]byte
	_, _ = rand.Read(random[:]) // never fails
	audio := s.Source.Kind == mesh.Audio
	cfg := rtpstream.RewriterConfig{
		Audio: audio, VP8: isVP8(s.Media.Info.MIMEType), ClockRate: s.Media.Info.ClockRate, History: videoHistory,
		FirstSequenceNumber: binary.BigEndian.Uint16(random[:]) & 0x7fff, // half the range away from a wrap: RFC 3711 §3.3.1
		FirstTimestamp:      binary.BigEndian.Uint32(random[2:]),
	}
	if audio {
		cfg.History = audioHistory
	}
	wanted := Wanted{Quality: 2}
	if e.cfg.AdaptiveStream && !audio {
		wanted.Quality = 0 // until the client tells what it shows
	}
	x := &sender{
		id: s.Source.ID, kind: s.Source.Kind, cname: string(s.Publisher), media: s.Media, track: newLocalTrack(s),
		egress: e.egress, metrics: e.sfm.metrics, count: e.sfm.metrics.out(s.Source.Kind),
		rewriter: rtpstream.NewRewriter(cfg), layers: rtpstream.AllLayers,
		rtxSequence: binary.BigEndian.Uint16(random[6:]) & 0x7fff,
		choice:      newLayerChoice(s.Source, s.Media.Info.Encodings, wanted, e.sfm.now()),
	}
	x.writeRTCP = func(p []rtcp.Packet) error { return e.sub.pc.WriteRTCP(p) }
	x.sub = s.Media.Subscribe(x)
	x.egress.addSender(x)
	return x
}

// WritePacket queues a packet for the client.
func (s *sender) WritePacket(p *rtpstream.Packet) { s.egress.push(s, p) }

// activate begins to send: the stream is negotiated and the connection is up.
func (s *sender) activate(now time.Duration) {
	if s.track.bound.Load() == nil || s.active.Swap(true) {
		return
	}
	s.mu.Lock()
	s.choice.restart(now)
	s.start.patient = now + repairPatience
	s.mu.Unlock()
	if s.retarget(now) {
		s.egress.wake()
	}
}

// AvailableChanged implements rtpstream.Limited: the egress goroutine chooses anew.
func (s *sender) AvailableChanged() { s.egress.wake() }

// want takes what the client shows of the source.
func (s *sender) want(w Wanted, now time.Duration) {
	s.mu.Lock()
	s.choice.want(w, now)
	s.mu.Unlock()
	if s.retarget(now) {
		s.egress.wake()
	}
}

// close ends the subscription. It is idempotent.
func (s *sender) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.active.Store(false)
	s.egress.removeSender(s)
	s.sub.Close()
}

// retarget chooses the encoding anew, asks the source for it, and for a keyframe to switch at. It reports whether it
// waits for one.
func (s *sender) retarget(now time.Duration) (waiting bool) {
	s.demandMu.Lock()
	defer s.demandMu.Unlock()
	if !s.active.Load() {
		return false
	}
	s.mu.Lock()
	s.choice.allow(s.media.Available(), now)
	target, all := s.choice.target(now)
	if target != s.rewriter.Target() {
		s.rewriter.SetTarget(target)
		s.askedAt = 0
	}
	current := s.rewriter.Current()
	waiting = target != noEncoding && target != current
	ask := waiting && s.kind == mesh.Video && (s.askedAt == 0 || now-s.askedAt >= keyframeRetry) &&
		!s.media.Stream(uint8(target)).CanReplay(now, replayBytes)
	if ask {
		s.askedAt = now
	}
	if target != noEncoding && s.kind == mesh.Video {
		s.layers = s.choice.layers(s.media.Stream(uint8(target)).Structure())
		s.gate.Want(s.layers)
	}
	var demand rtpstream.Demand
	first := noEncoding
	if waiting && current == noEncoding {
		first = s.choice.first()
	}
	for _, e := range [...]int{target, current, s.choice.ideal, s.start.bridge - 1, first} {
		if e != noEncoding && target != noEncoding {
			demand = demand.With(uint8(e), s.layers)
		}
	}
	if all {
		demand = rtpstream.UpTo(1<<len(s.choice.sides)-1, s.layers)
	}
	s.mu.Unlock()
	s.sub.SetDemand(demand)
	if ask {
		s.sub.RequestKeyframe(uint8(target), rtpstream.KeyframeForJoin)
	}
	return waiting
}

// forward writes one packet. It is called by the egress goroutine only.
func (s *sender) forward(p *rtpstream.Packet, now time.Duration, buf *scratch) {
	b := s.track.bound.Load()
	if b == nil {
		return
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return
	}
	if p.Past && int(p.Stream.Encoding) != s.rewriter.Current() { // for who begins: see catchUp; else it fills a gap
		s.mu.Unlock()
		return
	}
	padding := len(p.Payload()) == 0 // probes the publisher's path, and proves no encoder at work
	if !padding {
		s.choice.seen[p.Stream.Encoding] = now
	}
	was := s.rewriter.Current()
	pass, rise := true, false
	if s.kind == mesh.Video && int(p.Stream.Encoding) == was {
		if pass, rise = s.gate.Pass(p); rise {
			rise = s.risingAt == 0 || now-s.risingAt >= keyframeRetry
		}
	}
	if rise {
		s.risingAt = now
	}
	if padding || p.Quiet || !pass {
		s.rewriter.Skip(p)
		s.mu.Unlock()
		if rise {
			s.sub.RequestKeyframe(p.Stream.Encoding, rtpstream.KeyframeForJoin)
		}
		return
	}
	w, ok := s.rewriter.Rewrite(p)
	if !ok {
		target := s.rewriter.Target()
		waiting := s.kind == mesh.Video && target != noEncoding && was != target &&
			(was == noEncoding || int(p.Stream.Encoding) == target)
		s.mu.Unlock()
		if waiting && s.catchUp(now, true, buf) { // what was kept elsewhere has come
			s.retarget(now)
		}
		return
	}
	switched := s.rewriter.Current() != was
	if switched {
		s.gate.Open(s.layers)
		s.gate.Pass(p)
	}
	payload := b.fill(buf, p, w, s.gate.Last(p))
	s.total.Packets++
	s.total.Bytes += uint64(len(payload))
	s.budget.earn(len(payload))
	s.report.sent(p, w.Timestamp, s.rewriter.TimestampOffset(), len(payload))
	s.mu.Unlock()

	s.count.count(len(payload))
	if _, err := b.writer.WriteRTP(&buf.header, payload); err != nil {
		s.metrics.drops[dropWrite].Inc()
	}
	if switched {
		s.retarget(now) // the encoding switched from is not needed any more
		s.egress.wake() // the report that places the new timestamps in time
	}
}

// tick does what is due and reports whether it should be called again soon. It is called by the egress goroutine only.
func (s *sender) tick(now time.Duration, buf *scratch) (soon bool) {
	if !s.active.Load() {
		return false
	}
	soon = s.retarget(now)
	if s.kind == mesh.Video && s.catchUp(now, soon, buf) {
		soon = s.retarget(now)
	}
	b := s.track.bound.Load()
	if b == nil {
		return soon
	}
	s.mu.Lock()
	packets := s.report.due(now, b.ssrc, s.media.Info.ClockRate, s.cname)
	s.mu.Unlock()
	if packets != nil {
		// A report lost to a connection going down is no loss.
		_ = s.writeRTCP(packets)
	}
	return soon
}

func (s *sender) stats() (SubscriptionStats, time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.total
	out.Source, out.Target, out.Current = s.id, s.rewriter.Target(), s.rewriter.Current()
	return out, s.rtt
}

// fill makes the outgoing header in buf and returns the outgoing payload.
func (b *binding) fill(buf *scratch, p *rtpstream.Packet, w rtpstream.Rewritten, marker bool) []byte {
	buf.header = rtp.Header{
		Version: 2, Marker: marker, PayloadType: b.payloadType, SequenceNumber: w.SequenceNumber(),
		Timestamp: w.Timestamp, SSRC: b.ssrc, Extensions: buf.header.Extensions[:0],
	}
	for _, m := range b.extensions {
		if m.from == 0 {
			break
		}
		if value := p.Extension(m.from); len(value) > 0 && len(value) <= m.most {
			_ = buf.header.SetExtension(m.to, value) // fits: 1 ≤ ID ≤ 14, and the first one decides over the form
		}
	}
	buf.payload = w.AppendPayload(buf.payload[:0], p)
	return buf.payload
}

func isVP8(mime string) bool { return mime == "video/VP8" || mime == "video/vp8" }

func itoa(v uint8) string { return strconv.Itoa(int(v)) }
