package meshnet

import (
	"net/netip"
	"sync"
	"time"
)

// opener is the receiving side of a session. Only the goroutine that reads the socket uses it.
type opener struct {
	keys   epochCiphers
	replay replayGuard
	from   netip.AddrPort // where the peer proved to be
	path   pathCheck
	busy   bool // the handler got something of what is being read
}

// receive handles one packet of the session, read at the given time, and reports whether the handler got the first of
// this reading. b may be changed.
func (d *Direct) receive(p directPacket, b []byte, from netip.AddrPort, at time.Time) (begun bool) {
	in := &d.in
	p.complete(in.replay.next())
	if !in.replay.fresh(p.number) {
		d.refuse(refusedReplay)
		return false
	}
	c := in.keys.at(p.number, in.replay.highest)
	if c == nil {
		d.refuse(refusedEpoch)
		return false
	}
	payload, err := c.open(b, p)
	if err != nil {
		d.refuse(refusedForged)
		return false
	}
	newest := !in.replay.any || p.number > in.replay.highest
	in.replay.mark(p.number)
	d.stats.packetsReceived.Add(1)
	d.stats.bytesReceived.Add(uint64(len(b)))
	switch p.kind {
	case kindMedia:
		if newest && from != in.from {
			d.challenge(from)
		}
		return d.deliver(payload, at)
	case kindChallenge:
		d.answer(payload, from)
	case kindResponse:
		d.proven(payload, from)
	}
	return false
}

func (d *Direct) refuse(reason refusal) {
	d.stats.refused.Add(1)
	d.metrics.refusedDirect[reason].Inc()
}

func (d *Direct) deliver(payload []byte, at time.Time) (begun bool) {
	if h := d.handler.Load(); h != nil {
		h.Each(payload, at)
		begun = !d.in.busy && h.End != nil
		d.in.busy = d.in.busy || begun
		return begun
	}
	if evicted := d.queue.push(append(make([]byte, 0, len(payload)), payload...)); evicted {
		d.stats.receiveLost.Add(1)
	}
	return false
}

// done ends what was read at once.
func (d *Direct) done() {
	d.in.busy = false
	d.handler.Load().End()
}

// maxDirectQueue is how many packets wait for Receive: 10 ms at 100,000 a second.
const maxDirectQueue = 1024

// directQueue keeps datagrams for Receive, the newest when there are too many.
type directQueue struct {
	wake chan struct{} // capacity 1
	done chan struct{} // closed with the session

	mu     sync.Mutex
	ring   [][]byte // guarded by mu; grows to maxDirectQueue
	first  int      // guarded by mu
	n      int      // guarded by mu
	closed bool     // guarded by mu
}

func newDirectQueue() directQueue {
	return directQueue{wake: make(chan struct{}, 1), done: make(chan struct{})}
}

// push adds b, which is not nil, and reports whether the oldest had to go.
func (q *directQueue) push(b []byte) (evicted bool) {
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return true
	}
	if q.n == len(q.ring) && q.n < maxDirectQueue {
		grown := make([][]byte, max(64, 2*len(q.ring)))
		copied := copy(grown, q.ring[q.first:])
		copy(grown[copied:], q.ring[:q.first])
		q.ring, q.first = grown, 0
	}
	if evicted = q.n == len(q.ring); evicted {
		q.first = (q.first + 1) % len(q.ring)
		q.n--
	}
	q.ring[(q.first+q.n)%len(q.ring)] = b
	q.n++
	q.mu.Unlock()
	q.signal()
	return evicted
}

// pop returns the oldest, nil if there is none, and whether more may come.
func (q *directQueue) pop() (b []byte, open bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.n == 0 {
		return nil, !q.closed
	}
	b = q.ring[q.first]
	q.ring[q.first] = nil
	q.first = (q.first + 1) % len(q.ring)
	if q.n--; q.n > 0 {
		q.signal() // another receiver may wait
	}
	return b, true
}

func (q *directQueue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

func (q *directQueue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return
	}
	q.closed = true
	q.ring, q.first, q.n = nil, 0, 0
	close(q.done)
}
