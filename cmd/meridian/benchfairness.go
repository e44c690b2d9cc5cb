package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/meridian-sfu/meridian/bench/fairness"
)

// fairnessNode is the hidden command that is one end of the TCP connections.
const fairnessNode = "fairness-node"

// fairnessFlags are the flags as typed, where the configuration has them in another form.
type fairnessFlags struct {
	rate, offered, loss, queue string
	json                       bool
}

func newBenchFairnessCommand() *cobra.Command {
	cfg := fairness.DefaultConfig()
	var f fairnessFlags
	cmd := &cobra.Command{
		Use:   "fairness",
		Short: "What Meridian's link and a real TCP get of one bottleneck",
		Long: `Puts Meridian's link between two node processes and connections of the kernel's TCP, sending as fast as they can, behind one
bottleneck with one queue, between two network namespaces, and reports what each gets: TCP alone, media joining it, media alone, TCP
joining media, TCP alone again. Progress goes to stderr. Needs Linux, root, /dev/net/tun and the ip command; takes about a minute and
a half, Ctrl-C ends it at once, and the namespaces are removed either way.`,
		Example: `  meridian bench fairness
  meridian bench fairness --rtt 150ms --queue bdp --offered 40M --tcp bbr
  meridian bench fairness --flows 4 --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			self, err := os.Executable()
			if err != nil {
				return err
			}
			cfg.MediaNode, cfg.TCPNode = []string{self, "bench", trunkNode}, []string{self, "bench", fairnessNode}
			if err := f.parse(&cfg); err != nil {
				return err
			}
			if err := cfg.Validate(); err != nil {
				return usageError("%w\nsee 'meridian bench fairness --help'", err)
			}
			return benchFairness(cmd, cfg, f.json)
		},
	}
	fl := cmd.Flags()
	fl.DurationVar(&cfg.RTT, "rtt", cfg.RTT, "round trip of the path without queues")
	fl.StringVar(&f.rate, "rate", "20M", "what the bottleneck carries, bits per second of IP packets")
	fl.StringVar(&f.queue, "queue", "100ms", `longest wait at the bottleneck: a time, or "bdp" for a round trip`)
	fl.StringVar(&f.loss, "loss", "0", `share of packets the path loses by itself: "2%" or "0.02"`)
	fl.StringVar(&f.offered, "offered", "20M", "RTP offered, bits per second")
	fl.StringVar(&cfg.Control, "tcp", cfg.Control, "congestion control of TCP: "+strings.Join(fairness.Controls, ", "))
	fl.IntVar(&cfg.Flows, "flows", cfg.Flows, "TCP connections")
	fl.DurationVar(&cfg.Duration, "duration", cfg.Duration, "of each of the two phases with both")
	fl.BoolVar(&cfg.Cold, "cold", false, "open the link when TCP has filled the queue, not before")
	fl.Uint64Var(&cfg.Seed, "seed", cfg.Seed, "of the traffic")
	fl.IntVar(&cfg.Nice, "nice", cfg.Nice, "scheduling priority of the measured processes, -20 (first) to 19")
	fl.BoolVar(&f.json, "json", false, "print one JSON object, with the course second by second")
	return cmd
}

func (f *fairnessFlags) parse(cfg *fairness.Config) (err error) {
	if cfg.Rate, err = parseBitrate(f.rate); err != nil {
		return usageError("--rate: %w", err)
	}
	if cfg.Offered, err = parseBitrate(f.offered); err != nil {
		return usageError("--offered: %w", err)
	}
	if cfg.Loss, err = parseShare(f.loss); err != nil {
		return usageError("--loss: %w", err)
	}
	if f.queue == "bdp" {
		cfg.Queue = cfg.RTT
		return nil
	}
	if cfg.Queue, err = time.ParseDuration(f.queue); err != nil {
		return usageError(`--queue: %q is neither a time like 100ms nor "bdp"`, f.queue)
	}
	return nil
}

func benchFairness(cmd *cobra.Command, cfg fairness.Config, asJSON bool) error {
	b, err := fairness.New(cfg)
	if err != nil {
		return err
	}
	res, err := b.Run(cmd.Context(), func(what string, left time.Duration) {
		_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "[about %v left] %s\n", left.Round(time.Second), what)
	})
	if err != nil {
		return err
	}
	if !asJSON {
		return fairness.WriteTable(cmd.OutOrStdout(), res)
	}
	enc := json.NewEncoder(cmd.OutOrStdout())
	enc.SetIndent("", "  ")
	return enc.Encode(res)
}
