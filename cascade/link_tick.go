package cascade

import (
	"math"
	"sync/atomic"
	"time"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/meshpb/cascadepb"
)

// busyTick is how often queues are looked at while something waits in them.
const busyTick = 20 * time.Millisecond

// tick is the link's clock: probes, liveness, NACKs, deadlines, news of our sources.
func (l *link) tick() {
	t := ticker{link: l, nextSecond: l.c.now() + time.Second}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-l.ctx.Done():
			return
		case <-timer.C:
		case <-l.rx.gap:
		case <-l.tx.kick:
		}
		now := l.c.now()
		due := t.step(now)
		timer.Reset(max(due-now, time.Millisecond/2))
	}
}

// ticker is what the tick loop remembers.
type ticker struct {
	link       *link
	nextProbe  time.Duration
	nextSecond time.Duration
	nextPing   time.Duration
	missing    []uint64
	lanes      []*lane
	turn       int // first lane to probe
	last       received
	lastRound  received
	meter      lossMeter
	lanePlan   lanePlanner
	nearest    time.Duration // least round trip of late
	nearestAt  time.Duration
	rates      rateMeter
	askedLanes int
	retired    []*lane

	told        []*cascadepb.NodeLink
	toldAt      time.Duration
	nextTell    time.Duration
	toldUpDowns uint64

	layers       layerTicker
	reportedAt   time.Duration // last report to the peer
	reportedLast uint32        // its Packets
	guessedAt    time.Duration // latest guess in place of one of the peer's
	guessedLast  uint32        // the newest packet then
	guesses      int
}

func (t *ticker) step(now time.Duration) (due time.Duration) {
	l := t.link
	if now >= t.nextProbe {
		t.round(now)
		t.nextProbe = now + l.c.cfg.ProbeInterval
	}
	if l.sourceEnded.Swap(false) {
		l.news()
	}
	if l.replan.Swap(false) {
		t.planLayers(now)
	}
	if now >= t.nextSecond {
		t.second(now)
		t.nextSecond = now + time.Second
	}
	due = min(t.nextProbe, t.liveness(now))
	if l.tx.tick(now) {
		t.planLayers(now)
	}
	due = min(due, l.tx.due(now), t.report(now), t.guess(now))
	if l.tx.busy() {
		due = min(due, now+busyTick)
	}
	return min(due, t.repair(now))
}

// round probes every lane, and looks whether our sources have news for the peer.
func (t *ticker) round(now time.Duration) {
	l := t.link
	if lies := l.rx.lies.Swap(0); lies > 0 {
		l.tolerate(lies)
	}
	t.measure(now)
	t.propose(now)
	t.lanes = l.tx.snapshotLanes(t.lanes[:0])
	for _, ln := range t.lanes {
		l.tx.resize(ln, datagramBytes(ln.conn))
	}
	for i, ln := range t.lanes {
		turn := (i - t.turn + len(t.lanes)) % len(t.lanes)
		if turn < probesARound || ln.silent(now, l.c.cfg.ProbeInterval+l.roundTrip()) {
			l.probe(ln)
		}
	}
	t.turn = (t.turn + probesARound) % max(len(t.lanes), 1)
	if now >= t.nextPing {
		t.ping(now)
	}
	t.tell(now)
	l.news()
	t.measureLayers(now)
	t.planLayers(now)
}

// propose tells the peer what is known of the RTP headers it sends.
func (t *ticker) propose(now time.Duration) {
	l := t.link
	l.rx.contexts.on.Store(l.knowsContexts())
	for _, c := range l.rx.propose(now) {
		l.post(&cascadepb.LinkMessage{Body: &cascadepb.LinkMessage_HeaderContext{HeaderContext: c}})
	}
}

// measure tells the peer of the loss on its way here, and plans for the loss it told of.
func (t *ticker) measure(now time.Duration) {
	l := t.link
	r := l.rx.snapshot()
	t.meter.round(r.expected-t.lastRound.expected, r.missed-t.lastRound.missed, r.bursts-t.lastRound.bursts)
	t.lastRound = r
	l.lossSeen.Store(uint32(t.meter.loss() * 65535))
	l.burstSeen.Store(uint32(min(t.meter.burst()*16, 255)))
	rtt := l.roundTrip()
	loss := l.tx.adapt(rtt, float64(l.lossOut.Load())/65535, float64(l.burstOut.Load())/16, l.features.Load(), now)
	offered, drained := l.tx.carried()
	t.rates.round(offered, drained, now)
	l.offered.Store(uint64(t.rates.offered))
	l.drained.Store(uint64(t.rates.drained))
	if !l.c.headlong {
		l.tx.limitRate(l.knowsRate(), now)
	}
	t.planLanes(rtt, loss, now)
	if l.tx.windows(l.attachedLanes() < t.lanePlan.lanes, now) {
		l.replan.Store(true)
	}
}

// queueing reports whether the round trip has grown so much that loss means a full queue rather than a poor path.
func (t *ticker) queueing(rtt, now time.Duration) bool {
	if t.nearest == 0 || rtt < t.nearest || now-t.nearestAt > nearestKeep {
		t.nearest, t.nearestAt = rtt, now
	}
	return rtt > t.nearest+t.nearest/4+15*time.Millisecond
}

// planLanes follows what the media needs: the dialling side's lanes, the other side's wish.
func (t *ticker) planLanes(rtt time.Duration, loss float64, now time.Duration) {
	l := t.link
	for _, ln := range t.retired {
		_ = ln.conn.Close(codeOK, "lane not needed")
	}
	t.retired = t.retired[:0]
	least := min(l.c.cfg.Lanes, l.lanes)
	want := least
	if !l.unlimited() {
		need := lanesFor(max(t.rates.offered, t.rates.drained), rtt, loss)
		if t.queueing(rtt, now) { // more windows would only take more of a full queue
			need = min(need, t.lanePlan.lanes)
		}
		want = t.lanePlan.step(need, least, l.lanes, now)
	}
	switch {
	case l.dialer:
		t.retired = append(t.retired, l.setLanes(max(want, min(int(l.lanesAsked.Load()), l.lanes)))...)
	case want != t.askedLanes:
		t.askedLanes = want
		l.post(&cascadepb.LinkMessage{Body: &cascadepb.LinkMessage_LanesWanted{
			LanesWanted: &cascadepb.LanesWanted{Lanes: uint32(want)},
		}})
	}
}

func (t *ticker) ping(now time.Duration) {
	t.link.ping(now)
	t.nextPing = now + time.Second
}

// liveness looks whether the link is still there, and returns when to look again.
func (t *ticker) liveness(now time.Duration) (due time.Duration) {
	l := t.link
	rtt := l.roundTrip()
	h := heard{lanes: time.Duration(l.heard.Load()), control: time.Duration(l.controlHeard.Load()), rtt: rtt}
	h.cutOff = now-h.lanes > l.c.cfg.SuspectAfter && l.c.cutOff(l, now)
	l.liveMu.Lock()
	action, due := l.live.tick(now, h)
	downSince, up := l.live.downSince, l.live.up
	doubtful := l.live.doubtful(now)
	closing := !up && now-max(downSince, l.born) >= max(l.c.cfg.DownTimeout, 4*rtt) && !l.live.answering(now)
	l.liveMu.Unlock()
	if l.doubtful.Swap(doubtful) != doubtful {
		l.peer.wayChanged()
	}
	switch action {
	case livenessProbe:
		for _, ln := range t.lanes {
			l.probe(ln)
		}
		t.ping(now)
	case livenessDown:
		if d, ok := l.c.deps.Net.(interface{ Doubt(mesh.NodeID) }); ok {
			d.Doubt(l.peer.id) // a new link must not wait for QUIC to give the old connection up
		}
		if l.up.Swap(false) {
			l.c.linkChanged(l.peer.id, false)
		}
	case livenessNothing:
	}
	if closing {
		l.close(cascadepb.CloseReason_CLOSE_REASON_SILENT)
	}
	return due
}

// repair asks for what is missing and reports when to look again.
func (t *ticker) repair(now time.Duration) (due time.Duration) {
	l := t.link
	seqs, due, fec := l.rx.collect(now, l.roundTrip(), t.missing[:0])
	t.missing = seqs
	for len(seqs) > 0 {
		var buf [laneControlBytes]byte
		b, taken := appendNack(buf[:0], seqs)
		if !l.tx.control(nil, b, now) {
			break // the next round asks again
		}
		if fec {
			l.tx.control(nil, b, now) // on the next lane: one of them is enough
		}
		l.peer.stats.nacksOut.Add(uint64(taken))
		seqs = seqs[taken:]
	}
	return due
}

// second measures loss and lets limits start anew.
func (t *ticker) second(now time.Duration) {
	l := t.link
	l.garbage.Store(0)
	l.rx.second(now)
	r := l.rx.snapshot()
	l.peer.stats.repaired.Add(r.repaired - t.last.repaired)
	l.peer.stats.lost.Add(r.lost - t.last.lost)
	n := float64(max(1, r.expected-t.last.expected)) // a second without packets is one without loss
	smooth(&l.lossIn, max(0, float64(int64(r.missed-t.last.missed)))/n)
	smooth(&l.lossRepaired, float64(r.lost-t.last.lost)/n)
	t.last = r
	if path, known := l.tx.learned(now); known {
		l.peer.path.Store(&path)
	}
}

// smooth moves a share halfway to what this second showed.
func smooth(v *atomic.Uint64, now float64) {
	old := math.Float64frombits(v.Load())
	v.Store(math.Float64bits((old + min(now, 1)) / 2))
}

func share(v *atomic.Uint64) float64 { return math.Float64frombits(v.Load()) }
