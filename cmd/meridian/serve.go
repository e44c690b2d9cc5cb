package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"

	"github.com/meridian-sfu/meridian/node"
)

func newServeCommand() *cobra.Command {
	var config string
	var tethered bool
	cmd := &cobra.Command{
		Use:   "serve --config FILE",
		Short: "Run a node of a mesh",
		Long: `Runs one node until it is told to stop (SIGINT or SIGTERM): then it leaves the mesh in order. deploy/meridian.yaml is a
configuration with every key explained.`,
		Example: "  meridian serve --config /etc/meridian/meridian.yaml",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			file, cfg, err := readConfig(config)
			if err != nil {
				return err
			}
			log, err := newLogger(cmd.ErrOrStderr(), file.Log.Level, file.Log.Format)
			if err != nil {
				return usageError("%s: %w", config, err)
			}
			if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
				return fmt.Errorf("data_dir: %w", err)
			}
			reg := prometheus.NewRegistry()
			reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
			n, err := node.New(cfg, log, reg)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithCancel(cmd.Context())
			defer cancel()
			if tethered {
				go func() {
					defer cancel()
					_, _ = io.Copy(io.Discard, cmd.InOrStdin())
				}()
			}
			return n.Run(ctx)
		},
	}
	cmd.Flags().StringVarP(&config, "config", "c", "", "configuration file (required)")
	cmd.Flags().BoolVar(&tethered, "tethered", false, "stop when standard input ends (used by 'meridian dev')")
	_ = cmd.Flags().MarkHidden("tethered")
	_ = cmd.MarkFlagRequired("config")
	return cmd
}

// newLogger builds the log of a node. Level is debug, info (default), warn or error; format is text (default) or json.
func newLogger(w io.Writer, level, format string) (*slog.Logger, error) {
	var l slog.Level
	if level != "" {
		if err := l.UnmarshalText([]byte(level)); err != nil {
			return nil, fmt.Errorf("log.level: %q is none of debug, info, warn, error", level)
		}
	}
	opts := &slog.HandlerOptions{Level: l}
	switch format {
	case "", "text":
		return slog.New(slog.NewTextHandler(w, opts)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, opts)), nil
	default:
		return nil, fmt.Errorf("log.format: %q is neither text nor json", format)
	}
}
