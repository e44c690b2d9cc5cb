package trunk

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"
)

// The parts of a node.
const (
	roleSender   = "sender"
	roleReceiver = "receiver"
	roleOcean    = "ocean" // the path between them
)

// job is the first thing a node process is told.
type job struct {
	Contestant  string        `json:"contestant"`
	Role        string        `json:"role"`
	Cell        Cell          `json:"cell"`
	Warmup      time.Duration `json:"warmup"`
	Seed        uint64        `json:"seed"`
	Emulate     bool          `json:"emulate"` // false: nothing between the nodes, and nobody counts what they send
	Pulse       bool          `json:"pulse"`   // of the ocean: it wakes the sender
	Credentials credentials   `json:"credentials"`
	Live        *livePlan     `json:"live,omitempty"` // instead of a cell: see Live
}

// order is what a node process is told after its job, each field once.
type order struct {
	Peer  netip.AddrPort `json:"peer,omitzero"`  // where the other node is, or the ocean's side; the sender to the ocean
	Other netip.AddrPort `json:"other,omitzero"` // the receiver to the ocean
	Start int64          `json:"start,omitzero"` // when the sender begins, ns of the monotonic clock
}

// message is what a node process says, in this order: where it listens, that it is ready, its report, or what went wrong.
type message struct {
	Listening netip.AddrPort `json:"listening,omitzero"` // the ocean: for the sender
	Other     netip.AddrPort `json:"other,omitzero"`     // the ocean: for the receiver
	Ready     bool           `json:"ready,omitzero"`
	Report    *report        `json:"report,omitempty"`
	Live      *liveReport    `json:"live,omitempty"`
	Error     string         `json:"error,omitempty"`
}

// report is one side's account of the counted time.
type report struct {
	Usage       usage        `json:"usage"`
	Counters    counters     `json:"counters"`
	SocketDrops uint64       `json:"socket_drops"`
	Ocean       *oceanReport `json:"ocean,omitempty"` // the ocean's, and nothing else of it but usage and drops

	Offered      uint64        `json:"offered"` // sender: packets
	OfferedAudio uint64        `json:"offered_audio"`
	OfferedBytes uint64        `json:"offered_bytes"`
	LateP99      time.Duration `json:"late_p99"` // sender, behind its schedule
	LateMax      time.Duration `json:"late_max"`

	Arrivals arrivals      `json:"arrivals"`         // receiver
	Course   *courseReport `json:"course,omitempty"` // receiver, of a bottleneck that came and went
}

// setupTimeout bounds everything before the start.
const setupTimeout = 20 * time.Second

// Node is one side of a cell, in a process of its own: it takes its orders from in and answers on out, a JSON object
// a line. It returns when in ends or ctx does.
func Node(ctx context.Context, in io.Reader, out io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	lines := make(chan []byte)
	go func() { // ends with in, which the parent closes, or with the process
		defer cancel() // the parent is gone, or done with us
		for sc := bufio.NewScanner(in); sc.Scan(); {
			select {
			case lines <- append([]byte(nil), sc.Bytes()...):
			case <-ctx.Done():
				return
			}
		}
	}()
	n := &node{lines: lines, out: json.NewEncoder(out)}
	err := n.run(ctx)
	if err != nil && ctx.Err() == nil {
		return errors.Join(err, n.out.Encode(message{Error: err.Error()}))
	}
	return nil
}

type node struct {
	lines <-chan []byte
	out   *json.Encoder
	job   job
	wire  *wire
	clock clock
	load  *workload
	start int64
}

func (n *node) read(ctx context.Context, into any) error {
	select {
	case line := <-n.lines:
		if err := json.Unmarshal(line, into); err != nil {
			return fmt.Errorf("trunk: order: %w", err)
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (n *node) run(ctx context.Context) (err error) {
	if err := n.read(ctx, &n.job); err != nil {
		return err
	}
	if n.job.Live != nil {
		return n.live(ctx)
	}
	if err := n.job.Cell.Validate(); err != nil {
		return err
	}
	if n.clock, err = newClock(); err != nil {
		return err
	}
	if n.job.Role == roleOcean {
		return n.runOcean(ctx)
	}
	n.load = newWorkload(n.job.Cell.Rate, n.job.Seed)
	if n.wire, err = openWire(); err != nil {
		return err
	}
	defer func() { _ = n.wire.Close() }()
	here, err := netip.ParseAddrPort(n.wire.LocalAddr().String())
	if err != nil {
		return fmt.Errorf("trunk: %w", err)
	}
	if err := n.out.Encode(message{Listening: here}); err != nil {
		return err
	}
	var o order
	if err := n.read(ctx, &o); err != nil {
		return err
	}
	if n.job.Emulate {
		if err := n.wire.connect(o.Peer); err != nil {
			return err
		}
	}
	if n.job.Role == roleSender {
		return n.sender(ctx, o.Peer)
	}
	return n.receiver(ctx, o.Peer)
}

// begin says that this side is ready, and returns when it knows when to start.
func (n *node) begin(ctx context.Context, ready func(context.Context) error) error {
	setup, cancel := context.WithTimeout(ctx, setupTimeout)
	defer cancel()
	if err := ready(setup); err != nil {
		return fmt.Errorf("%s of %s is not ready: %w", n.job.Role, n.job.Contestant, err)
	}
	if err := n.out.Encode(message{Ready: true}); err != nil {
		return err
	}
	var o order
	if err := n.read(ctx, &o); err != nil {
		return err
	}
	n.start = o.Start
	return nil
}

func (n *node) sender(ctx context.Context, peer netip.AddrPort) error {
	p, err := openPulse(ctx)
	if err != nil {
		return err
	}
	s, err := newSending(ctx, &n.job, n.wire, peer, n.load)
	if err != nil {
		return err
	}
	defer s.close()
	if err := n.begin(ctx, s.ready); err != nil {
		return err
	}
	r, err := n.pace(ctx, s, p)
	if err != nil {
		return err
	}
	return n.finish(ctx, r)
}

func (n *node) receiver(ctx context.Context, peer netip.AddrPort) error {
	cell := n.job.Cell
	audio := make([]bool, len(n.load.streams))
	for i, s := range n.load.streams {
		audio[i] = s.audio
	}
	packets := float64(cell.Rate) / 8 / 900 * cell.Duration.Seconds() // about
	m := newMeter(audio, int(packets))
	if cell.episodic() {
		m.course = newCourse(cell, n.job.Warmup, n.job.Seed)
	}
	v, err := newReceiving(ctx, &n.job, n.wire, peer, n.load, m, n.clock)
	if err != nil {
		return err
	}
	defer v.close()
	if err := n.begin(ctx, v.ready); err != nil {
		return err
	}
	var r report
	from := n.start + int64(n.job.Warmup)
	if null, ok := v.(*nullReceiving); ok {
		null.begin(ctx, n.start)
	}
	if err := n.sleep(ctx, from); err != nil {
		return err
	}
	used := readUsage()
	n.wire.say(markBegin)
	if err := n.sleep(ctx, from+int64(cell.Duration)); err != nil {
		return err
	}
	n.wire.say(markEnd)
	r.Usage = readUsage().minus(used)
	inTime, late := cell.limits()
	if err := n.sleep(ctx, from+int64(cell.Duration+late+cell.RTT+straggle)); err != nil {
		return err
	}
	r.Counters, r.Arrivals = v.counters(), m.report(inTime, late)
	if cell.episodic() {
		r.Course = m.course.report(cell, audio, inTime, late)
	}
	return n.finish(ctx, &r)
}

// straggle is how much longer than useful the receiver waits, so that a late packet counts as late, not as lost.
const straggle = 500 * time.Millisecond

// finish reports and stays until it is told to go: the other side may not be done.
func (n *node) finish(ctx context.Context, r *report) error {
	r.SocketDrops = socketDrops(n.wire.port)
	if err := n.out.Encode(message{Report: r}); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

func (n *node) sleep(ctx context.Context, until int64) error {
	t := time.NewTimer(n.clock.until(until))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
