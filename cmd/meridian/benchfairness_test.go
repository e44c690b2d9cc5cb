package main

import (
	"errors"
	"io"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestBenchFairnessUsage(t *testing.T) {
	for want, args := range map[string][]string{
		"as 20M":                {"--rate", "fast"},
		"offered is 1":          {"--offered", "1"},
		`neither a time`:        {"--queue", "long"},
		"queue is 1ms":          {"--queue", "bdp", "--rtt", "1ms"},
		"[cubic reno bbr]":      {"--tcp", "vegas"},
		"flows is 0":            {"--flows", "0"},
		"write it as 2%":        {"--loss", "lots"},
		"duration is 1ms":       {"--duration", "1ms"},
		"bench fairness --help": {"--fair"},
	} {
		root := newRootCommand()
		root.SetArgs(append([]string{"bench", "fairness"}, args...))
		root.SetOut(io.Discard)
		root.SetErr(io.Discard)
		err := root.ExecuteContext(t.Context())
		require.ErrorContains(t, err, want)
		var exit *exitError
		require.True(t, errors.As(err, &exit), want)
		require.Equal(t, exitUsage, exit.code)
	}
}
