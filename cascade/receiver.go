package cascade

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

// Limits of what may wait between lanes of QUIC DATAGRAMs and the receive loop of a link.
const (
	receiveQueue = 2048 // packets
	receiveAge   = 60 * time.Millisecond
)

// receiver is the incoming half of a link: it finds what is lost, makes up for it, puts in order and writes to the
// streams. What comes over direct lanes is dealt with by who reads it; what comes over others is queued for one loop,
// which also looks after packets that wait for others. They take turns.
type receiver struct {
	pool     *rtpstream.Pool
	stats    *counters
	queue    *rtpstream.Queue[inbound]
	fresh    atomic.Int64            // when what was queued last came, a time.Duration
	flows    atomic.Pointer[[]*pull] // by flow ID; replaced as a whole by the peer's goroutine
	contexts contextTable
	gap      chan struct{} // capacity 1: something is missing that was not before
	lies     atomic.Int64  // frames refused that would have cost too much, since the ticker looked
	holds    chan struct{} // capacity 1: something waits for less time than the loop does

	// turn is held while packets are dealt with and over the sinks, so that each stream has one writer. mu is taken
	// inside it. Nobody waits for it but who brings packets: sinks never block.
	turn   sync.Mutex
	ahead  reorder       // guarded by turn
	orders []flowOrder   // by flow ID; guarded by turn
	alarm  time.Duration // when the loop looks again, never when it does not; guarded by turn
	closed bool          // guarded by turn

	mu       sync.Mutex
	track    *tracker    // guarded by mu
	assemble reassembler // guarded by mu
	fec      fecDecoder  // guarded by mu
	seen     rateSeen    // guarded by mu
}

func newReceiver(cfg Config, pool *rtpstream.Pool, stats *counters) *receiver {
	return &receiver{
		pool:     pool,
		stats:    stats,
		queue:    rtpstream.NewQueue[inbound](receiveQueue),
		gap:      make(chan struct{}, 1),
		holds:    make(chan struct{}, 1),
		alarm:    never,
		track:    newTracker(cfg.RepairDeadline),
		assemble: reassembler{pool: pool, stats: stats},
		fec:      fecDecoder{pool: pool, stats: stats, effort: newAllowance(repairSteps, repairSaved)},
	}
}

// take parses a media, fragment or parity frame, and either deals with it or queues it. In the first case the caller
// has the turn. Called by lanes, concurrently.
func (r *receiver) take(f frame, now time.Duration, direct bool) error {
	var in inbound
	var err error
	switch {
	case f.parity():
		in, err = parseInboundParity(f, r.pool, now)
	case f.cut():
		in, err = r.parseInboundCut(f, now)
	default:
		in, err = parseInbound(f, r.pool, now)
	}
	switch {
	case err != nil:
		return err
	case !direct:
		r.enqueue(in)
	case r.closed:
		in.pkt.Release()
	default:
		r.deliver(&in)
	}
	return nil
}

func (r *receiver) enqueue(in inbound) {
	r.fresh.Store(int64(in.at))
	if old, evicted := r.queue.Push(in); evicted {
		r.stats.drop(dropRecvFull)
		old.pkt.Release()
	}
}

// next takes a packet off the queue, and drops those before it that are too old: what is asked for again comes sooner than
// the end of such a queue.
func (r *receiver) next() (in inbound, ok bool) {
	for {
		if in, ok = r.queue.Pop(); !ok || time.Duration(r.fresh.Load())-in.at <= receiveAge {
			return in, ok
		}
		r.stats.drop(dropRecvFull)
		in.pkt.Release()
	}
}

// run takes packets off the queue until ctx ends, and hands on what has waited long enough; clock tells the time.
func (r *receiver) run(ctx context.Context, clock func() time.Duration) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			r.close()
			return
		case <-r.queue.Wake():
		case <-r.holds:
		case <-timer.C:
		}
		for {
			in, ok := r.next()
			if !ok {
				break
			}
			r.turn.Lock()
			r.deliver(&in)
			r.turn.Unlock()
		}
		if pause := r.look(clock); pause < never {
			timer.Reset(max(pause, time.Millisecond/2))
		}
	}
}

// look hands on what has waited long enough and returns how long to wait for the next, or never.
func (r *receiver) look(clock func() time.Duration) time.Duration {
	r.turn.Lock()
	defer r.turn.Unlock()
	r.alarm = never
	if len(r.ahead.held) == 0 {
		return never
	}
	now := clock()
	if r.alarm = r.release(now); r.alarm == never {
		return never
	}
	return r.alarm - now
}

// watch makes the loop look at due, if it would not before. The turn is the caller's.
func (r *receiver) watch(due time.Duration) {
	if due >= r.alarm {
		return
	}
	r.alarm = due
	select {
	case r.holds <- struct{}{}:
	default:
	}
}

// deliver deals with what came in. The turn is the caller's, here and below.
func (r *receiver) deliver(in *inbound) {
	if in.parity.Packets != 0 {
		r.restore(in)
		return
	}
	r.mu.Lock()
	quiet := !r.track.pending()
	in.h.complete(r.track.highest)
	if !in.restored && !r.affords(in.h.LinkSeq, in.at) {
		r.mu.Unlock()
		r.refuse()
		in.pkt.Release()
		return
	}
	seq, fresh := r.track.received(in.h.LinkSeq, in.h.Retransmission, in.at)
	if fresh && !in.restored && !in.h.Retransmission {
		r.seen.came(seq, in.at)
	}
	woke := quiet && r.track.pending()
	pkt := in.pkt
	var restored []inbound
	if fresh && !in.restored {
		r.fec.put(seq, in, in.at)
		able := !r.fec.busy() || r.fec.effort.open(in.at)
		if in.h.Retransmission && able { // the one that was wanting, perhaps
			if b := r.fec.of(seq); b != nil {
				restored = r.fec.restore(b, in.at)
			}
		}
		switch {
		case len(r.fec.slide.all) == 0:
		case !able:
			r.fec.slide.drop(func(*equation) bool { return true })
		case len(restored) == 0:
			restored = r.fec.came(seq, in.at)
		}
	}
	if fresh && in.h.Total != 0 {
		pkt = r.assemble.add(seq, &in.h, in.pkt.Buffer()[:in.size], in.at)
		in.pkt.Release()
	}
	r.mu.Unlock()
	if woke {
		r.wake()
	}
	switch {
	case !fresh:
		r.stats.drop(dropDuplicate)
		pkt.Release()
	case pkt != nil:
		if in.restored {
			r.stats.restored.Add(1)
		}
		r.arrange(in, pkt, seq)
	}
	for i := range restored {
		r.deliver(&restored[i])
	}
}

// restore takes a parity symbol and delivers the packets it makes up for.
func (r *receiver) restore(in *inbound) {
	r.mu.Lock()
	if !r.fec.effort.open(in.at) || !r.affords(in.parity.Base+uint32(in.parity.Packets)-1, in.at) {
		r.mu.Unlock()
		r.refuse()
		in.pkt.Release()
		return
	}
	base := r.track.extend(in.parity.Base)
	var restored []inbound
	hopeless := false
	switch {
	case base <= r.track.base:
	case in.parity.Sliding:
		r.track.announced(in.parity.Base+uint32(in.parity.Packets)-1, in.at)
		restored = r.fec.slid(base, &in.parity, in.pkt.Buffer()[:in.size], r.track, in.at)
	default:
		r.track.announced(in.parity.Base+uint32(in.parity.Packets)-1, in.at) // all of the block has been sent
		b := r.fec.take(base, &in.parity, in.pkt, in.size, in.at)
		if b != nil {
			restored = r.fec.restore(b, in.at)
			hopeless = r.fec.hopeless(r.track, b.base, in.at)
		}
	}
	pending := r.track.pending()
	r.mu.Unlock()
	in.pkt.Release()
	for i := range restored {
		r.deliver(&restored[i])
	}
	if hopeless || pending && len(restored) == 0 {
		r.wake()
	}
}

// affords reports whether what a link sequence number finds missing may be looked for. The mutex is held.
func (r *receiver) affords(seq uint32, now time.Duration) bool {
	rows := r.track.ahead(seq) / missingSteps
	if rows == 0 {
		return true
	}
	if !r.fec.effort.open(now) {
		return false
	}
	r.fec.effort.spend(rows)
	return true
}

// refuse counts a frame that would have cost too much.
func (r *receiver) refuse() {
	r.stats.drop(dropOverwork)
	r.lies.Add(1)
}

// wake makes the ticker look for what is missing.
func (r *receiver) wake() {
	select {
	case r.gap <- struct{}{}:
	default:
	}
}

// arrange hands a whole packet to its flow, or keeps it while one sent before it may be on its way. It takes over the
// reference.
func (r *receiver) arrange(in *inbound, pkt *rtpstream.Packet, seq uint64) {
	p := r.flow(in.h.Flow)
	if p == nil || p.media.Stream(in.h.Encoding) == nil { // ended here, not yet over there
		r.stats.drop(dropUnknownFlow)
		pkt.Release()
		return
	}
	for len(r.orders) <= int(in.h.Flow) {
		r.orders = append(r.orders, flowOrder{})
	}
	flow := &r.orders[in.h.Flow]
	if flow.pull != p {
		*flow = flowOrder{pull: p}
	}
	h := heldPacket{inbound: *in, seq: seq, pull: p}
	h.pkt = pkt
	if order := r.order(&h); len(r.ahead.held) > 0 || !order.next(pkt.SequenceNumber, in.h.Withheld) {
		if oldest, full := r.ahead.hold(h); full {
			r.hand(&oldest)
		}
		r.watch(r.release(in.at))
		return
	}
	r.hand(&h)
}

// order is where the stream of a packet stands.
func (r *receiver) order(p *heldPacket) *streamOrder {
	return &r.orders[p.h.Flow].enc[p.h.Encoding%rtpstream.MaxEncodings]
}

// release hands on what need not wait at now, and returns when something will not need to.
func (r *receiver) release(now time.Duration) (due time.Duration) {
	for from := 0; ; {
		r.mu.Lock()
		p, next, ok := r.ahead.release(r.track, r.orders, from, now)
		if !ok {
			due = r.ahead.due(r.track)
		}
		r.mu.Unlock()
		if !ok {
			return due
		}
		from = next
		r.hand(&p)
	}
}

// hand gives a whole packet to its flow and releases it.
func (r *receiver) hand(p *heldPacket) {
	defer p.pkt.Release()
	stream := p.pull.media.Stream(p.h.Encoding)
	if r.flow(p.h.Flow) != p.pull || stream == nil { // ended while it waited
		r.stats.drop(dropUnknownFlow)
		return
	}
	r.order(p).handed(p.pkt.SequenceNumber)
	pkt := p.pkt
	r.contexts.note(p.h.Flow, p.h.Encoding, pkt.Raw(), p.at)
	pkt.Arrival = p.at
	pkt.Keyframe = p.h.Keyframe
	pkt.Spatial, pkt.Temporal, pkt.AudioLevel = p.h.Spatial, p.h.Temporal, p.h.AudioLevel
	pkt.Withheld, pkt.Quiet, pkt.Past = p.h.Withheld, p.h.Quiet, p.h.Past
	r.stats.in.count(p.pull.audio, len(pkt.Raw()))
	p.pull.write(stream, pkt)
}

// collect appends what has to be asked for now, and reports when to look again, never when nothing is missing, and
// whether it was left to parity until now.
func (r *receiver) collect(now, rtt time.Duration, out []uint64) (ask []uint64, due time.Duration, fec bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	fec = r.fec.active(now)
	due = never
	if fec {
		if due = r.fec.overdue(); due <= now {
			r.fec.hopeless(r.track, 0, now)
			due = r.fec.overdue()
		}
	}
	var parity time.Duration
	switch {
	case !fec:
	case r.fec.slide.wait > 0:
		parity = r.fec.slide.wait
	default:
		parity = fecWait
	}
	out = r.track.collect(now, rtt, parity, out)
	if !r.track.pending() {
		return out, never, fec
	}
	return out, min(due, r.track.due), fec
}

// announced takes the peer's highest link sequence number from a probe.
func (r *receiver) announced(seq uint32, now time.Duration) {
	r.mu.Lock()
	if !r.affords(seq, now) {
		r.mu.Unlock()
		r.refuse()
		return
	}
	r.track.announced(seq, now)
	pending := r.track.pending()
	r.mu.Unlock()
	if pending {
		r.wake()
	}
}

// received is what the tracker has counted.
type received struct{ expected, missed, bursts, repaired, lost uint64 }

func (r *receiver) snapshot() received {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.track
	return received{t.expected(), t.missed, t.bursts, t.repaired, t.lost}
}

// second does what is due once a second.
func (r *receiver) second(now time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.track.decay()
	r.assemble.expire(now, time.Second)
	r.fec.expire(now)
}

// table is the pulls by flow ID. It is not to be changed.
func (r *receiver) table() []*pull {
	if t := r.flows.Load(); t != nil {
		return *t
	}
	return nil
}

// flow returns the pull at a flow ID, or nil.
func (r *receiver) flow(id uint32) *pull {
	if t := r.table(); uint64(id) < uint64(len(t)) {
		return t[id]
	}
	return nil
}

// setFlow puts a pull at a flow ID, or with nil takes it away. Called by the peer's goroutine only.
func (r *receiver) setFlow(id uint32, p *pull) {
	if p != nil {
		r.contexts.begin(id)
	}
	old := r.table()
	fresh := make([]*pull, max(len(old), int(id)+1))
	copy(fresh, old)
	fresh[id] = p
	r.flows.Store(&fresh)
}

func (r *receiver) close() {
	r.queue.Close()
	r.turn.Lock()
	r.closed = true
	r.ahead.clear()
	r.turn.Unlock()
	for {
		in, ok := r.queue.Pop()
		if !ok {
			break
		}
		in.pkt.Release()
	}
	r.mu.Lock()
	r.assemble.clear()
	r.fec.clear()
	r.mu.Unlock()
}
