package cascade

import (
	"errors"
	"time"

	"github.com/meridian-sfu/meridian/internal/meshnet"
)

// directMedia is a MediaConn without a window of its own, whose calls never wait: no loops stand between it and who
// sends or receives.
//
//	write ─▶ pump ─▶ gather ─▶ datagram ─▶ Gather ─▶ batch ─▶ Flush       with the mutex held up to the batch
//	                (several frames)      (encrypts)       (a system call)
type directMedia interface {
	MediaConn
	// Gather encrypts b into the batch under way, which leaves when it is full or with Flush.
	Gather(b []byte) error
	Flush() error
	// Handle makes h get each datagram on the goroutine that reads, in place of ReceiveDatagram.
	Handle(h meshnet.Handler) (before [][]byte)
}

// When what was gathered on direct lanes leaves. Sending it costs a system call here and a wake-up over there.
const (
	gatherTime   = 400 * time.Microsecond // that the first waits for others; where few come it leaves with its frame
	gatherLate   = 990 * time.Microsecond // and at the latest, when none come: on an idle processor timers count whole milliseconds
	gatherMost   = 32                     // packets
	livelyTime   = 16 * time.Millisecond  // in which a link that completes …
	livelyFrames = 28                     // … so many frames and audio packets had better send them together, …
	livelyStill  = 20                     // … until it completes less than these
)

// datagram is what is under way on a direct lane. It is guarded by sender.mu.
type datagram struct {
	b      []byte // frames that are complete
	tail   item   // the frame behind them, not yet written: the last one of a datagram needs no length. No packet: none
	unsent bool   // something was gathered since the last flush
}

// clear drops what no datagram was made of, and returns how many packets that was.
func (d *datagram) clear() (n int) {
	if d.tail.pkt != nil {
		d.tail.pkt.Release()
		n = 1
	}
	*d = datagram{}
	return n
}

// gather takes over an item and puts it into the datagram under way of a direct lane, or into the next one. The mutex
// is held.
func (s *sender) gather(it item, l *lane) {
	d := &l.gathered
	size := len(it.rtp())
	switch {
	case d.tail.pkt != nil && len(d.b)+2*mediaHeaderBytes+len(d.tail.rtp())+size <= l.max:
		d.b = d.tail.append(d.b, false)
		d.tail.pkt.Release()
		s.stats.coalesced.Add(1)
	case d.tail.pkt != nil, len(d.b)+mediaHeaderBytes+size > l.max:
		s.seal(l)
	}
	d.tail, d.unsent = it, true
	s.gathering.packets++
}

// gatherControl does the same with a control frame, which always has a length.
func (s *sender) gatherControl(frame []byte, l *lane) {
	d := &l.gathered
	used := len(d.b)
	if d.tail.pkt != nil {
		used += mediaHeaderBytes + len(d.tail.rtp())
	}
	if used+len(frame) > l.max {
		s.seal(l)
	}
	d.b, d.unsent = append(d.b, frame...), true
	s.gathering.packets++
}

// seal ends the datagram under way. The mutex is held.
func (s *sender) seal(l *lane) {
	d := &l.gathered
	if d.tail.pkt != nil {
		d.b = d.tail.append(d.b, true)
		d.tail.pkt.Release()
		d.tail = item{}
	}
	if len(d.b) == 0 {
		return
	}
	err := l.direct.Gather(d.b)
	s.drained += uint64(len(d.b))
	d.b = d.b[:0]
	switch {
	case err == nil:
	case errors.Is(err, meshnet.ErrDatagramTooLarge):
		s.stats.drop(dropTooLarge)
		l.max = datagramBytes(l.conn)
		s.limit()
	default: // it has ended, or must
		l.broken.Store(true)
		l.signal()
	}
}

// gathering is how a sender decides when what it gathered leaves. It is guarded by sender.mu.
type gathering struct {
	packets   int           // gathered and not sent
	first     time.Duration // when the first of them was, or after it
	awaited   bool          // the flusher will come
	together  bool          // so much is completed that it leaves with the flusher's rounds
	completed int           // frames and audio packets in this livelyTime
	since     time.Duration // when that began
}

// lively counts a frame or audio packet that is complete and reports whether it had better wait for others.
func (g *gathering) lively(now time.Duration) bool {
	if now-g.since >= livelyTime {
		g.together = now-g.since < 2*livelyTime && (g.completed >= livelyFrames || g.together && g.completed >= livelyStill)
		g.since, g.completed = now, 0
	}
	g.completed++
	return g.together
}

// depart lets go of the mutex, and sends what was gathered when it is time: at the end of a frame or with an audio
// packet, unless there are so many of these that they had better leave together; else with the flusher's next round,
// or by whoever comes when the first has waited long enough.
func (s *sender) depart(now time.Duration, complete bool) {
	g := &s.gathering
	switch {
	case g.packets == 0:
		s.mu.Unlock()
		return
	case g.first == 0:
		g.first = now
	}
	if complete && !g.lively(now) || g.packets >= gatherMost || now-g.first >= gatherTime {
		s.departNow()
	} else {
		s.await(now)
	}
	if s.flusher != nil && s.flusher.late(now) {
		s.flusher.round() // for the other links
	}
}

// await lets go of the mutex and leaves what was gathered to the flusher.
func (s *sender) await(now time.Duration) {
	called := s.gathering.awaited || s.flusher == nil
	s.gathering.awaited = true
	s.mu.Unlock()
	if !called {
		s.flusher.expect(s, now)
	}
}

// departNow lets go of the mutex and sends all that was gathered. The system calls are made without the mutex.
func (s *sender) departNow() {
	if s.gathering.packets == 0 {
		s.mu.Unlock()
		return
	}
	s.gathering.packets, s.gathering.first = 0, 0
	var few [fewLanes]directMedia
	out := few[:0]
	for _, l := range s.lanes {
		if l.gathered.unsent {
			l.gathered.unsent = false
			s.seal(l)
			out = append(out, l.direct)
		}
	}
	s.mu.Unlock()
	for _, d := range out {
		_ = d.Flush() // what the socket does not take is counted there, and lost as on the way
	}
}

// flush sends all that was gathered, for the flusher.
func (s *sender) flush() {
	s.mu.Lock()
	s.gathering.awaited = false
	s.departNow()
}

// serveDirect has what comes in handled where it is read, and waits for the end of a direct lane: it has no loops.
func (l *link) serveDirect(ln *lane) {
	before := ln.direct.Handle(meshnet.Handler{
		Each: func(b []byte, at time.Time) { l.arrived(ln, b, l.c.at(at)) },
		End:  func() { l.c.flusher.relay(l.c.now()) },
	})
	for _, b := range before {
		l.arrived(ln, b, l.c.now())
	}
	for !ln.broken.Load() {
		select {
		case <-l.ctx.Done():
			return
		case <-ln.conn.Done():
			return
		case <-ln.wake:
		}
	}
}
