package sfm

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/webrtc/v4"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

// receiver takes one source from one client: a reading goroutine for each encoding, and the feedback to the client.
type receiver struct {
	source  mesh.Source
	mid     string
	track   string // the client's name of the track in its offer
	media   *rtpstream.Source
	rids    []string
	levelID uint8 // header extension of the audio level, 0 without

	e      *Endpoint
	pc     *webrtc.PeerConnection
	demand demandTracker // owned by the endpoint's loop

	ssrc [rtpstream.MaxEncodings]atomic.Uint32 // 0 until the encoding's stream began

	mu     sync.Mutex
	gates  rtpstream.KeyframeGates // guarded by mu
	tracks []*webrtc.TrackRemote   // guarded by mu
	closed bool                    // guarded by mu
}

func newReceiver(e *Endpoint, pc *webrtc.PeerConnection, src mesh.Source, m negotiated) *receiver {
	r := &receiver{source: src, mid: m.mid, rids: m.rids, e: e, pc: pc}
	r.levelID = extensionID(src.Extensions, uriAudioLevel)
	r.gates = rtpstream.KeyframeGates{JoinGap: e.sfm.cfg.KeyframeJoinInterval, RepairGap: e.sfm.cfg.KeyframeInterval}
	r.media = rtpstream.NewSource(rtpstream.SourceInfo{
		ID: string(src.ID), Audio: src.Kind == mesh.Audio, MIMEType: src.MIMEType, ClockRate: src.ClockRate,
		Encodings: max(len(m.rids), 1), DependencyDescriptor: extensionID(src.Extensions, rtpstream.DependencyDescriptorURI),
	}, r)
	// The client sends everything until it is told otherwise.
	r.demand = demandTracker{delay: e.sfm.cfg.DowngradeDelay, told: rtpstream.Everything(1<<r.media.Info.Encodings - 1)}
	e.egress.addReceiver(r)
	return r
}

// RequestKeyframe notes that a consumer needs a keyframe. The egress goroutine asks the client for it.
func (r *receiver) RequestKeyframe(encoding uint8, why rtpstream.KeyframeReason) {
	if encoding >= rtpstream.MaxEncodings || r.source.Kind != mesh.Video {
		return
	}
	r.e.sfm.metrics.keyframesRequested.Inc()
	r.mu.Lock()
	collapsed := r.gates.Request(encoding, why, r.e.sfm.now())
	r.mu.Unlock()
	if collapsed {
		r.e.sfm.metrics.keyframesThrottled.Inc()
	}
	r.e.egress.wake()
}

// DemandChanged has the loop look at the demand.
func (r *receiver) DemandChanged() { r.e.demandChanged() }

// tick sends the keyframe requests that are due and reports whether some wait. The egress goroutine calls it.
func (r *receiver) tick(now time.Duration) (soon bool) {
	var began rtpstream.EncodingSet
	for i := range uint8(rtpstream.MaxEncodings) {
		if r.ssrc[i].Load() != 0 {
			began = began.With(i)
		}
	}
	r.mu.Lock()
	ask := r.gates.Due(now, began)
	soon = r.gates.Pending()
	r.mu.Unlock()
	var packets []rtcp.Packet
	for i := range uint8(rtpstream.MaxEncodings) {
		if ask.Has(i) {
			packets = append(packets, &rtcp.PictureLossIndication{MediaSSRC: r.ssrc[i].Load()})
		}
	}
	if packets != nil && r.pc.WriteRTCP(packets) == nil {
		r.e.sfm.metrics.keyframesSent.Add(float64(len(packets)))
	}
	return soon
}

// begin starts to read one encoding. It is called by the endpoint's loop.
func (r *receiver) begin(track *webrtc.TrackRemote, from *webrtc.RTPReceiver) {
	encoding := 0
	rid := track.RID()
	for i, name := range r.rids {
		if name == rid {
			encoding = i
		}
	}
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return
	}
	r.tracks = append(r.tracks, track)
	r.mu.Unlock()
	if !r.ssrc[encoding].CompareAndSwap(0, uint32(track.SSRC())) {
		return // a stream has one writer; a second SSRC for the same encoding is not ours to mix in
	}
	r.e.wg.Go(func() { r.readRTP(track, r.media.Stream(uint8(encoding))) })
	r.e.wg.Go(func() { r.readRTCP(from, rid, r.media.Stream(uint8(encoding))) })
}

// close ends the source. Its readers end with it. It is idempotent.
func (r *receiver) close() {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return
	}
	r.closed = true
	tracks := r.tracks
	r.mu.Unlock()
	r.e.egress.removeReceiver(r)
	for _, t := range tracks {
		_ = t.SetReadDeadline(time.Unix(1, 0)) // wakes the reader; a track already gone needs no waking
	}
	r.media.Close()
}

func (r *receiver) isClosed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.closed
}

// readRTP is the goroutine that takes one encoding's packets. It ends with the track or the receiver.
func (r *receiver) readRTP(track *webrtc.TrackRemote, stream *rtpstream.Stream) {
	m := r.e.sfm.metrics
	count := m.in(r.source.Kind)
	for {
		p := r.e.sfm.pool.Get()
		n, _, err := track.Read(p.Buffer())
		if err != nil {
			p.Release()
			return
		}
		if p.Parse(n) != nil {
			m.drops[dropMalformed].Inc()
			p.Release()
			continue
		}
		p.Arrival = r.e.sfm.now()
		count.count(n)
		if r.source.Kind == mesh.Video {
			stream.Describe(p)
			if p.Keyframe {
				r.mu.Lock()
				r.gates.Arrived(stream.Encoding)
				r.mu.Unlock()
			}
		} else if r.levelID != 0 {
			if level := p.Extension(r.levelID); len(level) > 0 {
				p.AudioLevel = level[0] & 0x7f
			}
		}
		stream.Write(p)
		p.Release()
	}
}

// readRTCP is the goroutine that takes one encoding's sender reports. It ends with the track or the receiver.
func (r *receiver) readRTCP(from *webrtc.RTPReceiver, rid string, stream *rtpstream.Stream) {
	raw := make([]byte, rtpstream.MaxPacketBytes)
	for !r.isClosed() {
		var n int
		var err error
		if rid != "" {
			n, _, err = from.ReadSimulcast(raw, rid)
		} else {
			n, _, err = from.Read(raw)
		}
		if err != nil {
			return
		}
		packets, err := rtcp.Unmarshal(raw[:n])
		if err != nil {
			r.e.sfm.metrics.drops[dropMalformed].Inc()
			continue
		}
		for _, p := range packets {
			if sr, ok := p.(*rtcp.SenderReport); ok && sr.SSRC == r.ssrc[stream.Encoding].Load() {
				stream.SetClock(rtpstream.SenderClock{NTP: sr.NTPTime, RTPTimestamp: sr.RTPTime})
			}
		}
	}
}
