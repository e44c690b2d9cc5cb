package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is set by the linker (make build); a plain go build says "dev".
var version = "dev"

// Exit codes: 0 success, 1 anything else, 2 wrong usage or configuration, 3 the mesh could not be asked.
const (
	exitUsage       = 2
	exitUnreachable = 3
)

// exitError carries the exit code a failure asks for.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

func usageError(format string, args ...any) error {
	return &exitError{exitUsage, fmt.Errorf(format, args...)}
}

func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "meridian",
		Short: "One call, every continent: a self-hosted, edge-distributed SFU mesh",
		Long: `Meridian is a mesh of Selective Forwarding Units. Every region runs this same binary; nodes find each other,
give every room an owner, and carry each track once to every region that watches it. LiveKit client SDKs connect unmodified.

Try it:        meridian dev
Run a node:    meridian ca init && meridian ca issue --node us-east-1 && meridian serve --config meridian.yaml`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError("%w\nsee '%s --help'", err, cmd.CommandPath())
	})
	root.AddCommand(newServeCommand(), newDevCommand(), newEdgeCommand(), newStatusCommand(), newTokenCommand(), newCACommand(), newBenchCommand(), newVersionCommand())
	return root
}

func newVersionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version of this binary",
		Args:  cobra.NoArgs,
		Run: func(cmd *cobra.Command, _ []string) {
			v := version
			if info, ok := debug.ReadBuildInfo(); ok && v == "dev" && info.Main.Version != "" && info.Main.Version != "(devel)" {
				v = info.Main.Version
			}
			cmd.Printf("meridian %s %s %s/%s\n", v, runtime.Version(), runtime.GOOS, runtime.GOARCH)
		},
	}
}
