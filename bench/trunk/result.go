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

// Baseline is the processor time of plain UDP without loss, µs per packet, both sides together. The difference is what the
// emulator costs; without emulation what is left is pacing, system calls and counting.
type Baseline struct {
	Bare     float64 `json:"udp_bare_us_per_packet"`     // without emulation
	Emulated float64 `json:"udp_emulated_us_per_packet"` // through the emulated path
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

	CPU         float64 `json:"cpu_us_per_packet"`     // both sides together, per packet that arrived
	CPUNet      float64 `json:"cpu_us_per_packet_net"` // the same less Baseline.Emulated: what it takes beyond plain UDP, pacing and emulation
	CPUSender   float64 `json:"cpu_sender_us_per_packet"`
	CPUReceiver float64 `json:"cpu_receiver_us_per_packet"`

	AudioResidualLoss     float64 `json:"audio_residual_loss"`
	AudioResidualLossLate float64 `json:"audio_residual_loss_late"`

	Packets    uint64  `json:"packets"`     // offered and counted
	OfferedBps float64 `json:"offered_bps"` // RTP bits per second
	Duplicates uint64  `json:"duplicates"`  // delivered twice
	Reordered  uint64  `json:"reordered"`

	WireDatagrams uint64        `json:"wire_datagrams"` // towards the receiver
	WireLoss      float64       `json:"wire_loss"`      // share of these the emulated path lost, to hold against the cell's
	WireOverflow  float64       `json:"wire_overflow"`  // share of these its bottleneck dropped
	SocketDrops   uint64        `json:"socket_drops"`   // datagrams the kernel had no room for, both sides, from the beginning
	LateP99       float64       `json:"pacing_late_p99_ms"`
	LateMax       float64       `json:"pacing_late_max_ms"`
	Behind        bool          `json:"pacing_fell_behind"`   // the sender did not keep its schedule: do not trust the delays
	OthersCPU     float64       `json:"other_processes_cpus"` // processors busy with something else meanwhile
	Link          *linkCounters `json:"link,omitempty"`       // Meridian's own view of the sender's end
	LinkReceiver  *linkCounters `json:"link_receiver,omitempty"`
}

// behind is how late 1 % of the sender's wake-ups may be before the outcome says so.
const behind = 5 * time.Millisecond

// trial is the raw account of one contestant in a cell.
type trial struct {
	cell             Cell
	sender, receiver *report
}

// cpuPerPacket is µs of both sides per packet that arrived; per packet offered when none did.
func (t *trial) cpuPerPacket() float64 { return t.perPacket(t.sender.Usage.CPU + t.receiver.Usage.CPU) }

func (t *trial) perPacket(d time.Duration) float64 {
	n := t.receiver.Arrivals.All.Arrived
	if n == 0 {
		n = t.sender.Offered
	}
	return ratio(float64(d)/1000, float64(n))
}

func (t *trial) outcome(base Baseline, bare bool) *Outcome {
	s, r := t.sender, t.receiver
	a, offered := r.Arrivals, float64(s.Offered)
	inTime := ratio(float64(a.All.InTime), offered)
	wire := float64(s.Sent.Packets)
	o := &Outcome{
		Delivered: inTime, ResidualLoss: missing(a.All.InTime, s.Offered), ResidualLossLate: missing(a.All.Late, s.Offered),
		NeverArrived: missing(a.All.Arrived, s.Offered), DelayP50: millis(a.P50), DelayP99: millis(a.P99),
		RepairOverhead: ratio(float64(s.Counters.Repair), float64(s.Counters.Bytes)),
		Withheld:       missing(s.Counters.Packets, s.Offered),
		CPU:            t.cpuPerPacket(), CPUNet: max(0, t.cpuPerPacket()-base.Emulated), CPUSender: t.perPacket(s.Usage.CPU), CPUReceiver: t.perPacket(r.Usage.CPU),
		AudioResidualLoss: missing(a.Audio.InTime, s.OfferedAudio), AudioResidualLossLate: missing(a.Audio.Late, s.OfferedAudio),
		Packets: s.Offered, OfferedBps: float64(s.OfferedBytes) * 8 / t.cell.Duration.Seconds(),
		Duplicates: a.Duplicates, Reordered: a.Reordered,
		WireDatagrams: s.Sent.Packets, WireLoss: ratio(float64(s.Sent.Lost), wire), WireOverflow: ratio(float64(s.Sent.Overflow), wire),
		SocketDrops: s.SocketDrops + r.SocketDrops,
		LateP99:     millis(s.LateP99), LateMax: millis(s.LateMax), Behind: s.LateP99 > behind,
		OthersCPU: max(0, (s.Usage.Machine-s.Usage.CPU-r.Usage.CPU).Seconds()/t.cell.Duration.Seconds()),
		Link:      s.Counters.Link, LinkReceiver: r.Counters.Link,
	}
	if bare {
		o.CPUNet = max(0, o.CPU-base.Bare)
		return o
	}
	rtp := float64(s.Counters.Bytes)
	there, back := ratio(float64(s.Sent.Bytes)-rtp, rtp), ratio(float64(r.Sent.Bytes), rtp)
	o.Overhead, o.ReverseOverhead = &there, &back
	return o
}

// disturbedShare is the share of packets that a machine fit for measuring may hold up.
const disturbedShare = 0.0005

// disturbed reports whether the machine spoilt the cell: a sender that fell behind, datagrams the kernel dropped, or
// UDP packets that came late on a path without a queue, where only the machine can be late.
func (r *Result) disturbed() bool {
	for name, o := range r.Outcomes {
		late := o.ResidualLoss - o.NeverArrived
		if o.Behind || o.SocketDrops > 0 || name == UDP && r.Cell.Bottleneck == 0 && late > disturbedShare {
			return true
		}
	}
	return false
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
