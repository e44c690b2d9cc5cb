package main

import (
	"io"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestBenchFailoverUsage(t *testing.T) {
	for want, args := range map[string][]string{
		"must be one of [blackhole gateway relay]": {"--scenario", "flood"},
		"write it as 2%":         {"--loss", "lots"},
		"must be 1 to 10000":     {"--trials", "0"},
		"make no sense":          {"--min-rtt", "1s", "--max-rtt", "1ms"},
		"outage is 1ms":          {"--outage", "1ms"},
		"unknown flag: --outtag": {"--outtag"},
	} {
		root := newRootCommand()
		root.SetArgs(append([]string{"bench", "failover"}, args...))
		root.SetOut(io.Discard)
		root.SetErr(io.Discard)
		require.ErrorContains(t, root.Execute(), want)
	}
}
