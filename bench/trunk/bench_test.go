package trunk

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// nodeEnv makes this test program a node process.
const nodeEnv = "MERIDIAN_TEST_TRUNK_NODE"

func TestMain(m *testing.M) {
	if os.Getenv(nodeEnv) != "" {
		if err := Node(context.Background(), os.Stdin, os.Stdout); err != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	if err := os.Setenv(nodeEnv, "1"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

func newTestBench(t *testing.T, change ...func(*Config)) *Bench {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Command, cfg.Warmup, cfg.Attempts = []string{os.Args[0]}, 200*time.Millisecond, 1
	for _, f := range change {
		f(&cfg)
	}
	b, err := New(cfg)
	require.NoError(t, err)
	return b
}

// One short cell with every contestant. Only UDP's delivery is judged: nothing is lost, so nothing may be missing.
func TestRun(t *testing.T) {
	cell := Cell{RTT: 20 * time.Millisecond, Rate: 2e6, Duration: 500 * time.Millisecond}
	var steps []string
	b := newTestBench(t)
	first := b.Takes(cell)
	res, err := b.Run(t.Context(), cell, func(what string, takes time.Duration) {
		steps = append(steps, what)
		require.Positive(t, takes)
	})
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(steps), 4, "the baseline, three contestants")
	require.Less(t, b.Takes(cell), first, "a baseline is measured once")
	require.Equal(t, cell, res.Cell)
	require.Positive(t, res.Baseline.Sender)
	require.Positive(t, res.Baseline.Receiver)
	require.InDelta(t, res.Baseline.Harness, res.Baseline.Sender+res.Baseline.Receiver, 1e-9)
	require.Len(t, res.Outcomes, 3)
	for name, o := range res.Outcomes {
		require.Empty(t, o.Error, name)
		require.Equal(t, res.Outcomes[UDP].Packets, o.Packets, "the same packets are offered to all")
		require.InDelta(t, 1, o.Delivered+o.ResidualLoss, 1e-9)
		require.GreaterOrEqual(t, o.ResidualLoss, o.ResidualLossLate)
		require.GreaterOrEqual(t, o.DelayP50, 10.0, "no packet is faster than the path")
		require.Positive(t, o.CPU)
		require.Greater(t, o.CPUGross, o.CPU)
		require.InDelta(t, o.CPU, o.CPUSender+o.CPUReceiver, 1e-9)
		require.GreaterOrEqual(t, o.Attempts, 1)
		require.False(t, o.OceanMissed)
		require.Positive(t, o.OceanCPU)
		require.Zero(t, o.WireLoss)
	}
	udp := res.Outcomes[UDP]
	require.Less(t, udp.NeverArrived, 0.01)
	require.Zero(t, *udp.Overhead)
	require.Zero(t, udp.Withheld)

	text, err := json.Marshal(res)
	require.NoError(t, err)
	var keys map[string]map[string]any
	require.NoError(t, json.Unmarshal(text, &keys))
	for _, name := range Contestants {
		for _, key := range []string{
			"delivered", "residual_loss", "residual_loss_late", "delay_p50_ms", "delay_p99_ms", "overhead", "cpu_us_per_packet",
			"cpu_us_per_packet_gross", "audio_residual_loss", "attempts", "stall_max_ms",
		} {
			require.Contains(t, keys[name], key, name)
		}
	}
	var again Result
	require.NoError(t, json.Unmarshal(text, &again))
	require.Equal(t, res, again)
}

func TestRunEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cell := Cell{RTT: 20 * time.Millisecond, Rate: 2e6, Duration: time.Minute}
	_, err := newTestBench(t).Run(ctx, cell, func(string, time.Duration) { time.AfterFunc(100*time.Millisecond, cancel) })
	require.ErrorIs(t, err, context.Canceled)
}

func TestRunTellsWhatWentWrong(t *testing.T) {
	_, err := newTestBench(t).Run(t.Context(), Cell{}, nil)
	require.ErrorContains(t, err, "rate is 0")
	b := newTestBench(t, func(c *Config) { c.Command = []string{"/bin/false"} })
	_, err = b.Run(t.Context(), Cell{Rate: 2e6, Duration: time.Second}, nil)
	require.ErrorContains(t, err, "trunk: ")
}

func TestNodeRefusesNonsense(t *testing.T) {
	for _, in := range []string{"x\n", `{"contestant":"udp","role":"sender"}` + "\n"} {
		r, w := io.Pipe() // stays open: a parent that is there
		var out bytes.Buffer
		go func() { _, _ = w.Write([]byte(in)) }()
		err := Node(t.Context(), r, &out)
		require.Error(t, err)
		require.Contains(t, out.String(), `"error"`)
		require.NoError(t, w.Close())
	}
	require.NoError(t, Node(t.Context(), strings.NewReader(""), io.Discard), "a parent that is gone")
}

func TestRunBare(t *testing.T) {
	b := newTestBench(t, func(c *Config) { c.Bare, c.Contestants = true, []string{Meridian} })
	_, err := b.Run(t.Context(), Cell{RTT: time.Millisecond, Rate: 2e6, Duration: time.Second}, nil)
	require.ErrorIs(t, err, ErrBare)
	res, err := b.Run(t.Context(), Cell{Rate: 2e6, Duration: 500 * time.Millisecond}, nil)
	require.NoError(t, err)
	require.Empty(t, res.Outcomes[Meridian].Error)
	require.Positive(t, res.Outcomes[Meridian].Packets)
}

func TestConfigTellsAllProblems(t *testing.T) {
	err := Config{Warmup: -1, Contestants: []string{"carrier pigeon"}}.Validate()
	for _, want := range []string{"no command", "warm-up", "carrier pigeon", "attempts"} {
		require.ErrorContains(t, err, want)
	}
	require.ErrorContains(t, Config{Nice: 20}.Validate(), "nice")
	require.ErrorContains(t, Config{Command: []string{"x"}}.Validate(), "no contestants")
}

func TestCell(t *testing.T) {
	err := Cell{RTT: -1, Loss: 0.9, Burst: -1, Jitter: -1, Bottleneck: 1}.Validate()
	for _, want := range []string{"rtt", "loss", "burst", "jitter", "bottleneck", "rate", "duration"} {
		require.ErrorContains(t, err, want)
	}
	err = Cell{Rate: 2e6, Duration: time.Second, BottleneckFrom: 2 * time.Second, BottleneckTo: time.Second, BottleneckQueue: -1}.Validate()
	for _, want := range []string{"no bottleneck can come and go", "in order", "queue"} {
		require.ErrorContains(t, err, want)
	}
	require.NoError(t, narrowCell.Validate())
	require.Equal(t, "80ms RTT, 0% loss, 2M, 1M bottleneck from 2s to 4s", narrowCell.String())
	cells := append(Matrix(10*time.Second), narrowCell)
	require.Len(t, cells, 6*4*3+1)
	for _, c := range cells {
		require.NoError(t, c.Validate())
		text, err := json.Marshal(c)
		require.NoError(t, err)
		var again Cell
		require.NoError(t, json.Unmarshal(text, &again))
		require.Equal(t, c, again)
	}
	require.Equal(t, "150ms RTT, 5%×4 loss, 20M", Cell{RTT: 150 * time.Millisecond, Loss: 0.05, Burst: 4, Rate: 20e6}.String())
}

func TestDisturbed(t *testing.T) {
	for name, tc := range map[string]struct {
		cell Cell
		udp  Outcome
		want bool
	}{
		"quiet":        {Cell{}, Outcome{ResidualLoss: 0.02, NeverArrived: 0.02, StallMax: 19, OceanLate: 3, LateMax: 90}, false},
		"stood still":  {Cell{}, Outcome{StallMax: 21}, true},
		"late ocean":   {Cell{}, Outcome{OceanLate: 21}, true},
		"no marks":     {Cell{}, Outcome{OceanMissed: true}, true},
		"late":         {Cell{}, Outcome{ResidualLoss: 0.03, NeverArrived: 0.02}, true},
		"a queue":      {Cell{Bottleneck: 1e6}, Outcome{ResidualLoss: 0.03, NeverArrived: 0.02}, false},
		"socket drops": {Cell{}, Outcome{SocketDrops: 1}, true},
		"behind":       {Cell{}, Outcome{Behind: true}, true},
	} {
		require.Equal(t, tc.want, tc.udp.disturbed(UDP, tc.cell), name)
		tc.udp.Disturbed = tc.want
		r := Result{Cell: tc.cell, Outcomes: map[string]*Outcome{UDP: &tc.udp}}
		r.judge()
		require.Equal(t, tc.want, r.Disturbed, name)
	}
}

func TestRunAll(t *testing.T) {
	b := newTestBench(t, func(c *Config) { c.Contestants = []string{UDP} })
	b.cpus = 4
	cells := []Cell{
		{RTT: 20 * time.Millisecond, Rate: 2e6, Duration: 500 * time.Millisecond},
		{RTT: 40 * time.Millisecond, Rate: 2e6, Duration: 500 * time.Millisecond},
	}
	require.Greater(t, b.TakesAll(cells), b.TakesAll(cells[:1]))
	require.Less(t, b.TakesAll(cells), b.Takes(cells[0])+b.Takes(cells[1]), "beside one another")
	got, told := make(map[int]Result), 0
	require.NoError(t, b.RunAll(t.Context(), cells, func(string, time.Duration) { told++ }, func(i int, r Result) { got[i] = r }))
	require.Len(t, got, 2)
	require.GreaterOrEqual(t, told, 3, "a baseline and two trials")
	for i, r := range got {
		require.Equal(t, cells[i], r.Cell)
		require.Empty(t, r.Outcomes[UDP].Error)
	}
	cells[1].Rate = 0
	require.ErrorContains(t, b.RunAll(t.Context(), cells, nil, nil), "rate is 0")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, b.RunAll(ctx, cells[:1], nil, nil), context.Canceled)
}

func TestMatrixIsDoneInTime(t *testing.T) {
	b := newTestBench(t, func(c *Config) { c.Warmup = time.Second })
	b.cpus = 2
	require.Len(t, Matrix(time.Second), 72)
	require.Less(t, b.TakesAll(Matrix(4*time.Second)), 18*time.Minute)
	require.Less(t, b.TakesAll(Matrix(time.Second)), 10*time.Minute)
	b.cpus = 16
	require.Less(t, b.TakesAll(Matrix(4*time.Second)), 4*time.Minute)
}

// The figures of the bound are those of docs: 100 packets, 2 % random or 5 % in bursts of 4.
func TestLeftByCode(t *testing.T) {
	for _, tc := range []struct {
		m           int
		loss, burst float64
		want        float64
	}{
		{5, 0.02, 1, 0.0013}, {10, 0.05, 4, 0.025}, {20, 0.05, 4, 0.0065}, {30, 0.05, 4, 0.0012},
	} {
		require.InEpsilon(t, tc.want, leftByCode(100, tc.m, tc.loss, tc.burst), 0.2)
	}
	require.Less(t, leftByCode(100, 10, 0.02, 1), 1e-5)
	require.InDelta(t, 0.05, leftByCode(100, 0, 0.05, 4), 1e-9)
}

func TestDoubts(t *testing.T) {
	cell := Cell{RTT: 150 * time.Millisecond, Loss: 0.05, Burst: 4, Rate: 20e6, Duration: 20 * time.Second}
	for want, change := range map[string]func(m, u *Outcome){
		"":                     func(_, _ *Outcome) {},
		"the path took 6.50 %": func(m, _ *Outcome) { m.WireLoss = 0.065 },
		"meridian is faster":   func(m, _ *Outcome) { m.DelayP50 = 74 },
		"udp lost 4.00 %":      func(_, u *Outcome) { u.NeverArrived = 0.04 },
		"meridian lost 0.10 %, a block code with its parity": func(m, _ *Outcome) { m.ResidualLoss, m.RepairOverhead = 0.001, 0.1 },
	} {
		m := Outcome{WireDatagrams: 70000, WireLoss: 0.05, DelayP50: 76, ResidualLoss: 0.007, Packets: 58000, OfferedBps: 20e6, RepairOverhead: 0.21}
		u := Outcome{WireDatagrams: 58000, WireLoss: 0.05, NeverArrived: 0.0495, DelayP50: 76, Packets: 58000, OfferedBps: 20e6}
		change(&m, &u)
		r := Result{Cell: cell, Outcomes: map[string]*Outcome{Meridian: &m, UDP: &u, QUIC: {Error: "no"}}}
		doubts := r.doubts()
		if want == "" {
			require.Empty(t, doubts)
			continue
		}
		require.Len(t, doubts, 1, want)
		require.Contains(t, doubts[0], want)
	}
}

func TestTableAndFigure(t *testing.T) {
	var results []Result
	for i, c := range Matrix(time.Second) {
		results = append(results, Result{Cell: c, Outcomes: map[string]*Outcome{
			Meridian: {ResidualLoss: c.Loss * c.Loss, Withheld: 0.1, SocketDrops: 3, OthersCPU: 1, Behind: true},
			QUIC:     {ResidualLoss: 1},
			UDP:      {ResidualLoss: c.Loss},
		}})
		if i == 0 {
			results[0].Outcomes[QUIC] = &Outcome{Error: "no\nway"}
		}
	}
	var table, figure bytes.Buffer
	require.NoError(t, WriteTable(&table, results))
	require.Contains(t, table.String(), "| 20ms | 0% | 2M | quic | failed |||||| no way |")
	require.Contains(t, table.String(), "10.00 % not sent; pacing late")
	require.Equal(t, 2+3*len(results), strings.Count(table.String(), "\n"))

	require.NoError(t, WriteFigure(&figure, results))
	for dec := xml.NewDecoder(&figure); ; {
		_, err := dec.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err, "well-formed XML")
	}
	require.NoError(t, WriteFigure(io.Discard, nil))
}
