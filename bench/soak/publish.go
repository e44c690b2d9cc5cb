package soak

import (
	"context"
	"encoding/binary"
	"sync"
	"sync/atomic"
	"time"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

const (
	videoBytes = 1100
	audioBytes = 110
	audioGap   = 20 * time.Millisecond
	keyEvery   = 3 * time.Second
	reportGap  = 5 * time.Second
	clockRate  = 90_000
)

// publication is a camera or a microphone of a node. Ending it and beginning anew keeps its ID.
type publication struct {
	id    mesh.SourceID
	node  *node
	audio bool
	gap   time.Duration // between two packets

	mu     sync.Mutex
	source *rtpstream.Source // guarded by mu

	keyframe atomic.Bool // asked for
	seq      uint16      // the publisher's own
	next     time.Duration
	key      time.Duration
	report   time.Duration
}

// RequestKeyframe implements rtpstream.Feedback.
func (p *publication) RequestKeyframe(uint8, rtpstream.KeyframeReason) { p.keyframe.Store(true) }

// DemandChanged implements rtpstream.Feedback: it publishes whatever is wanted.
func (p *publication) DemandChanged() {}

// begin makes its source anew; the one before ends.
func (p *publication) begin() {
	fresh := rtpstream.NewSource(rtpstream.SourceInfo{
		ID: string(p.id), Audio: p.audio, MIMEType: p.mesh().MIMEType, ClockRate: clockRate, Encodings: 1,
	}, p)
	p.mu.Lock()
	old := p.source
	p.source = fresh
	p.mu.Unlock()
	p.node.offer(p.id, fresh)
	if old != nil {
		old.Close()
	}
}

func (p *publication) mesh() mesh.Source {
	kind, mime := mesh.Video, "video/VP8"
	if p.audio {
		kind, mime = mesh.Audio, "audio/opus"
	}
	return mesh.Source{ID: p.id, Kind: kind, MIMEType: mime, ClockRate: clockRate, Encodings: make([]mesh.Encoding, 1)}
}

// publisher writes the packets of all publications, on one goroutine.
type publisher struct {
	all  []*publication
	pool rtpstream.Pool
	sent atomic.Uint64
}

func (p *publisher) run(ctx context.Context) {
	start := time.Now()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := time.Since(start)
		for _, pub := range p.all {
			if now > pub.next+time.Second { // the machine slept
				pub.next = now
			}
			for ; pub.next <= now; pub.next += pub.gap {
				p.write(pub, pub.next)
			}
		}
	}
}

func (p *publisher) write(pub *publication, at time.Duration) {
	pub.mu.Lock()
	source := pub.source
	pub.mu.Unlock()
	pkt := p.pool.Get()
	defer pkt.Release()
	n := videoBytes
	if pub.audio {
		n = audioBytes
	}
	b := pkt.Buffer()[:n]
	timestamp := uint32(at * clockRate / time.Second)
	b[0], b[1] = 0x80, 96
	binary.BigEndian.PutUint16(b[2:], pub.seq)
	binary.BigEndian.PutUint32(b[4:], timestamp)
	pub.seq++
	if pkt.Parse(n) != nil {
		return // cannot be: it was built two lines above
	}
	if pub.keyframe.Swap(false) || at-pub.key >= keyEvery {
		pkt.Keyframe, pub.key = !pub.audio, at
	}
	pkt.Arrival = at
	source.Stream(0).Write(pkt)
	p.sent.Add(1)
	if at-pub.report >= reportGap {
		pub.report = at
		source.Stream(0).SetClock(rtpstream.SenderClock{NTP: uint64(at) << 2, RTPTimestamp: timestamp})
	}
}

// counter is a subscriber.
type counter struct{ n atomic.Uint64 }

// WritePacket implements rtpstream.Sink.
func (c *counter) WritePacket(*rtpstream.Packet) { c.n.Add(1) }
