package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/meridian-sfu/meridian/bench/load"
)

// loadFlags are the flags as typed.
type loadFlags struct {
	load.Scenario
	rate, out string
	json      bool
	show      bool
	details   bool
}

func newBenchLoadCommand() *cobra.Command {
	f := loadFlags{Scenario: load.DefaultScenario()}
	cmd := &cobra.Command{
		Use:   "load",
		Short: "Put publishers and subscribers on a server, and measure what they get and what it costs",
		Long: `Joins rooms of a running mesh, or of any server that speaks the protocol of LiveKit client SDKs, as many publishers and
subscribers, and reports loss, delay, bit rate, freezes and time to the first frame, and the server's processor time and memory
when its PID is given. With --joins subscribers come one after the other and leave again, and the keyframe requests that reach
the publisher are counted. Traffic goes to the servers named, so name your own. Progress goes to stderr.`,
		Example: `  meridian bench load --url ws://127.0.0.1:7880 --key devkey --secret S --server-pid 4711 --subscribers 200 --duration 20s
  meridian bench load --url ws://127.0.0.1:7880 --key devkey --secret S --media audio --publishers 10 --subscribers 50
  meridian bench load --show results/*.json
  meridian bench load --urls ws://us:7880,ws://eu:7880,ws://ap:7880 --key K --secret S --joins 1000 --join-window 60s --stay 5s`,
		Args: func(_ *cobra.Command, args []string) error {
			if f.show != (len(args) > 0) {
				return usageError("files are for --show, and --show is for files\nsee 'meridian bench load --help'")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.show {
				return showLoads(cmd.OutOrStdout(), args)
			}
			return f.run(cmd)
		},
	}
	fl := cmd.Flags()
	fl.StringSliceVar(&f.URLs, "url", nil, "address of a server: ws://host:port or wss://host; several for a mesh")
	fl.StringSliceVar(&f.URLs, "urls", nil, "the same as --url")
	fl.StringVar(&f.Key, "key", os.Getenv("MERIDIAN_API_KEY"), "API key (default: MERIDIAN_API_KEY)")
	fl.StringVar(&f.Secret, "secret", "", "API secret (default: MERIDIAN_API_SECRET)")
	fl.IntSliceVar(&f.ServerPIDs, "server-pid", nil, "process of the server on this machine, for its processor time and memory; several are added up")
	fl.IntVar(&f.Rooms, "rooms", f.Rooms, "number of rooms")
	fl.IntVar(&f.Publishers, "publishers", f.Publishers, "publishers in all rooms together")
	fl.IntVar(&f.Subscribers, "subscribers", f.Subscribers, "subscribers in all rooms together")
	fl.StringVar(&f.Media, "media", f.Media, "what publishers send: video, audio or both")
	fl.IntVar(&f.Encodings, "encodings", f.Encodings, "simulcast encodings of a camera, 1 to 3")
	fl.StringVar(&f.rate, "rate", "2M", "bit rate of the best encoding; each lower one takes a quarter")
	fl.StringVar(&f.Layout, "layout", f.Layout, "what subscribers show: "+strings.Join(load.Layouts(), ", "))
	fl.Float64Var(&f.Churn, "churn", 0, "subscribers a second who leave and come back")
	fl.DurationVar(&f.MuteStorm, "mute-storm", 0, "how often all publishers mute for a second at once; 0: never")
	fl.DurationVar(&f.Warmup, "warmup", f.Warmup, "time before the counted time, when all have joined")
	fl.DurationVar(&f.Duration, "duration", f.Duration, "counted time")
	fl.IntVar(&f.Joins, "joins", 0, "subscribers who come one after the other and leave again, in place of --subscribers and --duration")
	fl.DurationVar(&f.JoinWindow, "join-window", f.JoinWindow, "time over which --joins come")
	fl.DurationVar(&f.Stay, "stay", f.Stay, "how long each of --joins stays")
	fl.IntVar(&f.Parallel, "parallel", f.Parallel, "clients that connect at once at the start")
	fl.IntVar(&f.Sample, "sample", f.Sample, "of how many packets one is decrypted for its delay")
	fl.BoolVar(&f.json, "json", false, "print one JSON object in place of a table")
	fl.BoolVar(&f.details, "details", false, "with a line for each subscriber in the JSON")
	fl.BoolVar(&f.show, "show", false, "run nothing: print the table of the --out files named")
	fl.StringVar(&f.out, "out", "", "file for the JSON, with a line for each subscriber")
	return cmd
}

func (f *loadFlags) run(cmd *cobra.Command) error {
	rate, err := parseBitrate(f.rate)
	if err != nil {
		return usageError("--rate: %w", err)
	}
	f.VideoRate = rate
	if f.Secret == "" {
		f.Secret = os.Getenv("MERIDIAN_API_SECRET")
	}
	if err := f.Validate(); err != nil {
		return usageError("%w\nsee 'meridian bench load --help'", err)
	}
	r, err := load.Run(cmd.Context(), f.Scenario, func(p load.Progress) {
		left := ""
		if p.Left > 0 {
			left = fmt.Sprintf(", %v left", p.Left.Round(time.Second))
		}
		_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "%v %s%s: %d publishers, %d subscribers (%d failed), %d packets\n",
			p.Elapsed.Round(time.Second), p.Stage, left, p.Publishers, p.Subscribers, p.Failed, p.Packets)
	})
	if err != nil && r.SubscribersConnected == 0 {
		return err
	}
	return errors.Join(err, f.print(cmd.OutOrStdout(), r), f.save(r))
}

func (f *loadFlags) print(w io.Writer, r load.Result) error {
	if !f.json {
		return load.WriteTable(w, []load.Row{{Name: strings.Join(r.URLs, " "), Result: r}})
	}
	if !f.details {
		r.PerSubscriber = nil
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(r)
}

// showLoads prints earlier results, a line for each file.
func showLoads(w io.Writer, files []string) error {
	var rows []load.Row
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		row := load.Row{Name: strings.TrimSuffix(filepath.Base(name), ".json")}
		if err := json.Unmarshal(b, &row.Result); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		rows = append(rows, row)
	}
	return load.WriteTable(w, rows)
}

func (f *loadFlags) save(r load.Result) error {
	if f.out == "" {
		return nil
	}
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(f.out, append(b, '\n'), 0o644) //nolint:gosec // results are for everybody
}
