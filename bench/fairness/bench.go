package fairness

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"time"

	"github.com/meridian-sfu/meridian/bench/trunk"
	"github.com/meridian-sfu/meridian/bench/wan"
	"github.com/meridian-sfu/meridian/internal/testnet"
)

// The hosts, and where the TCP of b listens.
const (
	hostA   = "a"
	hostB   = "b"
	tcpPort = 5001
)

// Progress is called with what begins now, and how long the whole run goes on from then. It may be nil.
type Progress func(what string, left time.Duration)

// Bench measures. Run is not to be called concurrently.
type Bench struct{ cfg Config }

// New returns a bench. Nothing is started.
func New(cfg Config) (*Bench, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Bench{cfg}, nil
}

// Run measures once. The error is of ctx, says what this machine lacks (wan.Available, a congestion control), or which
// process failed; no namespace and no process is left either way.
func (b *Bench) Run(ctx context.Context, progress Progress) (res *Result, err error) {
	if progress == nil {
		progress = func(string, time.Duration) {}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	network, err := wan.Up(wan.Topology{Hosts: []string{hostA, hostB}, Seed: b.cfg.Seed, Links: []wan.Pair{wan.Both(hostA, hostB, b.cfg.link())}})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, network.Close()) }()
	r := &run{cfg: b.cfg, course: b.cfg.course(), net: network}
	defer r.close()
	progress("network and processes", b.cfg.Takes())
	if err := r.startTCP(ctx); err != nil {
		return nil, err
	}
	if !b.cfg.Cold {
		if err := r.startMedia(ctx); err != nil {
			return nil, err
		}
	}
	now, err := trunk.Now()
	if err != nil {
		return nil, err
	}
	const soon = 300 * time.Millisecond
	r.start, r.began = now+int64(soon), time.Now().Add(soon)
	if err := r.begin(ctx); err != nil {
		return nil, err
	}
	return r.watch(ctx, progress)
}

// run is one run.
type run struct {
	cfg    Config
	course course
	net    *wan.Net
	start  int64     // by trunk.Now
	began  time.Time // the same moment

	sender, receiver *child
	media            *trunk.Live
}

func (r *run) close() {
	for _, c := range []*child{r.sender, r.receiver} {
		if c != nil {
			c.stop()
		}
	}
	if r.media != nil {
		r.media.Close()
	}
}

func (r *run) startTCP(ctx context.Context) (err error) {
	to := netip.AddrPortFrom(r.net.Host(hostB).Addr(), tcpPort)
	for _, end := range []struct {
		host string
		send bool
		into **child
	}{{hostB, false, &r.receiver}, {hostA, true, &r.sender}} {
		cmd := r.command(ctx, end.host, r.cfg.TCPNode)
		*end.into, err = startChild(ctx, cmd, r.cfg.Nice, &tcpJob{
			Send: end.send, Addr: to, Control: r.cfg.Control, Flows: r.cfg.Flows, Times: r.course.tcp[:], End: r.course.end,
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *run) startMedia(ctx context.Context) (err error) {
	a, b := r.net.Host(hostA), r.net.Host(hostB)
	r.media, err = trunk.StartLive(ctx, trunk.LiveConfig{
		Sender:   trunk.LiveEnd{Addr: a.Addr(), Command: r.command(ctx, hostA, r.cfg.MediaNode)},
		Receiver: trunk.LiveEnd{Addr: b.Addr(), Command: r.command(ctx, hostB, r.cfg.MediaNode)},
		Rate:     r.cfg.Offered, Seed: r.cfg.Seed, From: r.course.mediaFrom, To: r.course.mediaTo,
		Late: r.cfg.RTT/2 + r.cfg.Queue + trunk.Slack, Windows: r.course.windows, Nice: r.cfg.Nice,
	})
	return err
}

func (r *run) command(ctx context.Context, host string, command []string) *exec.Cmd {
	return r.net.Host(host).Command(ctx, command[0], command[1:]...)
}

// begin tells everybody when the start is.
func (r *run) begin(ctx context.Context) error {
	if err := errors.Join(r.receiver.tell(r.start), r.sender.tell(r.start)); err != nil {
		return err
	}
	if r.cfg.Cold {
		if err := sleepUntil(ctx, r.began.Add(r.course.mediaFrom/2)); err != nil {
			return err
		}
		if err := r.startMedia(ctx); err != nil {
			return err
		}
		if late := time.Since(r.began) - r.course.mediaFrom; late > 0 {
			return fmt.Errorf("fairness: the link was open %v too late: a longer duration leaves it more time", late.Round(time.Millisecond))
		}
	}
	return r.media.Begin(r.start)
}

// watch tells how it goes, counts what the bottleneck drops, and collects the reports.
func (r *run) watch(ctx context.Context, progress Progress) (*Result, error) {
	res := &Result{Config: r.cfg, Time: r.began.UTC().Truncate(time.Second)}
	passed := make([]testnet.Stats, 0, len(r.course.windows)+1)
	for i, w := range r.course.windows {
		if err := sleepUntil(ctx, r.began.Add(w.From)); err != nil {
			return nil, err
		}
		progress(r.course.names[i], r.course.end-w.From)
		before := r.net.Stats(hostA, hostB)
		if err := sleepUntil(ctx, r.began.Add(w.To)); err != nil {
			return nil, err
		}
		after := r.net.Stats(hostA, hostB)
		passed = append(passed, testnet.Stats{Passed: after.Passed - before.Passed, Overflow: after.Overflow - before.Overflow})
	}
	const patience = 20 * time.Second
	media, err := r.media.Report(ctx, patience)
	if err != nil {
		return nil, err
	}
	got, err := r.receiver.hear(ctx, patience)
	if err != nil {
		return nil, err
	}
	sent, err := r.sender.hear(ctx, patience)
	if err != nil {
		return nil, err
	}
	if got.Report == nil || sent.Report == nil {
		return nil, errors.New("fairness: a TCP process has no report")
	}
	res.account(r.course, media, got.Report, sent.Report, passed)
	return res, nil
}
