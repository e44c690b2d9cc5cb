package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/bench/trunk"
)

func TestParseShare(t *testing.T) {
	for in, want := range map[string]float64{"2%": 0.02, "0.02": 0.02, "0.1%": 0.001, "0": 0, "1": 1} {
		got, err := parseShare(in)
		require.NoError(t, err, in)
		require.InDelta(t, want, got, 1e-12, in)
	}
	for in, wayOut := range map[string]string{"": "2%", "two": "2%", "NaN": "2%", "2": "write 2%"} {
		_, err := parseShare(in)
		require.ErrorContains(t, err, wayOut, in)
	}
}

func TestParseBitrate(t *testing.T) {
	for in, want := range map[string]int64{"20M": 20e6, "500k": 5e5, "1.5M": 15e5, "0": 0, "2000000": 2e6, "1G": 1e9} {
		got, err := parseBitrate(in)
		require.NoError(t, err, in)
		require.Equal(t, want, got, in)
	}
	for _, in := range []string{"", "M", "fast", "-1M", "NaN", "1e99"} {
		_, err := parseBitrate(in)
		require.ErrorContains(t, err, "20M", in)
	}
}

func TestBenchUsage(t *testing.T) {
	for name, tc := range map[string]struct {
		args []string
		want string
	}{
		"loss":       {[]string{"--loss", "lots"}, "write it as 2%"},
		"whole loss": {[]string{"--loss", "2"}, "write 2%"},
		"rate":       {[]string{"--rate", "fast"}, "as 20M"},
		"low rate":   {[]string{"--rate", "20"}, "must be 500k to 200M"},
		"rtt":        {[]string{"--rtt", "150"}, "bench trunk --help"},
		"duration":   {[]string{"--duration", "1ms"}, "must be 500ms to 1h"},
		"contestant": {[]string{"--only", "tcp"}, "meridian quic udp"},
		"bottleneck": {[]string{"--bottleneck", "x"}, "as 20M"},
		"episode":    {[]string{"--bottleneck-from", "5s"}, "no bottleneck can come and go"},
		"no queue":   {[]string{"--rtt", "80ms", "--bottleneck-queue", "300ms"}, "say --bottleneck as well"},
		"quick cell": {[]string{"--quick", "--rtt", "80ms"}, "--quick is for the matrix"},
		"quick bare": {[]string{"--quick", "--bare"}, "--quick is for the matrix"},
		"quick long": {[]string{"--quick", "--duration", "3s"}, "leave out --duration"},
		"only twice": {[]string{"--only", "meridian,meridian"}, "named twice"},
		"bare":       {[]string{"--bare", "--rtt", "20ms"}, "leave out --rtt"},
		"unknown":    {[]string{"--lossy"}, "bench trunk --help"},
	} {
		t.Run(name, func(t *testing.T) {
			root := newRootCommand()
			root.SetArgs(append([]string{"bench", "trunk"}, tc.args...))
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

func TestBenchCells(t *testing.T) {
	f := trunkFlags{rtt: 80 * time.Millisecond, loss: "5%", burst: 4, rate: "20M", bottleneck: "10M", duration: 3 * time.Second}
	cells, err := f.cells(func(name string) bool { return name == "duration" })
	require.NoError(t, err)
	require.Equal(t, trunk.Matrix(3*time.Second), cells)
	cells, err = f.cells(func(string) bool { return false })
	require.NoError(t, err)
	require.Equal(t, trunk.Matrix(4*time.Second), cells)
	f.quick = true
	cells, err = f.cells(func(string) bool { return false })
	require.NoError(t, err)
	require.Equal(t, trunk.Matrix(time.Second), cells)
	f.quick = false
	cells, err = f.cells(func(name string) bool { return name == "burst" })
	require.NoError(t, err)
	require.Equal(t, []trunk.Cell{{
		RTT: 80 * time.Millisecond, Loss: 0.05, Burst: 4, Bottleneck: 10e6, Rate: 20e6, Duration: 3 * time.Second,
	}}, cells)
}

func TestBenchFiles(t *testing.T) {
	dir := t.TempDir()
	failed := trunk.Result{
		Cell:     trunk.Cell{Rate: 2e6, Duration: time.Second},
		Outcomes: map[string]*trunk.Outcome{trunk.UDP: {}, trunk.QUIC: {Error: "no handshake"}},
	}
	require.NoError(t, saveBench(dir, []trunk.Result{failed}))
	for _, name := range []string{"results.json", "table.md", "trunk.svg"} {
		info, err := os.Stat(filepath.Join(dir, name))
		require.NoError(t, err)
		require.NotZero(t, info.Size())
	}
	require.NoError(t, saveBench("", nil))
	require.ErrorContains(t, failures([]trunk.Result{failed}), "quic failed: no handshake")
}
