package cascade

import (
	"sync/atomic"
	"time"
)

// Limits of a lane.
const (
	maxLanes         = 128
	laneQueue        = 8                     // packets of a kind that wait on a lane: the rest waits where it can be reordered
	laneQueueMany    = 3                     // the same where there are more than fewLanes
	probesARound     = 8                     // lanes that are probed at once; where there are more, by turns
	fewLanes         = 4                     // lanes of which the nearest is worth looking for
	laneInside       = 4                     // datagrams that may wait inside a connection for its congestion window
	laneControl      = 32                    // NACKs, probes and answers that wait on a lane
	laneControlBytes = 256                   // of one of them
	laneStalled      = 20 * time.Millisecond // a SendDatagram that blocks this long
	safeDatagram     = 1180                  // bytes that fit any lane
)

// controlFrame is a short frame beside the media: a NACK, a probe, an answer.
type controlFrame struct {
	n int
	b [laneControlBytes]byte
}

// lane is one media connection of a link. Where QUIC DATAGRAMs carry media, its send loop alone calls SendDatagram,
// which may block, and its receive loop does nothing but receive, parse and hand on. A direct lane has neither: see
// lane_direct.go.
type lane struct {
	index  int
	conn   MediaConn
	direct directMedia   // conn, when it is one
	wake   chan struct{} // capacity 1: something is queued, or the lane broke
	done   chan struct{} // closed when both loops have ended

	gathered datagram // direct lanes: what is under way; guarded by sender.mu

	urgent  ring[item]         // audio, which overtakes the rest; guarded by sender.mu
	queue   ring[item]         // the rest; guarded by sender.mu
	control ring[controlFrame] // guarded by sender.mu
	max     int                // largest datagram, bytes; guarded by sender.mu

	retired      atomic.Bool  // to be closed: takes nothing more
	broken       atomic.Bool  // direct lanes: the connection takes nothing more
	blockedSince atomic.Int64 // monotonic time SendDatagram was called, 0 when it is not under way
	heard        atomic.Int64 // monotonic time of the last frame
	probed       atomic.Int64 // monotonic time of the first probe since then
	rtt          atomic.Int64 // smoothed, 0 before the first answer
	jitter       atomic.Int64 // mean deviation of it
}

func newLane(index int, conn MediaConn, now time.Duration) *lane {
	l := &lane{
		index:   index,
		conn:    conn,
		wake:    make(chan struct{}, 1),
		done:    make(chan struct{}),
		urgent:  newRing[item](laneQueue + 1), // the second half of a packet may follow a full queue
		queue:   newRing[item](laneQueue + 1),
		control: newRing[controlFrame](laneControl),
		max:     datagramBytes(conn),
	}
	if d, ok := conn.(directMedia); ok {
		l.direct = d
	}
	l.heard.Store(int64(now))
	return l
}

func datagramBytes(conn MediaConn) int {
	if n := conn.MaxDatagramBytes(); n > 0 {
		return n
	}
	return safeDatagram
}

func (l *lane) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// usable reports whether the lane takes packets.
func (l *lane) usable(now time.Duration) bool {
	return !l.retired.Load() && !l.broken.Load() && !l.stalled(now)
}

// silent reports whether a probe has been without an answer, or any other frame, for so long.
func (l *lane) silent(now, after time.Duration) bool {
	probed := l.probed.Load()
	return probed > l.heard.Load() && now-time.Duration(probed) > after
}

// unlimited reports whether no congestion window of its own limits the lane.
func (l *lane) unlimited() bool { return unlimited(l.conn) }

func unlimited(conn MediaConn) bool {
	u, ok := conn.(interface{ Unlimited() bool })
	return ok && u.Unlimited()
}

// ring is where items of a class wait.
func (l *lane) ring(urgent bool) *ring[item] {
	if urgent {
		return &l.urgent
	}
	return &l.queue
}

// next is the ring to take from, nil when nothing waits.
func (l *lane) next() *ring[item] {
	switch {
	case l.urgent.n > 0:
		return &l.urgent
	case l.queue.n > 0:
		return &l.queue
	default:
		return nil
	}
}

func (l *lane) waiting() int { return l.urgent.n + l.queue.n }

// clear drops what waits, and returns how much that was.
func (l *lane) clear() (n int) {
	for q := l.next(); q != nil; q = l.next() {
		it := q.pop()
		it.pkt.Release()
		n++
	}
	return n + l.gathered.clear()
}

// stalled reports whether the send loop has been stuck for a while.
func (l *lane) stalled(now time.Duration) bool {
	since := l.blockedSince.Load()
	return since != 0 && now-time.Duration(since) > laneStalled
}

// measured takes a round trip into the smoothed one (RFC 6298 §2).
func (l *lane) measured(rtt time.Duration) {
	old := time.Duration(l.rtt.Load())
	if old == 0 {
		old = rtt
	}
	deviation := max(rtt-old, old-rtt)
	jitter := time.Duration(l.jitter.Load())
	l.jitter.Store(int64(jitter + (deviation-jitter)/16))
	l.rtt.Store(int64(max(1, old+(rtt-old)/8)))
}
