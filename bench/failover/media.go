package failover

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

// What is published.
const (
	audioEvery   = 20 * time.Millisecond
	audioBytes   = 112
	frameEvery   = time.Second / 30
	framePackets = 4
	keyPackets   = 16
	videoBytes   = 1150
	clientRTT    = 40 * time.Millisecond // between the publisher and its node
)

// feed is a microphone or a camera. A keyframe that is asked for is the next frame after the wish has reached the client
// and the frame this node.
type feed struct {
	src    *rtpstream.Source
	pool   rtpstream.Pool
	seq    uint16
	ts     uint32
	keys   atomic.Int64 // asked for
	wanted atomic.Bool
	asking atomic.Bool
	late   atomic.Int64 // nanoseconds the machine was late with a frame, at most, since it was set to 0
}

var _ rtpstream.Feedback = (*feed)(nil)

func newFeed(id mesh.SourceID, audio bool) *feed {
	f := new(feed)
	info := rtpstream.SourceInfo{ID: string(id), Audio: audio, MIMEType: "video/VP8", ClockRate: 90000, Encodings: 1}
	if audio {
		info.MIMEType, info.ClockRate = "audio/opus", 48000
	}
	f.src = rtpstream.NewSource(info, f)
	return f
}

// RequestKeyframe implements rtpstream.Feedback.
func (f *feed) RequestKeyframe(uint8, rtpstream.KeyframeReason) {
	f.keys.Add(1)
	if f.asking.Swap(true) {
		return
	}
	time.AfterFunc(clientRTT, func() {
		f.asking.Store(false)
		f.wanted.Store(true)
	})
}

// DemandChanged implements rtpstream.Feedback.
func (f *feed) DemandChanged() {}

// run publishes until ctx ends.
func (f *feed) run(ctx context.Context, start time.Time) {
	every := frameEvery
	if f.src.Info.Audio {
		every = audioEvery
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for i := 1; ; i++ {
		timer.Reset(time.Until(start.Add(time.Duration(i) * every)))
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		late := int64(time.Since(start.Add(time.Duration(i) * every)))
		for old := f.late.Load(); late > old && !f.late.CompareAndSwap(old, late); old = f.late.Load() {
		}
		f.frame(every)
	}
}

func (f *feed) frame(every time.Duration) {
	n, size, key := framePackets, videoBytes, false
	if f.src.Info.Audio {
		n, size = 1, audioBytes
	} else if key = f.wanted.Swap(false); key {
		n = keyPackets
	}
	f.ts += uint32(every.Seconds() * float64(f.src.Info.ClockRate))
	for i := range n {
		p := f.pool.Get()
		b := p.Buffer()[:size]
		clear(b)
		b[0], b[1] = 0x80, 96
		if i == n-1 {
			b[1] |= 0x80
		}
		f.seq++
		b[2], b[3] = byte(f.seq>>8), byte(f.seq)
		b[4], b[5], b[6], b[7] = byte(f.ts>>24), byte(f.ts>>16), byte(f.ts>>8), byte(f.ts)
		if err := p.Parse(size); err != nil {
			panic("failover: own packet: " + err.Error()) // it is made above
		}
		p.Keyframe = key && i == 0
		p.Arrival = time.Duration(time.Now().UnixNano())
		f.src.Stream(0).Write(p)
		p.Release()
	}
}

// sink notes when packets came.
type sink struct {
	mu       sync.Mutex
	arrivals []time.Time
	keys     []time.Time // of keyframes' first packets
}

var _ rtpstream.Sink = (*sink)(nil)

// WritePacket implements rtpstream.Sink.
func (s *sink) WritePacket(p *rtpstream.Packet) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.arrivals = append(s.arrivals, now)
	if p.Keyframe {
		s.keys = append(s.keys, now)
	}
}

// flows reports whether a packet came within the last quarter of a second.
func (s *sink) flows() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.arrivals) > 0 && time.Since(s.arrivals[len(s.arrivals)-1]) < 250*time.Millisecond
}

// gap is the longest time without a packet between two moments, that to the last packet before the first included.
func (s *sink) gap(from, to time.Time) (longest time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	last := time.Time{}
	for _, at := range s.arrivals {
		if at.After(to) {
			break
		}
		if at.After(from) && !last.IsZero() {
			longest = max(longest, at.Sub(last))
		}
		last = at
	}
	return max(longest, to.Sub(last))
}

// picture is how long after a moment a keyframe began to come, counted from the last packet before; 0 is never.
func (s *sink) picture(from time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	last := from
	for _, at := range s.arrivals {
		if at.After(from) {
			break
		}
		last = at
	}
	for _, at := range s.keys {
		if at.After(from) {
			return at.Sub(last)
		}
	}
	return 0
}
