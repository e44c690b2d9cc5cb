package trunk

import (
	"encoding/json"
	"time"
)

// Result is what one cell showed. Its JSON has an object for each contestant beside the cell.
type Result struct {
	Cell       Cell
	Time       time.Time
	Seed       uint64
	Warmup     float64 // seconds
	Took       float64 // seconds, all of it
	CPUs       int
	LoadBefore float64 // of the machine, one-minute average
	LoadAfter  float64
	Bare       bool     // without emulation
	Disturbed  bool     // the machine itself was late or lossy: see disturbed
	Beside     int      // other cells that were under way when it began
	Doubts     []string // what cannot be: see doubts
	Baseline   Baseline
	Outcomes   map[string]*Outcome // by contestant; those that ran
}

// Baseline is what the harness itself takes of the processors, µs per packet, measured with nobody between its two ends: the
// sender keeps the schedule and builds packets, the receiver counts them. It is taken off every contestant's CPU.
type Baseline struct {
	Harness   float64 `json:"harness_us_per_packet"`          // both sides together
	Sender    float64 `json:"harness_sender_us_per_packet"`   // per packet offered
	Receiver  float64 `json:"harness_receiver_us_per_packet"` // per packet that arrived
	Disturbed bool    `json:"disturbed"`                      // the machine was, each time
}

// Outcome is what one contestant did in a cell. Losses and overheads are shares.
type Outcome struct {
	Error string `json:"error,omitempty"` // why there is no outcome

	Delivered        float64 `json:"delivered"`          // within one-way delay + Slack
	ResidualLoss     float64 `json:"residual_loss"`      // the rest
	ResidualLossLate float64 `json:"residual_loss_late"` // not even within a round trip more
	NeverArrived     float64 `json:"never_arrived"`      // not at all
	DelayP50         float64 `json:"delay_p50_ms"`       // of what arrived
	DelayP99         float64 `json:"delay_p99_ms"`

	Overhead        *float64 `json:"overhead"`         // bytes on the wire towards the receiver beyond RTP ÷ RTP bytes sent; null without emulation
	RepairOverhead  float64  `json:"repair_overhead"`  // of this, parity, copies and retransmissions as the contestant counts them
	ReverseOverhead *float64 `json:"reverse_overhead"` // bytes on the wire the other way ÷ RTP bytes sent
	Withheld        float64  `json:"withheld"`         // share of packets that never left the sender

	CPU         float64 `json:"cpu_us_per_packet"`          // the contestant's own, both sides together, per packet that arrived: CPUGross less Baseline
	CPUSender   float64 `json:"cpu_sender_us_per_packet"`   // of it; 0 where the harness alone seemed to take more
	CPUReceiver float64 `json:"cpu_receiver_us_per_packet"` // of it, alike
	CPUGross    float64 `json:"cpu_us_per_packet_gross"`    // of both processes, as measured

	AudioResidualLoss     float64 `json:"audio_residual_loss"`
	AudioResidualLossLate float64 `json:"audio_residual_loss_late"`

	Packets    uint64  `json:"packets"`     // offered and counted
	OfferedBps float64 `json:"offered_bps"` // RTP bits per second
	Duplicates uint64  `json:"duplicates"`  // delivered twice
	Reordered  uint64  `json:"reordered"`

	WireDatagrams uint64        `json:"wire_datagrams"` // towards the receiver
	WireLoss      float64       `json:"wire_loss"`      // share of these the emulated path lost, to hold against the cell's
	WireOverflow  float64       `json:"wire_overflow"`  // share of these its bottleneck dropped
	SocketDrops   uint64        `json:"socket_drops"`   // datagrams the kernel had no room for, at the nodes and between them, from the beginning
	LateP99       float64       `json:"pacing_late_p99_ms"`
	LateMax       float64       `json:"pacing_late_max_ms"`
	Behind        bool          `json:"pacing_fell_behind"`   // the sender did not keep its schedule: do not trust the delays
	OthersCPU     float64       `json:"other_processes_cpus"` // processors busy with something else meanwhile
	Attempts      int           `json:"attempts"`             // trials it took; this is the one the machine disturbed least
	Disturbed     bool          `json:"disturbed"`            // even that one
	StallMax      float64       `json:"stall_max_ms"`         // how long the machine stood still at most, as a watchdog saw that has nothing to do with the contestant
	StallSum      float64       `json:"stall_sum_ms"`         // in all, of stalls longer than 10 ms
	Steal         float64       `json:"steal_ms"`             // processor time that the host gave to others, of all processors
	OceanLate     float64       `json:"ocean_late_max_ms"`    // how late the emulated path delivered at most
	OceanMissed   bool          `json:"ocean_missed"`         // it does not know what belonged to the counted time
	OceanCPU      float64       `json:"ocean_cpus"`           // processors it took
	Bottleneck    *Episode      `json:"bottleneck,omitempty"` // if it came and went
	Link          *linkCounters `json:"link,omitempty"`       // Meridian's own view of the sender's end
	LinkReceiver  *linkCounters `json:"link_receiver,omitempty"`
}

// Episode is how a contestant lived through a bottleneck that came and went.
type Episode struct {
	StepDown *float64 `json:"step_down_ms"` // from its beginning until what is offered to it fits, and its queue is below 60 ms; null: never
	Recovery *float64 `json:"recovery_ms"`  // from its end until all layers of all sources are back; null: not in the counted time
	QueueP50 float64  `json:"queue_p50_ms"` // what packets waited for, from its beginning to its end
	QueueP99 float64  `json:"queue_p99_ms"`
	QueueMax float64  `json:"queue_max_ms"`
	Overflow float64  `json:"overflow"` // share of these packets that found no room

	// Of the audio that was sent while it was there.
	AudioResidualLoss     float64 `json:"audio_residual_loss"`
	AudioResidualLossLate float64 `json:"audio_residual_loss_late"`
}

// behind is how late 1 % of the sender's wake-ups may be before the outcome says so.
const behind = 5 * time.Millisecond

// trial is the raw account of one contestant in a cell.
type trial struct {
	cell                    Cell
	sender, receiver, ocean *report
	stallMax, stallSum      time.Duration
	steal                   time.Duration
}

// harness makes a trial of nobody a baseline.
func (t *trial) harness() Baseline {
	b := Baseline{
		Sender:   ratio(micros(t.sender.Usage.CPU), float64(t.sender.Offered)),
		Receiver: ratio(micros(t.receiver.Usage.CPU), float64(t.receiver.Arrivals.All.Arrived)),
	}
	b.Harness = b.Sender + b.Receiver
	return b
}

// cpu fills in what a contestant took, per packet that arrived; per packet offered when none did.
func (t *trial) cpu(o *Outcome, base Baseline) {
	offered, arrived := float64(t.sender.Offered), float64(t.receiver.Arrivals.All.Arrived)
	n := arrived
	if n == 0 {
		n = offered
	}
	s, r := micros(t.sender.Usage.CPU), micros(t.receiver.Usage.CPU)
	o.CPUGross = ratio(s+r, n)
	o.CPUSender = ratio(max(0, s-base.Sender*offered), n)
	o.CPUReceiver = ratio(max(0, r-base.Receiver*arrived), n)
	o.CPU = o.CPUSender + o.CPUReceiver
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

func (t *trial) outcome(base Baseline, bare bool) *Outcome {
	s, r := t.sender, t.receiver
	a, offered := r.Arrivals, float64(s.Offered)
	inTime := ratio(float64(a.All.InTime), offered)
	ocean := t.ocean.Ocean
	to, from := ocean.Sent[there], ocean.Sent[back]
	wire := float64(to.Packets)
	o := &Outcome{
		Delivered: inTime, ResidualLoss: missing(a.All.InTime, s.Offered), ResidualLossLate: missing(a.All.Late, s.Offered),
		NeverArrived: missing(a.All.Arrived, s.Offered), DelayP50: millis(a.P50), DelayP99: millis(a.P99),
		RepairOverhead:    ratio(float64(s.Counters.Repair), float64(s.Counters.Bytes)),
		Withheld:          missing(s.Counters.Packets, s.Offered),
		AudioResidualLoss: missing(a.Audio.InTime, s.OfferedAudio), AudioResidualLossLate: missing(a.Audio.Late, s.OfferedAudio),
		Packets: s.Offered, OfferedBps: float64(s.OfferedBytes) * 8 / t.cell.Duration.Seconds(),
		Duplicates: a.Duplicates, Reordered: a.Reordered,
		WireDatagrams: to.Packets, WireLoss: ratio(float64(to.Lost), wire), WireOverflow: ratio(float64(to.Overflow), wire),
		SocketDrops: s.SocketDrops + r.SocketDrops + t.ocean.SocketDrops,
		LateP99:     millis(s.LateP99), LateMax: millis(s.LateMax), Behind: s.LateP99 > behind,
		OthersCPU: max(0, (s.Usage.Machine-s.Usage.CPU-r.Usage.CPU-t.ocean.Usage.CPU).Seconds()/t.cell.Duration.Seconds()),
		StallMax:  millis(t.stallMax), StallSum: millis(t.stallSum), Steal: millis(t.steal),
		OceanLate: millis(ocean.LateMax), OceanMissed: ocean.Missed, OceanCPU: t.ocean.Usage.CPU.Seconds() / t.cell.Duration.Seconds(),
		Link: s.Counters.Link, LinkReceiver: r.Counters.Link,
	}
	o.Bottleneck = t.episode()
	t.cpu(o, base)
	if bare {
		return o
	}
	rtp := float64(s.Counters.Bytes)
	overhead, reverse := ratio(float64(to.Bytes)-rtp, rtp), ratio(float64(from.Bytes), rtp)
	o.Overhead, o.ReverseOverhead = &overhead, &reverse
	return o
}

// episode is nil when no bottleneck came and went.
func (t *trial) episode() *Episode {
	n, c := t.ocean.Ocean.Narrow, t.receiver.Course
	if n == nil || c == nil {
		return nil
	}
	unless := func(d time.Duration) *float64 {
		if d < 0 {
			return nil
		}
		ms := millis(d)
		return &ms
	}
	return &Episode{
		StepDown: unless(n.StepDown), Recovery: unless(c.Recovery), QueueP50: millis(n.QueueP50), QueueP99: millis(n.QueueP99), QueueMax: millis(n.QueueMax),
		Overflow:          ratio(float64(n.Overflow), float64(n.Packets)),
		AudioResidualLoss: missing(c.Audio.InTime, c.Offered), AudioResidualLossLate: missing(c.Audio.Late, c.Offered),
	}
}

// missing is the share of all that some are not.
func missing(some, all uint64) float64 {
	if all == 0 || some >= all {
		return 0
	}
	return float64(all-some) / float64(all)
}

func ratio(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}

type resultJSON struct {
	Cell     Cell     `json:"cell"`
	Meridian *Outcome `json:"meridian,omitempty"`
	QUIC     *Outcome `json:"quic,omitempty"`
	UDP      *Outcome `json:"udp,omitempty"`
	Baseline Baseline `json:"baseline"`
	Run      runJSON  `json:"run"`
}

type runJSON struct {
	Time       time.Time `json:"time"`
	Seed       uint64    `json:"seed"`
	Warmup     float64   `json:"warmup_s"`
	Took       float64   `json:"took_s"`
	CPUs       int       `json:"cpus"`
	LoadBefore float64   `json:"load_before"`
	LoadAfter  float64   `json:"load_after"`
	Bare       bool      `json:"bare"`
	Disturbed  bool      `json:"disturbed"`
	Beside     int       `json:"beside"`
	Doubts     []string  `json:"doubts,omitempty"`
}

// MarshalJSON puts each contestant under its name.
func (r Result) MarshalJSON() ([]byte, error) {
	return json.Marshal(resultJSON{
		Cell: r.Cell, Meridian: r.Outcomes[Meridian], QUIC: r.Outcomes[QUIC], UDP: r.Outcomes[UDP], Baseline: r.Baseline,
		Run: runJSON{r.Time, r.Seed, r.Warmup, r.Took, r.CPUs, r.LoadBefore, r.LoadAfter, r.Bare, r.Disturbed, r.Beside, r.Doubts},
	})
}

// UnmarshalJSON reads what MarshalJSON writes.
func (r *Result) UnmarshalJSON(b []byte) error {
	var j resultJSON
	if err := json.Unmarshal(b, &j); err != nil {
		return err
	}
	*r = Result{
		Cell: j.Cell, Time: j.Run.Time, Seed: j.Run.Seed, Warmup: j.Run.Warmup, Took: j.Run.Took, CPUs: j.Run.CPUs,
		LoadBefore: j.Run.LoadBefore, LoadAfter: j.Run.LoadAfter, Baseline: j.Baseline, Bare: j.Run.Bare, Disturbed: j.Run.Disturbed, Beside: j.Run.Beside, Doubts: j.Run.Doubts, Outcomes: make(map[string]*Outcome),
	}
	for name, o := range map[string]*Outcome{Meridian: j.Meridian, QUIC: j.QUIC, UDP: j.UDP} {
		if o != nil {
			r.Outcomes[name] = o
		}
	}
	return nil
}
