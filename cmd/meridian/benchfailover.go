package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"github.com/meridian-sfu/meridian/bench/failover"
)

func newBenchFailoverCommand() *cobra.Command {
	cfg := failover.DefaultConfig()
	var scenarios []string
	var loss string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "failover",
		Short: "How long media stays away when a path, a gateway or a relay dies",
		Long: `Runs meshes of three and four nodes in this process over an emulated network, lets the direct path between publisher and watcher
swallow everything ("blackhole"), kills the gateway of the watcher's region ("gateway") or the node that stands in for a dead path
("relay"), and reports the longest time without a packet of video and of audio, and on the way back. About two and a half minutes;
progress goes to stderr, Ctrl-C prints what is done so far.`,
		Example: `  meridian bench failover
  meridian bench failover --scenario blackhole --trials 50 --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if cfg.Loss, err = parseShare(loss); err != nil {
				return usageError("--loss: %w", err)
			}
			for _, s := range scenarios {
				cfg.Scenario = failover.Scenario(s)
				if err := cfg.Validate(); err != nil {
					return usageError("%w", err)
				}
			}
			return benchFailover(cmd, cfg, scenarios, asJSON)
		},
	}
	var all []string
	for _, s := range failover.Scenarios {
		all = append(all, string(s))
	}
	fl := cmd.Flags()
	fl.StringSliceVar(&scenarios, "scenario", all, "what fails")
	fl.IntVar(&cfg.Trials, "trials", cfg.Trials, "of each scenario")
	fl.IntVar(&cfg.Parallel, "parallel", cfg.Parallel, "trials at once; each is a mesh of its own")
	fl.Uint64Var(&cfg.Seed, "seed", cfg.Seed, "of round trips and moments")
	fl.DurationVar(&cfg.MinRTT, "min-rtt", cfg.MinRTT, "least round trip between two regions")
	fl.DurationVar(&cfg.MaxRTT, "max-rtt", cfg.MaxRTT, "greatest round trip between two regions")
	fl.DurationVar(&cfg.Jitter, "jitter", cfg.Jitter, "up to this much is added to the delay of each packet")
	fl.StringVar(&loss, "loss", "0", `share of packets lost on every path: "2%" or "0.02"`)
	fl.DurationVar(&cfg.Outage, "outage", cfg.Outage, "how long it stays dead")
	fl.BoolVar(&asJSON, "json", false, "print JSON: an array of one object for each scenario")
	return cmd
}

func benchFailover(cmd *cobra.Command, cfg failover.Config, scenarios []string, asJSON bool) error {
	log := slog.New(slog.DiscardHandler)
	var reports []*failover.Report
	var errs []error
	for _, s := range scenarios {
		cfg.Scenario = failover.Scenario(s)
		began, done := time.Now(), 0
		r, err := failover.Run(cmd.Context(), cfg, log, func(failover.Outcome) {
			done++
			_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "%s: %d of %d trials, %v\n", s, done, cfg.Trials, time.Since(began).Round(time.Second))
		})
		errs = append(errs, err)
		if r != nil && r.Trials > 0 {
			reports = append(reports, r)
		}
		if cmd.Context().Err() != nil {
			break
		}
	}
	if asJSON {
		enc := json.NewEncoder(cmd.OutOrStdout())
		enc.SetIndent("", "  ")
		return errors.Join(append(errs, enc.Encode(reports))...)
	}
	return errors.Join(append(errs, failover.WriteTable(cmd.OutOrStdout(), reports))...)
}
