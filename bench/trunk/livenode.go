package trunk

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// livePlan is what a node of a Live does.
type livePlan struct {
	Listen  netip.Addr    `json:"listen"`
	From    time.Duration `json:"from"`
	To      time.Duration `json:"to"`
	Late    time.Duration `json:"late"`
	Windows []Window      `json:"windows"`
}

// liveReport is one side of a LiveReport.
type liveReport LiveReport

// window returns the index of the window that holds a moment, -1 for none.
func (p *livePlan) window(at time.Duration) int {
	return slices.IndexFunc(p.Windows, func(w Window) bool { return at >= w.From && at < w.To })
}

// live is run for a Live.
func (n *node) live(ctx context.Context) (err error) {
	plan := n.job.Live
	if n.clock, err = newClock(); err != nil {
		return err
	}
	n.load = newWorkload(n.job.Cell.Rate, n.job.Seed)
	udp, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(plan.Listen, 0)))
	if err != nil {
		return fmt.Errorf("trunk: %w", err)
	}
	here := udp.LocalAddr().(*net.UDPAddr).AddrPort()
	n.wire = &wire{UDPConn: udp, port: here.Port()}
	defer func() { _ = udp.Close() }()
	if err := n.out.Encode(message{Listening: here}); err != nil {
		return err
	}
	var o order
	if err := n.read(ctx, &o); err != nil {
		return err
	}
	if n.job.Role == roleSender {
		return n.liveSender(ctx, o.Peer)
	}
	return n.liveReceiver(ctx, o.Peer)
}

// finishLive reports and stays until it is told to go: the other side may not be done.
func (n *node) finishLive(ctx context.Context, r *liveReport) error {
	r.SocketDrops = socketDrops(n.wire.port)
	if err := n.out.Encode(message{Live: r}); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// liveSender offers the workload from its beginning to its end.
func (n *node) liveSender(ctx context.Context, peer netip.AddrPort) error {
	s, err := newMeridianSending(ctx, &n.job, n.wire, peer, n.load)
	if err != nil {
		return err
	}
	defer s.close()
	if err := n.begin(ctx, s.ready); err != nil {
		return err
	}
	plan := n.job.Live
	r := &liveReport{Windows: make([]WindowReport, len(plan.Windows))}
	var lateness []time.Duration
	next := plan.From
	b := make([]byte, 2048)
	for {
		due := plan.From + n.load.peek()
		if due >= plan.To {
			break
		}
		if err := n.sleep(ctx, n.start+int64((due+grid-1)/grid*grid)); err != nil {
			return err
		}
		now := time.Duration(n.clock.now() - n.start)
		lateness = append(lateness, now-due)
		if now >= next {
			r.Samples = append(r.Samples, s.sample(now))
			next = max(next+LiveStep, now)
		}
		for plan.From+n.load.peek() <= now {
			ev := n.load.take()
			audio := n.load.streams[ev.stream].audio
			sent := n.clock.now()
			raw := ev.build(b, audio, true, sent)
			if i := plan.window(time.Duration(sent - n.start)); i >= 0 {
				w := &r.Windows[i]
				w.Offered++
				w.OfferedBytes += uint64(len(raw))
				if audio {
					w.OfferedAudio++
				}
			}
			s.send(&ev, raw)
		}
	}
	slices.Sort(lateness)
	r.LateP99 = quantile(lateness, 0.99)
	return n.finishLive(ctx, r)
}

func (s *meridianSending) sample(now time.Duration) LiveSample {
	l, ok := s.link()
	if !ok || !l.Up {
		return LiveSample{At: now, State: "down"}
	}
	return LiveSample{
		At: now, State: l.Rate.State, Estimate: uint64(l.Rate.Estimate), Queue: l.Rate.Queue, RTT: l.RTT,
		Withheld: l.Withheld, Flows: len(l.Flows), Packets: l.Out.AudioPackets + l.Out.VideoPackets,
		Bytes: l.Out.AudioBytes + l.Out.VideoBytes, Repair: l.RepairBytes, Padding: l.PaddingBytes,
	}
}

// liveReceiver counts what comes until some time after the end.
func (n *node) liveReceiver(ctx context.Context, peer netip.AddrPort) error {
	plan := n.job.Live
	m := &liveMeter{plan: plan, arrived: make([]uint64, (plan.To+liveStraggle)/LiveStep+1)}
	for _, s := range n.load.streams {
		m.audio = append(m.audio, s.audio)
	}
	for range plan.Windows {
		m.windows = append(m.windows, newMeter(m.audio, 0))
	}
	m.bytes = make([]uint64, len(plan.Windows))
	v, err := newMeridianReceiving(ctx, &n.job, n.wire, peer, n.load, m, n.clock)
	if err != nil {
		return err
	}
	defer v.close()
	if err := n.begin(ctx, v.ready); err != nil {
		return err
	}
	m.begin(n.start)
	if err := n.sleep(ctx, n.start+int64(plan.To+liveStraggle)); err != nil {
		return err
	}
	return n.finishLive(ctx, m.report())
}

// liveStraggle is how long after the media's end packets still count.
const liveStraggle = time.Second

// liveMeter keeps a meter for each window. It is safe for concurrent use.
type liveMeter struct {
	plan    *livePlan
	audio   []bool // by stream
	windows []*meter

	mu      sync.Mutex
	start   int64 // guarded by mu; 0 before the start is known
	bytes   []uint64
	arrived []uint64
}

func (m *liveMeter) begin(start int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.start = start
}

func (m *liveMeter) packet(raw []byte, now int64) {
	s, ok := parseStamp(raw)
	if !ok {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.start == 0 {
		return
	}
	if step := int(time.Duration(now-m.start) / LiveStep); step >= 0 && step < len(m.arrived) {
		m.arrived[step] += uint64(len(raw))
	}
	if i := m.plan.window(time.Duration(s.sent - m.start)); i >= 0 {
		m.bytes[i] += uint64(len(raw))
		m.windows[i].packet(raw, now)
	}
}

func (m *liveMeter) report() *liveReport {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := &liveReport{Arrived: m.arrived}
	for i, w := range m.windows {
		a := w.report(m.plan.Late, m.plan.Late)
		var audio []time.Duration
		for k, d := range w.delays {
			if w.audioFlags[k] {
				audio = append(audio, d)
			}
		}
		slices.Sort(audio)
		r.Windows = append(r.Windows, WindowReport{
			Arrived: a.All.Arrived, ArrivedBytes: m.bytes[i], ArrivedAudio: a.Audio.Arrived, LateAudio: a.Audio.Arrived - a.Audio.InTime,
			P50: a.P50, P99: a.P99, AudioP50: quantile(audio, 0.5), AudioP99: quantile(audio, 0.99),
		})
	}
	return r
}
