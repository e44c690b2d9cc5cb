package trunk

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"time"

	"github.com/meridian-sfu/meridian/internal/meshnet"
)

// Live is Meridian's link between two node processes that their owner puts where it likes, in network namespaces for
// one, and its account in windows of time. All methods are for one goroutine.
type Live struct {
	cfg              LiveConfig
	sender, receiver *process
}

// LiveConfig says where the nodes of a Live run and what they do. Times are since the start that Begin tells.
type LiveConfig struct {
	Sender, Receiver LiveEnd
	Rate             int64         // bits per second of RTP offered: see Cell.Rate
	Seed             uint64        // of the traffic
	From, To         time.Duration // media flows from then to then
	Late             time.Duration // delay from which an audio packet is late
	Windows          []Window      // in order, not overlapping
	Nice             int           // see Config.Nice
}

// LiveEnd is where a node runs.
type LiveEnd struct {
	Addr    netip.Addr // it binds a free UDP port of
	Command *exec.Cmd  // runs Node; its SysProcAttr is set, its standard files are not
}

// Window is a span of time, To not included.
type Window struct {
	From time.Duration `json:"from"`
	To   time.Duration `json:"to"`
}

// LiveReport is what a Live found.
type LiveReport struct {
	Windows     []WindowReport `json:"windows"`
	Arrived     []uint64       `json:"arrived"` // RTP bytes by moment of arrival, in steps of LiveStep since the start
	Samples     []LiveSample   `json:"samples"` // of the sender, about every LiveStep
	LateP99     time.Duration  `json:"late_p99"`
	SocketDrops uint64         `json:"socket_drops"`
}

// LiveStep is how finely a LiveReport tells the course of things.
const LiveStep = 100 * time.Millisecond

// WindowReport is the account of all packets that were written to the link within a window.
type WindowReport struct {
	Offered      uint64        `json:"offered"` // packets
	OfferedAudio uint64        `json:"offered_audio"`
	OfferedBytes uint64        `json:"offered_bytes"`
	Arrived      uint64        `json:"arrived"`
	ArrivedBytes uint64        `json:"arrived_bytes"`
	ArrivedAudio uint64        `json:"arrived_audio"`
	LateAudio    uint64        `json:"late_audio"` // of these
	P50          time.Duration `json:"p50"`        // of the delay of all packets
	P99          time.Duration `json:"p99"`
	AudioP50     time.Duration `json:"audio_p50"`
	AudioP99     time.Duration `json:"audio_p99"`
}

// LiveSample is the link as its sending node sees it. Counters are since it began.
type LiveSample struct {
	At       time.Duration `json:"at"`
	State    string        `json:"state"`
	Estimate uint64        `json:"estimate"`
	Queue    time.Duration `json:"queue"`
	RTT      time.Duration `json:"rtt"`
	Withheld int           `json:"withheld"` // flows not sent in full
	Flows    int           `json:"flows"`
	Packets  uint64        `json:"packets"` // sent the first time
	Bytes    uint64        `json:"bytes"`
	Repair   uint64        `json:"repair"`
	Padding  uint64        `json:"padding"`
}

// StartLive starts both nodes and returns when the link is up and everything is asked for. Close ends them.
func StartLive(ctx context.Context, cfg LiveConfig) (*Live, error) {
	if err := (Cell{Rate: cfg.Rate, Duration: cfg.To - cfg.From}).Validate(); err != nil {
		return nil, fmt.Errorf("trunk: %w", err)
	}
	ca, err := meshnet.NewCA("trunk live", 24*time.Hour)
	if err != nil {
		return nil, err
	}
	l := &Live{cfg: cfg}
	for _, end := range []struct {
		LiveEnd
		role string
		into **process
	}{{cfg.Receiver, roleReceiver, &l.receiver}, {cfg.Sender, roleSender, &l.sender}} {
		j := job{Contestant: Meridian, Role: end.role, Cell: Cell{Rate: cfg.Rate}, Seed: cfg.Seed, Live: &livePlan{
			Listen: end.Addr, From: cfg.From, To: cfg.To, Late: cfg.Late, Windows: cfg.Windows,
		}}
		id := receiverID
		if end.role == roleSender {
			id = senderID
		}
		j.Credentials, err = issue(ca, id)
		if err == nil {
			*end.into, err = startCommand(end.Command, cfg.Nice, -1, &j)
		}
		if err != nil {
			l.Close()
			return nil, err
		}
	}
	if err := introduce(ctx, nil, l.receiver, l.sender); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// Begin tells the nodes when the start is, by Now.
func (l *Live) Begin(start int64) error {
	o := order{Start: start}
	return errors.Join(l.receiver.tell(o), l.sender.tell(o))
}

// Report waits for the account, which is there a second or two after the media's end, for so long at most.
func (l *Live) Report(ctx context.Context, patience time.Duration) (*LiveReport, error) {
	var sent, got *liveReport
	for _, p := range []struct {
		process *process
		into    **liveReport
	}{{l.sender, &sent}, {l.receiver, &got}} {
		m, err := p.process.hear(ctx, patience)
		if err != nil {
			return nil, err
		}
		if m.Live == nil || len(m.Live.Windows) != len(l.cfg.Windows) {
			return nil, fmt.Errorf("trunk: the %s has no report", p.process.role)
		}
		*p.into = m.Live
	}
	r := &LiveReport{
		Windows: got.Windows, Arrived: got.Arrived, Samples: sent.Samples, LateP99: sent.LateP99,
		SocketDrops: sent.SocketDrops + got.SocketDrops,
	}
	for i, w := range sent.Windows {
		r.Windows[i].Offered, r.Windows[i].OfferedAudio, r.Windows[i].OfferedBytes = w.Offered, w.OfferedAudio, w.OfferedBytes
	}
	return r, nil
}

// Close ends the nodes and waits for them.
func (l *Live) Close() {
	for _, p := range []*process{l.sender, l.receiver} {
		if p != nil {
			p.stop()
		}
	}
}

// Now is nanoseconds of the monotonic clock that all processes of the machine share.
func Now() (int64, error) {
	c, err := newClock()
	return c.base, err
}
