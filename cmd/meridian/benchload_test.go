package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/bench/load"
)

func TestShowLoads(t *testing.T) {
	name := filepath.Join(t.TempDir(), "video-100-1-peer.json")
	f := loadFlags{out: name}
	require.NoError(t, f.save(load.Result{Subscribers: 7, SubscribersConnected: 6, Loss: 0.02}))
	var out bytes.Buffer
	require.NoError(t, showLoads(&out, []string{name}))
	require.Contains(t, out.String(), "| video-100-1-peer | 6 of 7 |")
	require.Contains(t, out.String(), "2.00 %")
	require.Error(t, showLoads(&out, []string{name + "x"}))
	require.NoError(t, os.WriteFile(name, []byte("{"), 0o600))
	require.ErrorContains(t, showLoads(&out, []string{name}), name)
}

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
		"files":   {append(good, "x.json"), "--show"},
		"show":    {[]string{"--show"}, "--show"},
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
