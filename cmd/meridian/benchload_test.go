package main

import (
	"errors"
	"io"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestBenchLoadUsage(t *testing.T) {
	good := []string{"--url", "ws://127.0.0.1:1", "--key", "k", "--secret", "s"}
	for name, tc := range map[string]struct {
		args []string
		want string
	}{
		"nowhere": {[]string{"--key", "k", "--secret", "s"}, "no URL"},
		"keys":    {[]string{"--url", "ws://127.0.0.1:1"}, "secret is missing"},
		"address": {[]string{"--url", "127.0.0.1:1", "--key", "k", "--secret", "s"}, "ws://host:port"},
		"rate":    {append(good, "--rate", "fast"), "as 20M"},
		"layout":  {append(good, "--layout", "mosaic"), "speaker, 3x3"},
		"media":   {append(good, "--media", "film"), "video, audio or both"},
		"unknown": {append(good, "--lossy"), "bench load --help"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("MERIDIAN_API_KEY", "")
			t.Setenv("MERIDIAN_API_SECRET", "")
			root := newRootCommand()
			root.SetArgs(append([]string{"bench", "load"}, tc.args...))
			root.SetOut(io.Discard)
			root.SetErr(io.Discard)
			err := root.ExecuteContext(t.Context())
			require.ErrorContains(t, err, tc.want)
			var exit *exitError
			require.True(t, errors.As(err, &exit))
			require.Equal(t, exitUsage, exit.code)
		})
	}
}
