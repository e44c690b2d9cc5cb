package rtpstream

import (
	"sync"
	"sync/atomic"
	"time"
)

// Cache sizes in packets: about two seconds of 2.5 Mbit/s video, about a second of 20 ms audio.
const (
	videoCachePackets = 512
	audioCachePackets = 64
)

// SenderClock maps a stream's RTP timestamps to the publisher's own wall clock, from its RTCP sender report
// (RFC 3550 §6.4.1). It travels over the mesh verbatim: lip sync hangs on it and on no node's clock.
type SenderClock struct {
	NTP          uint64 // 64-bit NTP timestamp of the publisher
	RTPTimestamp uint32 // the same instant in the stream's clock
}

// Stream is one RTP stream (RFC 3550 §3): one SSRC, one direction, of one encoding of a source.
type Stream struct {
	Encoding uint8 // index in the source, 0 the smallest

	source *Source
	fanout Fanout
	cache  *Cache
	gop    gop // of video
	clock  atomic.Pointer[SenderClock]

	codec        codec
	dependencies *DependencyReader // used by Describe only; nil without the header extension
	structure    atomic.Pointer[Structure]

	seq   Unwrapper[uint16] // used by Write only
	ts    Unwrapper[uint32] // used by Write only
	mu    sync.Mutex
	stats streamStats // guarded by mu
}

func newStream(source *Source, encoding uint8) *Stream {
	size := videoCachePackets
	if source.Info.Audio {
		size = audioCachePackets
	}
	s := &Stream{Encoding: encoding, source: source, cache: NewCache(size), codec: codecOf(source.Info.MIMEType)}
	if source.Info.DependencyDescriptor != 0 && !source.Info.Audio {
		s.dependencies = new(DependencyReader)
	}
	return s
}

// Source is the source this stream is an encoding of.
func (s *Stream) Source() *Source { return s.source }

// Write takes a parsed packet from the producer, extends its counters, counts it, keeps it for retransmission and hands
// it to every sink. Duplicates and packets too late for the cache are counted and dropped. The caller keeps its
// reference. One goroutine at a time may call Write on a stream.
func (s *Stream) Write(p *Packet) {
	p.Stream = s
	p.ExtSeq = s.seq.Unwrap(p.SequenceNumber)
	p.ExtTimestamp = s.ts.Unwrap(p.Timestamp)
	fresh := s.cache.Put(p)
	s.mu.Lock()
	s.stats.count(p, fresh, s.source.Info.ClockRate)
	s.mu.Unlock()
	if !fresh {
		return
	}
	if s.source.Info.Audio {
		s.source.ear.listen(p)
	} else {
		s.gop.put(p, s.source.Info.ClockRate) // before the fanout: see Replay
	}
	s.fanout.WritePacket(p)
}

// Replay appends to out what a decoder can start from: the newest keyframe and all that came since, gapless, at most
// maxBytes of it and at most six seconds, each packet retained for the caller. It appends nothing when there is no such
// thing. A sink that subscribed before the call is given everything that comes after the last of them, and perhaps some
// of them again.
func (s *Stream) Replay(now time.Duration, maxBytes int, out []*Packet) []*Packet {
	return s.gop.snapshot(now, maxBytes, out)
}

// CanReplay reports whether Replay would append something now.
func (s *Stream) CanReplay(now time.Duration, maxBytes int) bool { return s.gop.fresh(now, maxBytes) }

// Cached returns a packet still held for retransmission, retained for the caller, or nil.
func (s *Stream) Cached(extSeq uint64) *Packet { return s.cache.Get(extSeq) }

// SetClock records the publisher's latest sender report.
func (s *Stream) SetClock(c SenderClock) { s.clock.Store(&c) }

// Clock returns the publisher's latest sender report, or nil before the first. The pointer changes with every report,
// so comparing pointers tells whether there is news.
func (s *Stream) Clock() *SenderClock { return s.clock.Load() }

// Stats returns what was counted since the stream began.
func (s *Stream) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats.snapshot(s.source.Info.ClockRate)
}

// Stats is what is known of a stream's arrival.
type Stats struct {
	Packets    uint64        // taken
	Bytes      uint64        // of whole RTP packets
	Duplicates uint64        // dropped: seen before, or too late to be kept
	Withheld   uint64        // left out on purpose on the way here
	Lost       uint64        // expected − received (RFC 3550 A.3) − withheld, never negative
	Jitter     time.Duration // interarrival jitter (RFC 3550 A.8)
	Keyframes  uint64
	LastPacket time.Duration // arrival of the latest packet
}

// streamStats counts arrivals. It is guarded by its stream.
type streamStats struct {
	Stats
	first, highest uint64
	lastTransit    int64
	jitter         float64 // RTP clock units
}

func (c *streamStats) count(p *Packet, fresh bool, clockRate uint32) {
	if !fresh {
		c.Duplicates++
		return
	}
	if c.Packets == 0 {
		c.first, c.highest = p.ExtSeq, p.ExtSeq
	}
	c.highest = max(c.highest, p.ExtSeq)
	c.first = min(c.first, p.ExtSeq)
	c.Packets++
	c.Bytes += uint64(p.size)
	c.Withheld += uint64(p.Withheld)
	if p.Keyframe {
		c.Keyframes++
	}
	arrival := int64(p.Arrival) / 1000 * int64(clockRate) / 1_000_000
	transit := arrival - int64(p.ExtTimestamp)
	if c.Packets > 1 {
		d := transit - c.lastTransit
		if d < 0 {
			d = -d
		}
		c.jitter += (float64(d) - c.jitter) / 16
	}
	c.lastTransit = transit
	c.LastPacket = p.Arrival
}

func (c *streamStats) snapshot(clockRate uint32) Stats {
	out := c.Stats
	if c.Packets > 0 {
		if expected := c.highest - c.first + 1; expected > c.Packets+c.Withheld {
			out.Lost = expected - c.Packets - c.Withheld
		}
	}
	if clockRate > 0 {
		out.Jitter = time.Duration(c.jitter / float64(clockRate) * float64(time.Second))
	}
	return out
}
