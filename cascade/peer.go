package cascade

import (
	"context"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/meshpb/cascadepb"
)

// linkProven is how long a link must have lasted for the next failure to be met without back-off.
const linkProven = 5 * time.Second

// banTime is how long a peer that sent garbage is not welcome.
const banTime = 5 * time.Second

// maxInbox bounds the answers that wait for a peer's goroutine; a peer that sends more answers than it was asked is not
// listened to.
const maxInbox = 2 * maxFlowIDs

// peer is another node, over all lives of the link to it: who keeps it, what is pulled from it, what was counted. Its
// goroutine opens links and moves every pull along; everything else only changes a field and signals it.
type peer struct {
	c     *Cascade
	id    mesh.NodeID
	wake  chan struct{} // capacity 1
	stats counters
	path  atomic.Pointer[fecPlan] // what the way there lost the last time it was known, over all lives of the link

	// Guarded by Cascade.mu.
	link    *link // the current one, opening or established
	keeps   int
	pulls   map[*pull]struct{}
	inbox   []peerEvent
	banned  time.Duration // not welcome before
	retryAt time.Duration // of the link
	backoff time.Duration
	opening bool
	told    *told // of its links

	// Used by the peer's goroutine only.
	using     bool // last LinkUse told on usingLink
	usingLink *link
	idleAt    time.Duration // when nobody needed the link any more; 0 while somebody does
	steps     []step        // scratch
}

// peerEvent is an answer of the peer to one of our flows.
type peerEvent struct {
	link   *link
	flow   uint32
	kind   eventKind
	reason cascadepb.RefuseReason
}

type eventKind uint8

const (
	eventAccepted eventKind = iota
	eventRefused
	eventEnded
)

// step is a pull with what it must know of the rest to move on.
type step struct {
	pull *pull
	path []mesh.NodeID
	hops uint32
	idle bool // it waits beside another way
	warm bool // somebody pulls it from here, or may
	twin bool // it comes another way as well, all the time

	change uint64 // of ways, that it is the new way of; or 0
}

func newPeer(c *Cascade, id mesh.NodeID) *peer {
	return &peer{c: c, id: id, wake: make(chan struct{}, 1), pulls: make(map[*pull]struct{})}
}

func (p *peer) signal() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// run moves the peer along until it is of no use or the cascade stops.
func (p *peer) run() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-p.c.ctx.Done():
			p.closeMedia()
			return
		case <-p.wake:
		case <-timer.C:
		}
		now := p.c.now()
		due, gone := p.step(now)
		if gone {
			return
		}
		if due == never {
			timer.Stop()
		} else {
			timer.Reset(max(due-now, time.Millisecond))
		}
	}
}

// step does everything that is due and returns when to come back, and whether the peer was taken off the list.
func (p *peer) step(now time.Duration) (due time.Duration, gone bool) {
	l, events, released, keeps := p.collect()
	p.handle(now, l, events)
	for _, pl := range released {
		pl.close(now)
	}
	wanted := keeps > 0
	for _, s := range p.steps {
		wanted = wanted || s.pull.needed() || s.warm // who may pull it from here should not wait for a link
	}
	due = never
	for _, s := range p.steps {
		due = min(due, s.pull.step(now, l, s))
	}
	if l != nil {
		return min(due, p.use(now, l, wanted)), false
	}
	p.idleAt, p.usingLink = 0, nil
	if wanted {
		return min(due, p.connect(now)), false
	}
	again, gone := p.retire(now)
	return min(due, again), gone
}

// collect reads what other goroutines have left, and fills p.steps. The link is nil until it is established.
func (p *peer) collect() (l *link, events []peerEvent, released []*pull, keeps int) {
	c := p.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if p.link != nil && p.link.established {
		l = p.link
	}
	events, p.inbox = p.inbox, nil
	p.steps = p.steps[:0]
	for pl := range p.pulls {
		if !pl.remote.usesLocked(pl) {
			delete(p.pulls, pl)
			released = append(released, pl)
			continue
		}
		path, hops := pl.remote.reachLocked()
		r := pl.remote
		p.steps = append(p.steps, step{pl, path, hops, r.waitsLocked(pl), len(r.down) > 0, r.twinLocked(pl), r.changeLocked(pl)})
	}
	return l, events, released, p.keeps
}

func (p *peer) handle(now time.Duration, l *link, events []peerEvent) {
	for _, e := range events {
		if e.link != l || l == nil {
			continue
		}
		pl := l.rx.flow(e.flow)
		if pl == nil || pl.link != l || pl.flow != e.flow {
			continue
		}
		switch e.kind {
		case eventAccepted:
			pl.accepted()
		case eventRefused:
			pl.refused(now, e.reason)
		case eventEnded:
			pl.ended(now)
		}
	}
}

// use tells the peer whether this side needs the link, and closes it when neither has for Config.LinkIdle.
func (p *peer) use(now time.Duration, l *link, wanted bool) time.Duration {
	if p.usingLink != l || p.using != wanted {
		p.usingLink, p.using = l, wanted
		l.post(&cascadepb.LinkMessage{Body: &cascadepb.LinkMessage_LinkUse{
			LinkUse: &cascadepb.LinkUse{Wanted: wanted},
		}})
	}
	if wanted || l.peerWants.Load() {
		p.idleAt = 0
		return never
	}
	if p.idleAt == 0 {
		p.idleAt = now
	}
	if end := p.idleAt + p.c.cfg.LinkIdle; now < end {
		return end
	}
	l.close(cascadepb.CloseReason_CLOSE_REASON_IDLE)
	return never
}

// connect starts to open a link when that is due.
func (p *peer) connect(now time.Duration) time.Duration {
	c := p.c
	c.mu.Lock()
	defer c.mu.Unlock()
	at := max(p.retryAt, p.banned)
	switch {
	case p.id == c.self || p.opening || p.link != nil:
		return never
	case now < at:
		return at
	}
	p.opening = true
	c.spawnLocked(p.open)
	return never
}

// retire takes a peer nobody needs off the list, and what was counted of it. A ban outlasts it.
func (p *peer) retire(now time.Duration) (again time.Duration, gone bool) {
	c := p.c
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case p.link != nil || p.opening || p.keeps > 0 || len(p.pulls) > 0:
		return never, false
	case now < p.banned:
		return p.banned, false
	}
	delete(c.peers, p.id)
	return never, true
}

// push leaves an event for the peer's goroutine.
func (p *peer) push(e peerEvent) {
	p.c.mu.Lock()
	if len(p.inbox) < maxInbox {
		p.inbox = append(p.inbox, e)
	}
	p.c.mu.Unlock()
	p.signal()
}

// linkEnded forgets a link that was current.
func (p *peer) linkEnded(l *link, now time.Duration) {
	p.c.mu.Lock()
	if p.link == l {
		p.link = nil
		p.failedLocked(now, now-l.born >= linkProven)
	}
	p.c.mu.Unlock()
	p.signal()
	p.wayChanged()
}

// wayChanged wakes the ways beside those from this peer: it is time for them, or no longer.
func (p *peer) wayChanged() {
	p.c.mu.Lock()
	var others []*peer
	for pl := range p.pulls {
		if spare := pl.remote.spare; spare != nil && pl.remote.via == pl && !slices.Contains(others, spare.peer) {
			others = append(others, spare.peer)
		}
	}
	p.c.mu.Unlock()
	for _, o := range others {
		o.signal()
	}
}

// failedLocked sets when to try again. Cascade.mu is held.
func (p *peer) failedLocked(now time.Duration, proven bool) {
	if proven {
		p.backoff = 0
	}
	p.backoff = min(max(retryMin, 2*p.backoff), retryMax)
	p.retryAt = now + p.backoff
}

// closeMedia ends every source when the cascade stops.
func (p *peer) closeMedia() {
	p.c.mu.Lock()
	media := slices.Collect(maps.Keys(p.pulls))
	p.c.mu.Unlock()
	for _, pl := range media {
		pl.media.Close()
	}
}

// open opens a link: the opener's half of the greeting. It runs in a goroutine of its own.
func (p *peer) open() {
	c := p.c
	ctx, cancel := context.WithTimeout(c.ctx, c.cfg.OpenTimeout)
	defer cancel()
	l, err := p.greet(ctx)
	c.mu.Lock()
	p.opening = false
	if err != nil {
		p.stats.failed.Add(1)
		p.failedLocked(c.now(), false)
	}
	c.mu.Unlock()
	p.signal()
	if err != nil {
		if c.ctx.Err() == nil {
			c.log.Debug("link not opened", "node", p.id, "err", err)
		}
		return
	}
	if l != nil {
		l.run()
	}
}
