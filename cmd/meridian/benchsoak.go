package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/meridian-sfu/meridian/bench/soak"
)

func newBenchSoakCommand() *cobra.Command {
	cfg := soak.DefaultConfig()
	loss, rate := "3%", "2M"
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "soak",
		Short: "Whether three nodes under loss and churn grow",
		Long: `Runs three nodes in this process over real sockets with emulated paths, lets subscribers, sources and bad paths come and go, and
prints memory, goroutines, file descriptors, lanes and flows from time to time. It fails when the last third of the samples shows
more of anything than the first third did. Ctrl-C ends it early, without a verdict.`,
		Example: `  meridian bench soak
  meridian bench soak --duration 2m --rate 8M --loss 5%`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if cfg.Loss, err = parseShare(loss); err != nil {
				return usageError("--loss: %w", err)
			}
			if cfg.Rate, err = parseBitrate(rate); err != nil {
				return usageError("--rate: %w", err)
			}
			s, err := soak.New(cfg, slog.New(slog.DiscardHandler))
			if err != nil {
				return usageError("%w\nsee 'meridian bench soak --help'", err)
			}
			return benchSoak(cmd, s, asJSON)
		},
	}
	fl := cmd.Flags()
	fl.DurationVar(&cfg.Duration, "duration", cfg.Duration, "of all of it")
	fl.DurationVar(&cfg.Every, "every", cfg.Every, "between two samples; 0: a fortieth of the duration")
	fl.DurationVar(&cfg.Churn, "churn", cfg.Churn, "between two changes")
	fl.DurationVar(&cfg.RTT, "rtt", cfg.RTT, "round trip of every path")
	fl.StringVar(&loss, "loss", loss, `worst share of packets lost in each direction: "3%" or "0.03"`)
	fl.StringVar(&rate, "rate", rate, `RTP each of the three publishes, bits per second: "2M", "500k"`)
	fl.Uint64Var(&cfg.Seed, "seed", cfg.Seed, "of losses and churn")
	fl.BoolVar(&asJSON, "json", false, "print JSON: one object with all samples")
	return cmd
}

func benchSoak(cmd *cobra.Command, s *soak.Soak, asJSON bool) error {
	out := cmd.OutOrStdout()
	res, err := s.Run(cmd.Context(), func(now soak.Sample) {
		line := out
		if asJSON {
			line = cmd.ErrOrStderr()
		}
		_, _ = fmt.Fprintln(line, now)
	})
	if !asJSON {
		return err
	}
	enc := json.NewEncoder(out)
	enc.SetIndent("", "  ")
	return errors.Join(err, enc.Encode(res))
}
