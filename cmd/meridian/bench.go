package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/meridian-sfu/meridian/bench/fairness"
	"github.com/meridian-sfu/meridian/bench/trunk"
)

// trunkNode is the hidden command that is one side of a cell.
const trunkNode = "trunk-node"

func newBenchCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure this machine's Meridian",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newBenchTrunkCommand(), newBenchFailoverCommand(), newBenchLoadCommand(), newBenchSoakCommand(), newBenchFairnessCommand(), &cobra.Command{
		Use:    fairnessNode,
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return fairness.Node(cmd.Context(), cmd.InOrStdin(), cmd.OutOrStdout())
		},
	}, &cobra.Command{
		Use:    trunkNode,
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return trunk.Node(cmd.Context(), cmd.InOrStdin(), cmd.OutOrStdout())
		},
	})
	return cmd
}

// trunkFlags are the flags as typed.
type trunkFlags struct {
	rtt, jitter, duration, warmup time.Duration
	from, to, queue               time.Duration
	loss, rate, bottleneck        string
	burst                         float64
	seed                          uint64
	nice                          int
	json, bare, quick             bool
	out                           string
	only                          []string
}

func newBenchTrunkCommand() *cobra.Command {
	var f trunkFlags
	cmd := &cobra.Command{
		Use:   "trunk",
		Short: "What a link between two nodes delivers over an emulated ocean",
		Long: `Sends mixed audio and simulcast video between two processes on this machine over an emulated long path, by Meridian's own
link, by one plain QUIC connection with datagrams and by plain UDP, and reports what arrived in time, what it cost, and how
late it was. With --rtt, --loss, --burst, --jitter, --bottleneck or --rate it measures that one cell; without them the whole matrix of
6 losses × 4 round trips × 3 rates: about 18 minutes on two processors, with --quick 10. Cells run beside one another as far as half
of the machine stays idle. What the machine disturbed (it stood still, or ran late) is measured again alone, twice at most, by the same rule for all. Progress
goes to stderr; Ctrl-C keeps what is done so far.

cpu_us_per_packet is the contestant's own processor time in both nodes per packet that arrived: what was measured (…_gross) less what the
harness takes there (baseline.harness_us_per_packet: schedule, building and counting of packets, measured with nobody between). The path is a process
of its own and in nobody's figure. bench/README.md says what every field means.`,
		Example: `  meridian bench trunk --rtt 150ms --loss 2% --rate 20M --duration 20s
  meridian bench trunk --rtt 150ms --loss 5% --burst 4 --rate 20M --json
  meridian bench trunk --out bench/results`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cells, err := f.cells(cmd.Flags().Changed)
			if err != nil {
				return err
			}
			self, err := os.Executable()
			if err != nil {
				return err
			}
			cfg := trunk.DefaultConfig()
			cfg.Command = []string{self, "bench", trunkNode}
			cfg.Seed, cfg.Warmup, cfg.Nice, cfg.Bare = f.seed, f.warmup, f.nice, f.bare
			if len(f.only) > 0 {
				cfg.Contestants = f.only
			}
			for i, name := range f.only {
				if slices.Contains(f.only[:i], name) {
					return usageError("--only: %s is named twice", name)
				}
			}
			if err := cfg.Validate(); err != nil {
				return usageError("%w", err)
			}
			b, err := trunk.New(cfg)
			if err != nil {
				return err
			}
			return runBench(cmd, b, cells, &f)
		},
	}
	fl := cmd.Flags()
	fl.DurationVar(&f.rtt, "rtt", 150*time.Millisecond, "round trip of the path")
	fl.StringVar(&f.loss, "loss", "0", `share of packets lost in each direction: "2%" or "0.02"`)
	fl.Float64Var(&f.burst, "burst", 0, "mean packets lost in a row; 0 or 1: each for itself")
	fl.DurationVar(&f.jitter, "jitter", 0, "up to this much is added to the delay of each packet")
	fl.StringVar(&f.bottleneck, "bottleneck", "0", `what the path carries, bits per second: "10M"; 0: everything`)
	fl.DurationVar(&f.from, "bottleneck-from", 0, "it comes then, of the counted time")
	fl.DurationVar(&f.to, "bottleneck-to", 0, "it goes then; with neither it is always there")
	fl.DurationVar(&f.queue, "bottleneck-queue", 0, "longest wait before it drops packets (default 100ms)")
	fl.StringVar(&f.rate, "rate", "20M", `RTP offered, bits per second: "20M", "500k"`)
	fl.DurationVar(&f.duration, "duration", 10*time.Second, "counted time of each contestant in each cell; of the matrix 4s, at 2 Mbit/s three times as long")
	fl.BoolVar(&f.quick, "quick", false, "the matrix with 1s of counted time")
	fl.DurationVar(&f.warmup, "warmup", time.Second, "traffic before the counted time")
	fl.Uint64Var(&f.seed, "seed", 1, "of the traffic and of what is lost")
	fl.IntVar(&f.nice, "nice", 0, "scheduling priority of the measured processes on a busy machine, -20 first; below 0 needs root")
	fl.BoolVar(&f.bare, "bare", false, "no emulated path: what a packet costs on a real socket; one cell")
	fl.StringSliceVar(&f.only, "only", nil, "only these contestants: "+strings.Join(trunk.Contestants, ", "))
	fl.BoolVar(&f.json, "json", false, "print JSON: one object for a cell, an array for the matrix")
	fl.StringVar(&f.out, "out", "", "folder for results.json, table.md and trunk.svg")
	return cmd
}

// Counted time of the matrix' cells, unless --duration says otherwise.
const (
	matrixDuration = 4 * time.Second
	quickDuration  = 1 * time.Second
)

// cells are what the flags ask for: one cell when any of its conditions is named, else the matrix.
func (f *trunkFlags) cells(changed func(string) bool) ([]trunk.Cell, error) {
	one := false
	for _, name := range []string{"rtt", "loss", "burst", "jitter", "bottleneck", "bottleneck-from", "bottleneck-to", "bottleneck-queue", "rate"} {
		one = one || changed(name)
	}
	if f.bare {
		if changed("rtt") && f.rtt != 0 || changed("loss") || changed("jitter") || changed("bottleneck") {
			return nil, usageError("--bare has no path to put conditions on: leave out --rtt, --loss, --jitter and --bottleneck")
		}
		f.rtt, one = 0, true
	}
	switch {
	case f.quick && one:
		return nil, usageError("--quick is for the matrix: say --duration of one cell")
	case f.quick && changed("duration"):
		return nil, usageError("--quick is 1s of counted time: leave out --duration, or --quick")
	}
	if !one {
		d := f.duration
		switch {
		case changed("duration"):
		case f.quick:
			d = quickDuration
		default:
			d = matrixDuration
		}
		cells := trunk.Matrix(d)
		return cells, asUsage(cells[0].Validate())
	}
	loss, err := parseShare(f.loss)
	if err != nil {
		return nil, usageError("--loss: %w", err)
	}
	rate, err := parseBitrate(f.rate)
	if err != nil {
		return nil, usageError("--rate: %w", err)
	}
	bottleneck, err := parseBitrate(f.bottleneck)
	if err != nil {
		return nil, usageError("--bottleneck: %w", err)
	}
	if bottleneck == 0 && changed("bottleneck-queue") {
		return nil, usageError("--bottleneck-queue is the queue of a bottleneck: say --bottleneck as well")
	}
	c := trunk.Cell{
		RTT: f.rtt, Loss: loss, Burst: f.burst, Jitter: f.jitter, Bottleneck: bottleneck, Rate: rate, Duration: f.duration,
		BottleneckFrom: f.from, BottleneckTo: f.to, BottleneckQueue: f.queue,
	}
	if f.from > 0 && f.to == 0 {
		c.BottleneckTo = f.duration
	}
	return []trunk.Cell{c}, asUsage(c.Validate())
}

func asUsage(err error) error {
	if err == nil {
		return nil
	}
	return usageError("%w\nsee 'meridian bench trunk --help'", err)
}

// parseShare reads "2%" or "0.02".
func parseShare(s string) (float64, error) {
	number, isPercent := strings.CutSuffix(strings.TrimSpace(s), "%")
	v, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if err != nil || math.IsNaN(v) {
		return 0, fmt.Errorf(`%q is no share: write it as 2%% or 0.02`, s)
	}
	if isPercent {
		return v / 100, nil
	}
	if v > 100 {
		return 0, fmt.Errorf(`%q is more than everything: write it as 2%% or 0.02`, s)
	}
	if v > 1 {
		return 0, fmt.Errorf(`%q is more than everything: write %s%% or a share like 0.02`, s, number)
	}
	return v, nil
}

// parseBitrate reads "20M", "500k" or a plain number of bits per second.
func parseBitrate(s string) (int64, error) {
	number, unit := strings.TrimSpace(s), 1.0
	for suffix, u := range map[string]float64{"k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9} {
		if n, ok := strings.CutSuffix(number, suffix); ok {
			number, unit = n, u
			break
		}
	}
	v, err := strconv.ParseFloat(number, 64)
	if err != nil || math.IsNaN(v) || v < 0 || v*unit > 1e12 {
		return 0, fmt.Errorf(`%q is no rate: write bits per second as 20M or 500k`, s)
	}
	return int64(v * unit), nil
}

func runBench(cmd *cobra.Command, b *trunk.Bench, cells []trunk.Cell, f *trunkFlags) error {
	if f.out != "" { // before an hour of work, not after
		if err := os.MkdirAll(f.out, 0o755); err != nil {
			return fmt.Errorf("--out: %w", err)
		}
	}
	byCell := make([]*trunk.Result, len(cells))
	left := newTimeLeft(b, cells)
	finished := 0
	progress := func(what string, _ time.Duration) {
		_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "[%d of %d done, about %v left] %s\n", finished, len(cells), left.now(), what)
	}
	err := b.RunAll(cmd.Context(), cells, progress, func(i int, r trunk.Result) {
		if byCell[i] == nil {
			finished++
		}
		byCell[i] = &r
		var rest []trunk.Cell
		for i, c := range cells {
			if byCell[i] == nil {
				rest = append(rest, c)
			}
		}
		left.done(b, rest)
	})
	var results []trunk.Result
	for _, r := range byCell {
		if r != nil {
			results = append(results, *r)
		}
	}
	if errors.Is(err, context.Canceled) {
		_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "stopped after %d of %d cells\n", len(results), len(cells))
	}
	if len(results) == 0 {
		return err
	}
	return errors.Join(err, printBench(cmd.OutOrStdout(), results, f.json, len(cells) == 1), saveBench(f.out, results), failures(results))
}

// timeLeft estimates how long the rest takes.
type timeLeft struct {
	since time.Time
	rest  time.Duration
}

func newTimeLeft(b *trunk.Bench, cells []trunk.Cell) *timeLeft {
	t := new(timeLeft)
	t.done(b, cells)
	return t
}

func (t *timeLeft) done(b *trunk.Bench, rest []trunk.Cell) {
	t.since, t.rest = time.Now(), b.TakesAll(rest)
}

func (t *timeLeft) now() time.Duration {
	return max(0, t.rest-time.Since(t.since)).Round(time.Second)
}

func printBench(w io.Writer, results []trunk.Result, asJSON, single bool) error {
	if !asJSON {
		return trunk.WriteTable(w, results)
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	if single {
		return enc.Encode(results[0])
	}
	return enc.Encode(results)
}

// saveBench writes the three files into dir, over those of an earlier run.
func saveBench(dir string, results []trunk.Result) error {
	if dir == "" {
		return nil
	}
	for name, write := range map[string]func(io.Writer) error{
		"results.json": func(w io.Writer) error { return printBench(w, results, true, false) },
		"table.md":     func(w io.Writer) error { return trunk.WriteTable(w, results) },
		"trunk.svg":    func(w io.Writer) error { return trunk.WriteFigure(w, results) },
	} {
		file, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		if err := errors.Join(write(file), file.Close()); err != nil {
			return fmt.Errorf("%s: %w", file.Name(), err)
		}
	}
	return nil
}

// failures makes contestants that failed the command's failure, after the others were shown.
func failures(results []trunk.Result) error {
	var errs []error
	for _, r := range results {
		for _, name := range trunk.Contestants {
			if o := r.Outcomes[name]; o != nil && o.Error != "" {
				errs = append(errs, fmt.Errorf("%v: %s failed: %s", r.Cell, name, o.Error))
			}
		}
	}
	return errors.Join(errs...)
}
