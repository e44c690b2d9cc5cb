package cascade

import (
	"math/bits"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

// sender is the outgoing half of a link: scheduler, numbering, cache and the queues of the lanes, under one mutex. All
// of its methods return without waiting for the network. What goes over a direct lane leaves in the caller's own call,
// or with the flusher's next round.
type sender struct {
	videoDelay, audioDelay time.Duration
	suspectAfter           time.Duration
	queueBytes             int
	stats                  *counters
	queueDelay             prometheus.Observer
	kick                   chan struct{} // capacity 1: due is earlier than it was
	flusher                *flusher      // nil in tests that flush themselves

	mu        sync.Mutex
	sched     scheduler
	cache     *sendCache
	lanes     []*lane // attached
	steady    *lane   // the direct lane media takes while it is well
	gathering gathering
	next      uint64 // link sequence number of the next packet
	maxBytes  int    // largest datagram every lane carries
	turn      int    // rotates the choice between equal lanes
	sampled   uint   // packets, to observe the delay of every sixteenth
	repair    outgoingRepair
	pace      pacer
	rate      linkRate
	nextAge   time.Duration
	asking    allowance // packets the peer may ask for
	offered   uint64    // bytes of RTP flows brought
	drained   uint64    // bytes of datagrams lanes took
	closed    bool
}

func newSender(cfg Config, stats *counters, queueDelay prometheus.Observer) *sender {
	return &sender{
		videoDelay:   cfg.QueueDelay,
		audioDelay:   cfg.AudioQueueDelay,
		suspectAfter: cfg.SuspectAfter,
		queueBytes:   cfg.QueueBytes,
		stats:        stats,
		queueDelay:   queueDelay,
		sched:        newScheduler(cfg.QueueBytes, stats),
		cache:        newSendCache(),
		next:         1,
		asking:       newAllowance(askedSteps, askedSaved),
		kick:         make(chan struct{}, 1),
		repair:       newOutgoingRepair(),
		maxBytes:     safeDatagram,
	}
}

// wake makes the ticker look at once.
func (s *sender) wake() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// write queues a packet of a flow, retaining it.
func (s *sender) write(f *sendFlow, p *rtpstream.Packet, now time.Duration) {
	s.mu.Lock()
	if s.closed || f.closed {
		s.mu.Unlock()
		return
	}
	if !s.accept(f, p, p.Past, now) {
		s.mu.Unlock()
		return
	}
	s.remind(now)
	if f.relayed && s.flusher != nil {
		s.flusher.relayed.Store(true)
	}
	s.depart(now, f.audio || p.Marker)
}

// replay queues what was kept of an encoding, retaining it.
func (s *sender) replay(f *sendFlow, packets []*rtpstream.Packet, now time.Duration) {
	for _, p := range packets {
		s.mu.Lock()
		if s.closed || f.closed || !s.accept(f, p, true, now) {
			s.mu.Unlock()
			continue
		}
		s.remind(now)
		s.depart(now, p.Marker)
	}
}

// accept gives a packet to the scheduler, retaining it, and moves on what can leave. It reports false when the packet is
// left out. The mutex is held.
func (s *sender) accept(f *sendFlow, p *rtpstream.Packet, past bool, now time.Duration) bool {
	before, send := f.encoding(p).withheld.next(p, f.leavesOut(p), f.audio)
	if !send {
		return false
	}
	s.offered += uint64(len(p.Raw()))
	f.layerBytes.add(p)
	it := item{pkt: p.Retain(), flow: f, compact: s.repair.compact, queued: now, deadline: now + s.videoDelay, past: past, withheld: before}
	switch {
	case f.audio:
		it.class, it.deadline = classAudio, now+s.audioDelay
	case past:
		it.deadline = now + replayDelay
		fallthrough
	default:
		it.class = f.encoding(p).classify(p)
	}
	s.sched.push(it)
	s.pump(now)
	return true
}

// classify tells the class of a video packet: base for all packets of a keyframe and for base layers.
func (e *sendEncoding) classify(p *rtpstream.Packet) class {
	if p.Keyframe {
		e.keyframe, e.keyframeTimestamp = true, p.Timestamp
	}
	if (e.keyframe && e.keyframeTimestamp == p.Timestamp) || (p.Spatial == 0 && p.Temporal == 0) {
		return classBase
	}
	return classRest
}

// repeat queues again what the peer asks for, and reports whether it may ask for so much.
func (s *sender) repeat(entries []nackEntry, now, rtt time.Duration) bool {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return true
	}
	if !s.asking.open(now) {
		s.mu.Unlock()
		return false
	}
	s.asking.spend(askedFrame)
	for _, e := range entries {
		s.asking.spend(1 + bits.OnesCount32(e.Bits))
		s.repeatOne(e.Base, now, rtt)
		for left, seq := e.Bits, e.Base+1; left != 0; left, seq = left>>1, seq+1 {
			if left&1 != 0 {
				s.repeatOne(seq, now, rtt)
			}
		}
	}
	s.pump(now)
	s.remind(now)
	s.departNow()
	return true
}

func (s *sender) repeatOne(seq32 uint32, now, rtt time.Duration) {
	s.stats.nacksIn.Add(1)
	back := uint64(uint32(s.next) - seq32) // modulo 2³²: how long ago
	if back == 0 || back > sendCachePackets || back >= s.next {
		return
	}
	if s.cache.missed(s.next - back) {
		s.rate.asked++
	}
	if s.rate.draining() && s.cache.dispensable(s.next-back) {
		s.stats.drop(dropBudget)
		return
	}
	it, why, ok := s.cache.repeat(s.next-back, now, rtt/2)
	if !ok {
		if why == dropBudget {
			s.stats.drop(why)
		}
		return
	}
	it.queued, it.deadline = now, now+s.videoDelay
	s.sched.push(it)
	if s.repair.bursts && !s.repair.again.full() {
		s.repair.again.push(sendCopy{it.seq, now + againAfter})
	}
}

// pump moves packets from the scheduler to lanes with room as fast as the pacer lets it, audio even past a full queue.
// The mutex is held.
func (s *sender) pump(now time.Duration) {
	s.pumpRing(now, true, classAudio, classAudio)
	s.rate.windows.full(now, s.pumpRing(now, false, classAudio+1, numClasses-1))
	s.pad(now)
}

// pumpRing reports whether lanes are what the rest waits for.
func (s *sender) pumpRing(now time.Duration, urgent bool, from, to class) (full bool) {
	for s.sched.waiting(from, to) && s.pace.ready(now, urgent) {
		if !s.room(now, urgent) {
			return true
		}
		it, ok := s.sched.pop(now, from, to)
		if !ok {
			return false
		}
		s.transmit(it, s.pick(now, it.avoid, urgent), now)
	}
	return false
}

// transmit numbers an item and queues it on a lane, in two halves when it does not fit a datagram.
func (s *sender) transmit(it item, l *lane, now time.Duration) {
	if it.retransmission {
		s.stats.retransmissions.Add(1)
		s.stats.overhead.Add(uint64(len(it.rtp())))
		s.pace.spend(len(it.rtp()) + mediaHeaderBytes)
		s.enqueue(it, l)
		return
	}
	if len(it.pkt.Raw())+mediaHeaderBytes <= s.maxBytes {
		s.send(it, l, now)
	} else {
		s.stats.fragments.Add(1)
		second := it
		it.half, second.half = 1, 2
		it.pkt.Retain()
		s.send(it, l, now)
		s.send(second, l, now)
	}
	s.stats.out.count(it.flow.audio, len(it.pkt.Raw()))
	if s.sampled++; s.sampled&15 == 0 && s.queueDelay != nil {
		s.queueDelay.Observe((now - it.queued).Seconds())
	}
}

func (s *sender) send(it item, l *lane, now time.Duration) {
	it.seq = s.next
	s.next++
	s.cache.put(it, l, now)
	s.rate.left(it.seq, s.drained, now)
	s.pace.spend(len(it.rtp()) + mediaHeaderBytes)
	s.enqueue(it, l)
	s.protect(&it, now)
}

// enqueue takes over an item that goes out on lane l.
func (s *sender) enqueue(it item, l *lane) {
	if l.direct != nil {
		s.gather(it, l)
		return
	}
	l.ring(it.urgent()).push(it)
	l.signal()
}

// fill appends to b the next datagram of a lane and reports whether there is one: control frames first, then as many
// packets as fit. Called by the lane's send loop only.
func (s *sender) fill(l *lane, b []byte, now time.Duration) ([]byte, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for l.control.n > 0 && len(b)+l.control.peek().n <= l.max {
		c := l.control.peek()
		b = append(b, c.b[:c.n]...)
		l.control.pop()
	}
	for q := l.next(); q != nil; q = l.next() {
		if len(b) > 0 && len(b)+mediaHeaderBytes+len(q.peek().rtp()) > l.max {
			break
		}
		taken := q.pop()
		q = l.next()
		last := q == nil || len(b)+2*mediaHeaderBytes+len(taken.rtp())+len(q.peek().rtp()) > l.max
		if len(b) > 0 {
			s.stats.coalesced.Add(1)
		}
		b = taken.append(b, last)
		taken.pkt.Release()
		if last { // it reaches to the end of the datagram
			break
		}
	}
	s.pump(now)
	s.drained += uint64(len(b))
	return b, len(b) > 0
}

// append appends the item's frame.
func (it *item) append(b []byte, last bool) []byte {
	switch it.half {
	case halfParity:
		return append(appendFrameHead(b, it.kind, it.size, last), it.rtp()...)
	case halfPadding:
		return append(appendFrameHead(b, framePadding, it.size, last), it.rtp()...)
	}
	h := it.header()
	if it.compact && h.fits() {
		if c := it.flow.contexts[h.Encoding%rtpstream.MaxEncodings].Load(); c != nil {
			if b, ok := appendContext(b, &h, c, it.rtp(), last); ok {
				return b
			}
		}
		return appendShort(b, &h, it.rtp(), last)
	}
	return appendMedia(b, &h, it.rtp(), last)
}

func (it *item) header() mediaHeader {
	p := it.pkt
	h := mediaHeader{
		Flow: it.flow.id, LinkSeq: uint32(it.seq), Keyframe: p.Keyframe, Marker: p.Marker,
		Retransmission: it.retransmission, Class: it.class, Encoding: p.Stream.Encoding,
		Spatial: p.Spatial, Temporal: p.Temporal, AudioLevel: p.AudioLevel,
		Withheld: it.withheld, Quiet: p.Quiet, Past: it.past,
	}
	if it.half != 0 {
		h.Total, h.Second = uint16(len(p.Raw())), it.half == 2
	}
	return h
}

// control queues a control frame on lane l, or with nil on the best lane. It reports false when there is no lane with
// room.
func (s *sender) control(l *lane, frame []byte, now time.Duration) bool {
	s.mu.Lock()
	if l == nil {
		if l = s.pick(now, nil, true); l == nil && len(s.lanes) > 0 {
			l = s.lanes[0]
		}
	}
	if l == nil || l.control.full() || len(frame) > laneControlBytes || !slices.Contains(s.lanes, l) {
		s.mu.Unlock()
		return false
	}
	if l.direct != nil {
		s.gatherControl(frame, l)
		s.departNow()
		return true
	}
	defer s.mu.Unlock()
	var c controlFrame
	c.n = copy(c.b[:], frame)
	l.control.push(c)
	l.signal()
	return true
}

// tick drops what is too late, moves packets off stalled lanes and forgets what nobody will ask for. It reports whether
// layers are to be planned anew.
func (s *sender) tick(now time.Duration) (changed bool) {
	s.mu.Lock()
	why := dropExpired
	if len(s.lanes) == 0 {
		why = dropLaneDown
	}
	s.sched.expire(now, why)
	for _, l := range s.lanes {
		if !l.stalled(now) {
			continue
		}
		for _, urgent := range [...]bool{true, false} {
			for q := l.ring(urgent); q.n > 0 && s.room(now, urgent); {
				other := s.pick(now, l, urgent)
				other.ring(urgent).push(q.pop())
				other.signal()
			}
		}
	}
	if now >= s.nextAge {
		s.cache.age(now)
		s.nextAge = now + ageEvery
	}
	if s.rate.on {
		s.rate.ctl.tick(now)
		s.setPace(now)
	}
	s.pump(now)
	changed = s.shedding()
	s.mend(now, 0)
	s.departNow()
	return changed
}

// busy reports whether anything waits.
func (s *sender) busy() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.lanes {
		if l.waiting() > 0 {
			return true
		}
	}
	return !s.sched.empty()
}

// highest is the link sequence number of the last packet sent.
func (s *sender) highest() uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return uint32(s.next - 1)
}

// endFlow makes everything of a flow that waits pointless. Packets of it already on a lane still leave.
func (s *sender) endFlow(f *sendFlow) {
	s.mu.Lock()
	f.closed = true
	s.mu.Unlock()
}

// close releases every packet; nothing is taken from now on.
func (s *sender) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.sched.clear()
	s.cache.clear()
	s.repair.clear()
	for _, l := range s.lanes {
		l.clear()
	}
	s.lanes = nil
}
