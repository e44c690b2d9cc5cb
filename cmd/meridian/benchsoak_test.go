package main

import (
	"io"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestBenchSoakUsage(t *testing.T) {
	for want, args := range map[string][]string{
		"write it as 2%":      {"--loss", "lots"},
		"as 20M or 500k":      {"--rate", "fast"},
		"duration is 1s":      {"--duration", "1s"},
		"unknown flag: --tim": {"--tim", "3"},
	} {
		root := newRootCommand()
		root.SetArgs(append([]string{"bench", "soak"}, args...))
		root.SetOut(io.Discard)
		root.SetErr(io.Discard)
		require.ErrorContains(t, root.Execute(), want)
	}
}
