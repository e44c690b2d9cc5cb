package cascade

import (
	"encoding/binary"
	"slices"
	"sync"
	"time"

	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

// publisher is a client that sends VP8 in simulcast, three temporal layers each, and a keyframe only when asked, behind
// the gate that stands in front of every client. It sends what is demanded.
type publisher struct {
	*rtpstream.Source
	pool  rtpstream.Pool
	rates []int // bits per second

	mu    sync.Mutex
	gates rtpstream.KeyframeGates // guarded by mu
	asked []int                   // requests that reached the publisher, by encoding; guarded by mu
	times []time.Duration         // of the requests, each for one or more encodings; guarded by mu
	key   []bool                  // the next frame is one; guarded by mu

	frame int
	seq   [rtpstream.MaxEncodings]uint16
	start time.Time
	stop  chan struct{}
}

func newPublisher(id string, rates ...int) *publisher {
	p := &publisher{rates: rates, start: time.Now(), stop: make(chan struct{})}
	p.gates = rtpstream.KeyframeGates{JoinGap: 5 * time.Second, RepairGap: time.Second}
	p.asked, p.key = make([]int, len(rates)), make([]bool, len(rates))
	p.Source = rtpstream.NewSource(rtpstream.SourceInfo{
		ID: id, MIMEType: "video/VP8", ClockRate: 90000, Encodings: len(rates),
	}, p)
	return p
}

func (p *publisher) RequestKeyframe(e uint8, why rtpstream.KeyframeReason) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gates.Request(e, why, time.Since(p.start))
}

func (p *publisher) DemandChanged() {}

func (p *publisher) requests() []int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.asked)
}

// run sends 30 frames a second until stop is closed. Requests take 40 ms to the client.
func (p *publisher) run() {
	tick := time.NewTicker(time.Second / 30)
	defer tick.Stop()
	for {
		select {
		case <-p.stop:
			return
		case <-tick.C:
			p.step()
		}
	}
}

func (p *publisher) step() {
	now := time.Since(p.start)
	demand := p.Demand()
	p.frame++
	p.mu.Lock()
	ask := p.gates.Due(now, 1<<len(p.rates)-1)
	if ask != 0 {
		p.times = append(p.times, now)
	}
	p.mu.Unlock()
	for e := range p.rates {
		p.mu.Lock()
		if ask.Has(uint8(e)) {
			p.asked[e]++
			time.AfterFunc(40*time.Millisecond, func() {
				p.mu.Lock()
				p.key[e] = true
				p.mu.Unlock()
			})
		}
		key := p.key[e] && demand.Encodings.Has(uint8(e))
		if key {
			p.key[e] = false
			p.gates.Arrived(uint8(e))
		}
		p.mu.Unlock()
		if demand.Encodings.Has(uint8(e)) {
			p.send(e, key, now)
		}
	}
}

// temporal is the layer of a frame, and its share of the mean frame size in tenths: 40, 20 and 40 % of the bits.
func temporal(frame int, key bool) (tid uint8, share int) {
	switch {
	case key || frame%4 == 0:
		return 0, 16
	case frame%4 == 2:
		return 1, 8
	}
	return 2, 8
}

func (p *publisher) send(e int, key bool, now time.Duration) {
	tid, share := temporal(p.frame, key)
	bytes := p.rates[e] / 8 / 30 * share / 10
	if key {
		bytes = p.rates[e] / 8 / 5
	}
	packets := max(1, (bytes+1099)/1100)
	for i := range packets {
		pkt := p.pool.Get()
		d := rtpstream.VP8Descriptor{
			Start: i == 0, HasPictureID: true, LongPictureID: true, PictureID: uint16(p.frame) & 0x7fff,
			HasTL0: true, TL0: uint8(p.frame / 4), HasTID: true, TID: tid,
		}
		raw := pkt.Buffer()[:12]
		clear(raw)
		raw[0], raw[1] = 0x80, 96
		if i == packets-1 {
			raw[1] |= 0x80
		}
		binary.BigEndian.PutUint16(raw[2:], p.seq[e])
		binary.BigEndian.PutUint32(raw[4:], uint32(p.frame)*3000)
		p.seq[e]++
		raw = d.Append(raw)
		first := byte(1)
		if key {
			first = 0
		}
		raw = append(raw, first)
		raw = raw[:max(len(raw), min(1150, bytes/packets))]
		if err := pkt.Parse(len(raw)); err != nil {
			panic(err)
		}
		pkt.MarkVP8()
		pkt.Arrival = now
		p.Stream(uint8(e)).Write(pkt)
		pkt.Release()
	}
}

// viewer watches a source as a node's sender to a client does: it begins with what is kept, or asks for a keyframe, and
// makes one stream of what it gets.
type viewer struct {
	clock func() time.Duration
	sub   *rtpstream.Subscription
	since time.Duration

	mu       sync.Mutex
	rewriter *rtpstream.Rewriter
	tid      uint8
	askedAt  time.Duration
	last     rtpstream.Rewritten
	started  bool
	sight
}

// sight is what a viewer saw so far.
type sight struct {
	first    time.Duration // from joining to the first frame that can be decoded; 0 is not yet
	switched time.Duration // from the wish for another encoding to its first frame
	wished   time.Duration // when that was, 0 when it was fulfilled
	frames   int
	gaps     int
}

func (v *viewer) saw() sight {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.sight
}

func watch(c *Cascade, src *rtpstream.Source, encoding int, tid uint8) *viewer {
	v := &viewer{clock: c.now, since: c.now(), tid: tid, rewriter: rtpstream.NewRewriter(rtpstream.RewriterConfig{
		VP8: true, ClockRate: 90000, History: 512, FirstSequenceNumber: 100, FirstTimestamp: 77,
	})}
	v.sub = src.Subscribe(v)
	v.target(encoding)
	return v
}

func (v *viewer) target(encoding int) {
	v.mu.Lock()
	v.rewriter.SetTarget(encoding)
	v.askedAt, v.wished = 0, v.clock()
	v.mu.Unlock()
	v.demand()
	v.tick()
}

func (v *viewer) demand() {
	v.mu.Lock()
	d := rtpstream.Demand{}
	for _, e := range []int{v.rewriter.Target(), v.rewriter.Current()} {
		if e != rtpstream.NoEncoding {
			d = d.With(uint8(e), rtpstream.Layers{Spatial: rtpstream.AllSpatial, Temporal: v.tid})
		}
	}
	v.mu.Unlock()
	v.sub.SetDemand(d)
}

// tick is called now and then.
func (v *viewer) tick() {
	v.mu.Lock()
	target := v.rewriter.Target()
	waiting := target != v.rewriter.Current()
	v.mu.Unlock()
	if !waiting || v.begin(target) {
		return
	}
	now := v.clock()
	v.mu.Lock()
	ask := v.askedAt == 0 || now-v.askedAt >= 500*time.Millisecond
	if ask {
		v.askedAt = now
	}
	v.mu.Unlock()
	if ask {
		v.sub.RequestKeyframe(uint8(target), rtpstream.KeyframeForJoin)
	}
}

func (v *viewer) begin(target int) bool {
	v.mu.Lock()
	list := v.sub.Source().Stream(uint8(target)).Replay(v.clock(), 384<<10, nil)
	if len(list) > 0 {
		v.rewriter.Replay(list)
	}
	for _, p := range list {
		v.takeLocked(p)
		p.Release()
	}
	v.mu.Unlock()
	if len(list) > 0 {
		v.demand()
	}
	return len(list) > 0
}

func (v *viewer) WritePacket(p *rtpstream.Packet) {
	if p.Past {
		return
	}
	v.mu.Lock()
	was := v.rewriter.Current()
	sent := v.takeLocked(p)
	is := v.rewriter.Current()
	waiting := !sent && int(p.Stream.Encoding) == v.rewriter.Target() && is != v.rewriter.Target()
	v.mu.Unlock()
	if waiting {
		v.begin(int(p.Stream.Encoding))
	} else if was != is {
		v.demand()
	}
}

func (v *viewer) takeLocked(p *rtpstream.Packet) bool {
	if p.Temporal > v.tid {
		v.rewriter.Skip(p)
		return true
	}
	w, ok := v.rewriter.Rewrite(p)
	if !ok {
		return false
	}
	now := v.clock()
	if v.first == 0 {
		v.first = now - v.since + 1
	}
	if v.wished != 0 && v.rewriter.Current() == v.rewriter.Target() {
		v.switched, v.wished = now-v.wished, 0
	}
	if v.started && w.ExtSeq != v.last.ExtSeq+1 {
		v.gaps++
	}
	if v.started && int32(w.Timestamp-v.last.Timestamp) < 0 {
		panic("a timestamp goes back")
	}
	v.last, v.started = w, true
	if p.Marker {
		v.frames++
	}
	return true
}
