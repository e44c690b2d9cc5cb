package sfm

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/rtp"

	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

// How often senders and receivers are looked at: quickly while someone waits for a keyframe.
const (
	quickTick = 100 * time.Millisecond
	idleTick  = 500 * time.Millisecond
)

// egress writes everything to one client: media, sender reports, keyframe requests. One goroutine does, behind a bounded
// queue, so that a client that cannot take more (over TCP a write may block) hurts only itself.
type egress struct {
	sfm   *SFM
	queue *rtpstream.Queue[egressItem]
	kick  chan struct{} // capacity 1: look at senders and receivers now

	mu        sync.Mutex                // orders changes
	senders   atomic.Pointer[[]*sender] // immutable slices
	receivers atomic.Pointer[[]*receiver]

	// Owned by the goroutine.
	behind   []*sender   // have a backlog
	catching *time.Timer // runs while there are some
}

// egressItem is one packet on its way to one sender's stream. It holds a reference to the packet.
type egressItem struct {
	sender *sender
	packet *rtpstream.Packet
}

// scratch is memory of the goroutine that writes.
type scratch struct {
	header  rtp.Header
	payload []byte
}

func newScratch() *scratch { return &scratch{payload: make([]byte, 0, rtpstream.MaxPacketBytes+8)} }

func newEgress(s *SFM) *egress {
	g := &egress{
		sfm: s, queue: rtpstream.NewQueue[egressItem](s.cfg.EgressPackets), kick: make(chan struct{}, 1),
		catching: time.NewTimer(catchTick),
	}
	g.catching.Stop()
	return g
}

// push queues a packet, retaining it. It never blocks.
func (g *egress) push(s *sender, p *rtpstream.Packet) {
	if old, evicted := g.queue.Push(egressItem{s, p.Retain()}); evicted {
		old.packet.Release()
		g.sfm.metrics.drops[dropSlow].Inc()
	}
}

// wake makes the goroutine look at senders and receivers soon. It never blocks.
func (g *egress) wake() {
	select {
	case g.kick <- struct{}{}:
	default:
	}
}

func (g *egress) addSender(s *sender)        { change(&g.mu, &g.senders, s, true) }
func (g *egress) removeSender(s *sender)     { change(&g.mu, &g.senders, s, false) }
func (g *egress) addReceiver(r *receiver)    { change(&g.mu, &g.receivers, r, true) }
func (g *egress) removeReceiver(r *receiver) { change(&g.mu, &g.receivers, r, false) }

func change[T comparable](mu *sync.Mutex, at *atomic.Pointer[[]T], v T, add bool) {
	mu.Lock()
	defer mu.Unlock()
	var fresh []T
	if p := at.Load(); p != nil {
		fresh = slices.Clone(*p)
	}
	if add {
		fresh = append(fresh, v)
	} else if i := slices.Index(fresh, v); i >= 0 {
		fresh = slices.Delete(fresh, i, i+1)
	}
	at.Store(&fresh)
}

// run is the goroutine. It ends with ctx and releases what is queued.
func (g *egress) run(ctx context.Context) {
	defer func() {
		g.queue.Close()
		for it, ok := g.queue.Pop(); ok; it, ok = g.queue.Pop() {
			it.packet.Release()
		}
		for _, s := range g.behind {
			s.backlog.clear()
		}
	}()
	buf := newScratch()
	timer := time.NewTimer(idleTick)
	defer timer.Stop()
	defer g.catching.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-g.queue.Wake():
			g.drain(ctx, buf)
			continue
		case <-g.catching.C:
			g.catch(g.sfm.now(), buf)
			continue
		case <-g.kick:
		case <-timer.C:
		}
		timer.Reset(g.control(g.sfm.now(), buf))
	}
}

func (g *egress) drain(ctx context.Context, buf *scratch) {
	now := g.sfm.now()
	for it, ok := g.queue.Pop(); ok; it, ok = g.queue.Pop() {
		if !it.sender.backlog.queues(it.packet) {
			it.sender.forward(it.packet, now, buf)
		}
		it.packet.Release()
		if ctx.Err() != nil {
			return
		}
	}
}

// follow has a sender's backlog sent. The goroutine calls it.
func (g *egress) follow(s *sender) {
	if slices.Contains(g.behind, s) {
		return
	}
	if len(g.behind) == 0 {
		g.catching.Reset(catchTick)
	}
	g.behind = append(g.behind, s)
}

// catch sends the next portion of each backlog.
func (g *egress) catch(now time.Duration, buf *scratch) {
	g.behind = slices.DeleteFunc(g.behind, func(s *sender) bool { return !s.catch(catchStep, now, buf) })
	if len(g.behind) > 0 {
		g.catching.Reset(catchTick)
	}
}

// control sends what is due and returns when to look again.
func (g *egress) control(now time.Duration, buf *scratch) time.Duration {
	next := idleTick
	if p := g.senders.Load(); p != nil {
		for _, s := range *p {
			if s.tick(now, buf) {
				next = quickTick
			}
		}
	}
	if p := g.receivers.Load(); p != nil {
		for _, r := range *p {
			if r.tick(now) {
				next = quickTick
			}
		}
	}
	return next
}
