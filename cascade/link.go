package cascade

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/meridian-sfu/meridian/internal/meshnet"
	"github.com/meridian-sfu/meridian/internal/meshpb/cascadepb"
	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

// Codes a lane is closed with.
const (
	codeOK       = 0
	codeProtocol = 16
	codeShutdown = 17
)

// controlQueue is how many control messages may wait beside two for each flow; a peer that reads slower loses the link.
const controlQueue = 1024

// link is one life of the link to a peer: one control stream and the lanes, from Hello to the end. Its goroutines
// belong to run.
type link struct {
	c       *Cascade
	peer    *peer
	session uint64
	opener  bool // this side said Hello
	dialer  bool // this side dials the lanes: its ID is the lower one
	born    time.Duration
	control net.Conn
	out     *rtpstream.Queue[*cascadepb.LinkMessage]
	ctx     context.Context
	cancel  context.CancelCauseFunc // with a closeError, or what broke
	wg      sync.WaitGroup

	unstarted func() bool // stops the closing of control at the end of ctx, which is run's business once it has begun

	established  bool   // guarded by Cascade.mu
	peerInstance uint64 // guarded by Cascade.mu
	lanes        int    // at most; set before run

	tx  *sender
	rx  *receiver
	ids flowIDs // peer's goroutine only

	peerWants    atomic.Bool
	up, wasUp    atomic.Bool
	doubtful     atomic.Bool   // media should come another way as well
	controlHeard atomic.Int64  // monotonic time of the last control message
	heard        atomic.Int64  // monotonic time of the last datagram on any lane
	garbage      atomic.Int64  // in this second
	replan       atomic.Bool   // the layer budget has to be looked at
	withheld     atomic.Int32  // flows that are not sent in full
	bytesIn      atomic.Uint32 // of datagrams on all lanes, modulo 2³²
	features     atomic.Uint32 // what both sides understand
	quickest     atomic.Int64  // least round trip measured since the ticker looked, 0 for none
	lossOut      atomic.Uint32
	burstOut     atomic.Uint32 // mean burst of losses the peer sees, in sixteenths of a packet
	lossSeen     atomic.Uint32 // share lost of what comes in, in 1/65535
	burstSeen    atomic.Uint32 // and its mean burst, in sixteenths
	lossIn       atomic.Uint64 // float64 bits: share lost before repair
	lossRepaired atomic.Uint64 // float64 bits: share lost after repair

	liveMu sync.Mutex
	live   liveness // guarded by liveMu

	laneMu   sync.Mutex
	attached map[int]*lane  // guarded by laneMu
	ended    bool           // guarded by laneMu: no lane may be attached any more
	want     int            // guarded by laneMu: lanes to have
	dialing  [maxLanes]bool // guarded by laneMu: dialLane runs

	sourceEnded      atomic.Bool   // one of ours, since the ticker looked
	lanesAsked       atomic.Uint32 // lanes the peer wants
	offered, drained atomic.Uint64 // bits per second

	flowMu sync.Mutex
	flows  map[uint32]*sendFlow // guarded by flowMu; what the peer pulls, by its flow ID

	left, over farewells // flows that ended of late: those this node pulled, those the peer did
}

func newLink(p *peer, control net.Conn, session uint64, opener bool) *link {
	c := p.c
	ctx, cancel := context.WithCancelCause(c.ctx)
	l := &link{
		c: c, peer: p, session: session, opener: opener, dialer: c.self < p.id, born: c.now(),
		control: control, out: rtpstream.NewQueue[*cascadepb.LinkMessage](controlQueue + 2*c.cfg.MaxFlows),
		ctx: ctx, cancel: cancel, lanes: c.cfg.MaxLanes,
		tx:  newSender(c.cfg, &p.stats, c.metrics.queueDelay),
		rx:  newReceiver(c.cfg, &c.pool, &p.stats),
		ids: flowIDs{limit: c.cfg.MaxFlows},

		live:     liveness{interval: c.cfg.ProbeInterval, suspectAfter: c.cfg.SuspectAfter},
		attached: make(map[int]*lane),
		flows:    make(map[uint32]*sendFlow),
	}
	l.tx.flusher = c.flusher
	if known := p.path.Load(); known != nil {
		l.tx.repair.path.known = *known
	}
	l.unstarted = context.AfterFunc(ctx, func() { _ = control.Close() }) // nothing was promised on it
	l.heard.Store(int64(l.born))
	l.controlHeard.Store(int64(l.born))
	return l
}

// establishLocked ends the greeting. Cascade.mu is held.
func (l *link) establishLocked(instance uint64, lanes int) {
	l.established, l.peerInstance, l.lanes, l.born = true, instance, lanes, l.c.now()
}

// abandon ends a link that was never run.
func (l *link) abandon() { l.cancel(errors.New("cascade: link abandoned")) }

// closeError is why a link was closed by one of its sides.
type closeError struct {
	reason cascadepb.CloseReason
	remote bool // the peer said so
}

func (e *closeError) Error() string {
	if e.remote {
		return "closed by peer: " + closeName(e.reason)
	}
	return closeName(e.reason)
}

// close ends the link and tells the peer why. It does not wait and is idempotent: the first reason holds.
func (l *link) close(reason cascadepb.CloseReason) { l.cancel(&closeError{reason: reason}) }

// misbehaved closes the link of a peer that talks nonsense; it is not welcome for a while.
func (l *link) misbehaved(reason cascadepb.CloseReason) {
	l.c.mu.Lock()
	l.peer.banned = l.c.now() + banTime
	l.c.mu.Unlock()
	l.close(reason)
}

// post queues a control message. It never blocks.
func (l *link) post(m *cascadepb.LinkMessage) {
	m.Version = protocolVersion
	if _, evicted := l.out.Push(m); evicted && !l.out.Closed() {
		l.close(cascadepb.CloseReason_CLOSE_REASON_OVERFLOW)
	}
}

// knowsFEC reports whether the peer understands parity frames.
func (l *link) knowsFEC() bool {
	return l.features.Load()&uint32(cascadepb.Feature_FEATURE_FEC) != 0
}

// knowsRate reports whether the peer understands reports, padding and limits of flows.
func (l *link) knowsRate() bool {
	return l.features.Load()&uint32(cascadepb.Feature_FEATURE_RATE) != 0
}

// knowsContexts reports whether the peer understands frames whose RTP header is cut down, and what they are cut down by.
func (l *link) knowsContexts() bool {
	return l.features.Load()&uint32(cascadepb.Feature_FEATURE_HEADER_CONTEXT) != 0
}

// ping asks for a word on the control path.
func (l *link) ping(now time.Duration) {
	l.post(&cascadepb.LinkMessage{Body: &cascadepb.LinkMessage_Ping{Ping: &cascadepb.Ping{Token: uint64(now)}}})
}

// knowsWithheld reports whether the peer understands what media frames tell of packets left out.
func (l *link) knowsWithheld() bool {
	return l.features.Load()&uint32(cascadepb.Feature_FEATURE_WITHHELD) != 0
}

// crowded reports whether so much waits that what can wait, should.
func (l *link) crowded() bool { return l.out.Len() > controlQueue/2 }

// run serves the link until it ends, and cleans up. It is called once, on a goroutine Run waits for.
func (l *link) run() {
	l.unstarted()
	l.peer.stats.linksOpened.Add(1)
	l.c.log.Info("link opened", "node", l.peer.id)
	l.peer.signal()
	l.wg.Go(l.writeControl)
	l.wg.Go(l.readControl)
	l.wg.Go(l.tick)
	l.wg.Go(func() { l.rx.run(l.ctx, l.c.now) })
	if l.dialer {
		l.setLanes(min(l.c.cfg.Lanes, l.lanes))
	}
	<-l.ctx.Done()
	l.laneMu.Lock()
	l.ended = true
	for _, ln := range l.attached {
		_ = ln.conn.Close(codeOK, "link closed")
	}
	l.laneMu.Unlock()
	l.endFlows()
	l.wg.Wait()
	l.tx.close()
	l.peer.linkEnded(l, l.c.now())
	if l.up.Swap(false) {
		l.c.linkChanged(l.peer.id, false)
	}
	l.c.log.Info("link closed", "node", l.peer.id, "err", context.Cause(l.ctx))
}

// writeControl sends what is queued; when the link ends it says why, if that can be said, and closes the stream.
func (l *link) writeControl() {
	defer func() { _ = l.control.Close() }()
	stop := context.AfterFunc(l.ctx, func() {
		_ = l.control.SetWriteDeadline(time.Now().Add(200 * time.Millisecond)) // for the farewell
	})
	defer stop()
	for {
		m, ok := l.out.Pop()
		if !ok {
			select {
			case <-l.ctx.Done():
				l.farewell()
				return
			case <-l.out.Wake():
				continue
			}
		}
		_ = l.control.SetWriteDeadline(time.Now().Add(l.c.cfg.OpenTimeout)) // without one the write fails as soon as the stream ends
		if l.ctx.Err() != nil {
			l.farewell()
			return
		}
		if err := meshnet.WriteMessage(l.control, m); err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				l.peer.stats.drop(dropBadControl)
				l.close(cascadepb.CloseReason_CLOSE_REASON_OVERFLOW)
			}
			l.cancel(err)
			return
		}
	}
}

func (l *link) farewell() {
	reason := cascadepb.CloseReason_CLOSE_REASON_SHUTDOWN
	cause := context.Cause(l.ctx)
	if ce, ok := errors.AsType[*closeError](cause); ok {
		if ce.remote {
			return
		}
		reason = ce.reason
	} else if !errors.Is(cause, context.Canceled) {
		return // the stream is broken
	}
	_ = l.control.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
	_ = meshnet.WriteMessage(l.control, closeMessage(reason)) // the peer notices the end of the stream otherwise
}

func (l *link) readControl() {
	flows := float64(l.c.cfg.MaxFlows)
	messages := newAllowance(controlFewest+controlSteps*flows, controlFewest+controlSaved*flows)
	from := countedReader{Reader: l.control}
	for {
		m := new(cascadepb.LinkMessage)
		from.bytes = 0
		if err := meshnet.ReadMessage(&from, maxControlBytes, m); err != nil {
			if errors.Is(err, meshnet.ErrMessageTooLarge) {
				l.peer.stats.drop(dropBadControl)
				l.misbehaved(cascadepb.CloseReason_CLOSE_REASON_PROTOCOL)
			}
			l.cancel(err)
			return
		}
		if l.ctx.Err() != nil {
			return
		}
		l.controlHeard.Store(int64(l.c.now()))
		if !l.dispatch(m) {
			l.peer.stats.drop(dropBadControl)
			l.misbehaved(cascadepb.CloseReason_CLOSE_REASON_PROTOCOL)
			return
		}
		messages.spend(1 + from.bytes/controlBytes)
		if pause := messages.debt(l.c.now()); pause > 0 && !l.hold(pause) {
			return
		}
	}
}

// hold makes a peer that says more than it may wait until it is read again, and reports whether the link is still there.
func (l *link) hold(pause time.Duration) bool {
	l.peer.stats.drop(dropHurried)
	timer := time.NewTimer(max(pause, controlPause))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-l.ctx.Done():
		return false
	}
}

// countedReader counts what is read.
type countedReader struct {
	io.Reader
	bytes int
}

func (r *countedReader) Read(b []byte) (int, error) {
	n, err := r.Reader.Read(b)
	r.bytes += n
	return n, err
}

// senseless counts a frame or message that means nothing here. Too many in a second end the link.
func (l *link) senseless(why dropReason) {
	l.peer.stats.drop(why)
	l.tolerate(1)
}

// tolerate adds so many to those of this second.
func (l *link) tolerate(frames int64) {
	if l.garbage.Add(frames) > int64(l.c.cfg.GarbageLimit) {
		l.misbehaved(cascadepb.CloseReason_CLOSE_REASON_GARBAGE)
	}
}

// roundTrip is the smoothed round trip of the nearest lane, 0 before the first measurement.
func (l *link) roundTrip() time.Duration {
	rtt, _ := l.nearest()
	return rtt
}

// nearest is the smoothed round trip of the nearest lane with its mean deviation, 0 before the first measurement.
func (l *link) nearest() (rtt, jitter time.Duration) {
	l.laneMu.Lock()
	defer l.laneMu.Unlock()
	for _, ln := range l.attached {
		if own := time.Duration(ln.rtt.Load()); own > 0 && (rtt == 0 || own < rtt) {
			rtt, jitter = own, time.Duration(ln.jitter.Load())
		}
	}
	return rtt, jitter
}
