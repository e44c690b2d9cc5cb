package trunk

import (
	"context"
	"net/netip"
	"os"
	"runtime"
	"time"

	"github.com/meridian-sfu/meridian/internal/testnet"
)

// grid is how finely packets leave the sender and the ocean: a waking for each packet would cost more than the packet.
const grid = 500 * time.Microsecond

// The two ways over an ocean.
const (
	there = iota // sender to receiver
	back
	ways
)

// Marks are datagrams with which a node says, in the order of what it sends, that the counted time begins or ends.
const (
	markBegin = iota
	markEnd
	marks
)

const (
	markMagic      = "MT-ocean-mark-"
	markPatience   = 5 * time.Second // beyond the end of everything
	oceanUrgency   = 1
	oceanDatagram  = 2048 // bytes; larger ones are dropped as overflow
	oceanBatch     = 64
	maxOceanFlight = 1 << 17 // datagrams; more are dropped as overflow
)

// sent is what came to one way over the ocean so far, as datagrams.
type sent struct {
	Packets  uint64 `json:"packets"`
	Bytes    uint64 `json:"bytes"`    // UDP payload
	Lost     uint64 `json:"lost"`     // by the emulated path
	Overflow uint64 `json:"overflow"` // by its bottleneck, or by the emulator itself
}

func (s sent) minus(o sent) sent {
	return sent{Packets: s.Packets - o.Packets, Bytes: s.Bytes - o.Bytes, Lost: s.Lost - o.Lost, Overflow: s.Overflow - o.Overflow}
}

// oceanReport is the ocean's account of the counted time.
type oceanReport struct {
	Sent    [ways]sent    `json:"sent"`
	Missed  bool          `json:"missed"`   // not all marks came: Sent is of another time
	LateMax time.Duration `json:"late_max"` // how late a datagram left at most
	Narrow  *narrowReport `json:"narrow,omitempty"`
}

// parcel is a datagram on its way.
type parcel struct {
	due int64
	way int
	n   int
	buf [oceanDatagram]byte
}

// ocean is a process of its own between the two nodes: they send to it, and it forwards when the path would have. It is also the
// sender's pulse: it knows the schedule, and wakes the sender by a pipe when packets are due, as a network wakes a node. So no
// timer of the harness is in the measured processes.
//
//	sender ──▶ side[there] ═ shaper, line ═ side[back] ──▶ receiver      and the other way round
//
// One thread does everything, every half millisecond: no packet wakes it, so that sending one costs the contestants what it
// costs when a network card takes it. When a packet came is by the kernel's stamp, so a late pass delays no packet but for
// those already due.
type ocean struct {
	job     *job
	sides   [ways]*side // what comes for a way is read from its side; it leaves by the other one
	shapers [ways]*testnet.Shaper
	line    testnet.Timeline[*parcel]
	pulse   *os.File // nil without
	load    *workload

	sent   [ways]sent
	marked [ways][marks]bool
	at     [ways][marks]sent
	last   [ways]int64 // when the last packet came
	late   time.Duration
	// lateCounted is late at the end of the counted time.
	lateCounted time.Duration
	out         [ways][]*parcel
	narrow      *narrow // nil unless a bottleneck comes and goes, and before the start
}

func newOcean(j *job, pulse *os.File) (*ocean, error) {
	o := &ocean{job: j, pulse: pulse, load: newWorkload(j.Cell.Rate, j.Seed)}
	if !j.Emulate {
		return o, nil
	}
	for way := range o.sides {
		var err error
		if o.sides[way], err = openSide(); err != nil {
			o.close()
			return nil, err
		}
		begin := j.Cell
		if begin.episodic() {
			begin = begin.wide()
		}
		o.shapers[way] = testnet.NewShaper(begin.link(), j.Seed, uint64(way))
	}
	return o, nil
}

func (o *ocean) close() {
	for _, s := range o.sides {
		if s != nil {
			s.close()
		}
	}
}

// runOcean is what a node process with that role does.
func (n *node) runOcean(ctx context.Context) error {
	var pulse *os.File
	if n.job.Pulse {
		pulse = os.NewFile(pulseDescriptor, "pulse")
	}
	o, err := newOcean(&n.job, pulse)
	if err != nil {
		return err
	}
	defer o.close()
	var m message
	if n.job.Emulate {
		m.Listening, m.Other = o.sides[there].addr, o.sides[back].addr
	}
	if err := n.out.Encode(m); err != nil {
		return err
	}
	var peers order
	if err := n.read(ctx, &peers); err != nil {
		return err
	}
	if n.job.Emulate {
		o.sides[there].peer, o.sides[back].peer = peers.Peer, peers.Other
	}
	starts, reports, done := make(chan int64, 1), make(chan report, 1), make(chan struct{})
	ctx, cancel := context.WithCancel(ctx)
	go func() { // ends with ctx
		defer close(done)
		o.run(ctx, n.clock, starts, reports)
	}()
	defer func() { // the sockets go after the last pass
		cancel()
		<-done
	}()
	if err := n.out.Encode(message{Ready: true}); err != nil {
		return err
	}
	var start order
	if err := n.read(ctx, &start); err != nil {
		return err
	}
	starts <- start.Start
	select {
	case r := <-reports:
		if err := n.out.Encode(message{Report: &r}); err != nil {
			return err
		}
		<-ctx.Done()
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// run makes a pass every grid until ctx ends. It never gives its thread back, which ends with it.
func (o *ocean) run(ctx context.Context, c clock, starts <-chan int64, reports chan<- report) {
	runtime.LockOSThread()
	prefer(oceanUrgency)
	var start, from, to int64
	var used, spent usage
	const before, counting, counted, over = 0, 1, 2, 3
	phase := before
	for next := c.now(); ctx.Err() == nil; {
		sleepUntil(next)
		now := c.now()
		if start == 0 {
			select {
			case start = <-starts:
				from = start + int64(o.job.Warmup)
				to = from + int64(o.job.Cell.Duration)
				if o.job.Emulate && o.job.Cell.episodic() {
					o.narrow = newNarrow(o.job.Cell, from)
				}
				next = start - (start-now)/int64(grid)*int64(grid) // the grid of the sender's schedule
			default:
			}
		} else {
			o.beat(now - start)
		}
		switch {
		case phase == before && start != 0 && now >= from:
			phase, used, o.late = counting, readUsage(), 0
		case phase == counting && now >= to:
			phase, spent = counted, readUsage().minus(used)
			o.lateCounted = o.late
		case phase == counted && (o.complete() || now > to+int64(markPatience)):
			phase = over
			reports <- o.report(spent)
		}
		if o.job.Emulate {
			o.pass(now)
		}
		for next += int64(grid); next <= now; {
			next += int64(grid)
		}
	}
}

// beat wakes the sender when packets are due on its grid: what is due a little after it is for the next beat.
func (o *ocean) beat(since int64) {
	since -= since % int64(grid)
	if o.pulse == nil || o.load.peek() > time.Duration(since) {
		return
	}
	for o.load.peek() <= time.Duration(since) {
		o.load.take()
	}
	_, _ = o.pulse.Write([]byte{1}) // a full pipe wakes as well
}

// pass takes in what came and sends what is due.
func (o *ocean) pass(now int64) {
	if o.narrow != nil {
		o.narrow.turn(now, o.shapers[:])
	}
	for way := range o.sides {
		o.sides[way].receive(func(p *parcel, from netip.AddrPort, came int64) {
			o.take(way, p, from, came)
		})
	}
	for {
		p, ok := o.line.PopDue(time.Unix(0, now))
		if !ok {
			break
		}
		o.late = max(o.late, time.Duration(now-p.due))
		o.out[p.way] = append(o.out[p.way], p)
	}
	for way := range o.out {
		if len(o.out[way]) == 0 {
			continue
		}
		o.sides[ways-1-way].send(o.out[way])
		for i, p := range o.out[way] {
			o.sides[way].give(p)
			o.out[way][i] = nil
		}
		o.out[way] = o.out[way][:0]
	}
}

// take puts a datagram on its way, or loses it.
func (o *ocean) take(way int, p *parcel, from netip.AddrPort, came int64) {
	s := o.sides[way]
	if from != s.peer {
		if mark, ok := parseMark(p.buf[:p.n]); ok {
			o.marked[way][mark], o.at[way][mark] = true, o.sent[way]
		}
		s.give(p)
		return
	}
	came = max(came, o.last[way])
	o.last[way] = came
	count := &o.sent[way]
	count.Packets++
	count.Bytes += uint64(p.n)
	wait := o.shapers[way].Wait(time.Unix(0, came))
	due, v := o.shapers[way].Packet(time.Unix(0, came), p.n)
	if o.narrow != nil && way == there {
		o.narrow.packet(came, p.n, wait, v)
	}
	switch {
	case v == testnet.Lost:
		count.Lost++
	case v == testnet.Overflow || p.n > oceanDatagram || o.line.Len() >= maxOceanFlight:
		count.Overflow++
	default:
		p.due, p.way = due.UnixNano(), way
		o.line.Push(due, p)
		return
	}
	s.give(p)
}

func (o *ocean) complete() bool {
	for way := range o.marked {
		if o.sides[way] == nil {
			continue
		}
		for _, came := range o.marked[way] {
			if !came {
				return false
			}
		}
	}
	return true
}

func (o *ocean) report(spent usage) report {
	r := report{Usage: spent, Ocean: &oceanReport{Missed: !o.complete(), LateMax: o.lateCounted}}
	if o.narrow != nil {
		r.Ocean.Narrow = o.narrow.report()
	}
	for way, s := range o.sides {
		if s == nil {
			continue
		}
		r.Ocean.Sent[way] = o.at[way][markEnd].minus(o.at[way][markBegin])
		r.SocketDrops += socketDrops(s.addr.Port()) + s.refused
	}
	return r
}

// putMark and parseMark are for a mark's datagram.
func putMark(mark int) []byte { return append([]byte(markMagic), byte('0'+mark)) }

func parseMark(b []byte) (mark int, ok bool) {
	if len(b) != len(markMagic)+1 || string(b[:len(markMagic)]) != markMagic {
		return 0, false
	}
	mark = int(b[len(markMagic)]) - '0'
	return mark, mark >= 0 && mark < marks
}
