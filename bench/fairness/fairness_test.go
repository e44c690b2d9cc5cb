package fairness

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/bench/trunk"
	"github.com/meridian-sfu/meridian/bench/wan"
	"github.com/meridian-sfu/meridian/internal/testnet"
)

// nodeEnv makes this test program a node process.
const nodeEnv = "MERIDIAN_TEST_FAIRNESS_NODE"

func TestMain(m *testing.M) {
	run := map[string]func(context.Context) error{
		"media": func(ctx context.Context) error { return trunk.Node(ctx, os.Stdin, os.Stdout) },
		"tcp":   func(ctx context.Context) error { return Node(ctx, os.Stdin, os.Stdout) },
	}[os.Getenv(nodeEnv)]
	if run == nil {
		os.Exit(m.Run())
	}
	if run(context.Background()) != nil {
		os.Exit(1)
	}
	os.Exit(0)
}

func testConfig() Config {
	cfg := DefaultConfig()
	cfg.MediaNode, cfg.TCPNode = []string{"env", nodeEnv + "=media", os.Args[0]}, []string{"env", nodeEnv + "=tcp", os.Args[0]}
	cfg.Duration, cfg.Rate, cfg.Offered = 1500*time.Millisecond, 5e6, 5e6
	return cfg
}

// needNamespaces skips where there are none and that is known, as the tests of bench/wan do.
func needNamespaces(t *testing.T) {
	t.Helper()
	if err := wan.Available(); err != nil {
		if os.Getenv("MERIDIAN_NO_NETNS") == "1" {
			t.Skip(err)
		}
		t.Fatalf("%v (MERIDIAN_NO_NETNS=1 skips this test)", err)
	}
}

// A short run: everybody sends in their phases and only there. What each gets is the machine's matter.
func TestRun(t *testing.T) {
	needNamespaces(t)
	b, err := New(testConfig())
	require.NoError(t, err)
	var told []string
	res, err := b.Run(t.Context(), func(what string, _ time.Duration) { told = append(told, what) })
	require.NoError(t, err)
	require.Len(t, told, 8)
	require.Len(t, res.Phases, 7)
	for _, p := range res.Phases {
		require.Equal(t, strings.HasPrefix(p.Name, "TCP alone"), p.Media == 0, "%s: media %v", p.Name, p.Media)
		if p.Seconds >= 0.5 { // shorter ones the machine may miss
			require.Positive(t, p.TCP, p.Name)
			require.Positive(t, p.TCPRTT, p.Name)
		}
		require.Less(t, p.Media+p.TCP, 1.5*5e6, p.Name)
	}
	require.NotEmpty(t, res.Course)
	var table bytes.Buffer
	require.NoError(t, WriteTable(&table, res))
	require.Contains(t, table.String(), "| beside TCP, 1 s |")
	_, err = json.Marshal(res)
	require.NoError(t, err)
	requireNothingLeft(t)
}

func requireNothingLeft(t *testing.T) {
	t.Helper()
	entries, err := os.ReadDir("/var/run/netns")
	if !os.IsNotExist(err) {
		require.NoError(t, err)
	}
	for _, e := range entries {
		require.NotContains(t, e.Name(), fmt.Sprintf(".%d.", os.Getpid()))
	}
}

// Nothing is left when a run is ended, or when a process does not come up.
func TestRunCleansUp(t *testing.T) {
	needNamespaces(t)
	b, err := New(testConfig())
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	_, err = b.Run(ctx, func(what string, _ time.Duration) {
		if what == TCPFirst {
			cancel()
		}
	})
	require.ErrorIs(t, err, context.Canceled)
	requireNothingLeft(t)

	cfg := testConfig()
	cfg.MediaNode = []string{"false"}
	b, err = New(cfg)
	require.NoError(t, err)
	_, err = b.Run(t.Context(), nil)
	require.ErrorContains(t, err, "ended by itself")
	requireNothingLeft(t)
}

func TestConfigTellsAllProblems(t *testing.T) {
	err := Config{RTT: -1, Control: "carrier pigeon", Loss: 1, Nice: 99}.Validate()
	for _, want := range []string{"no commands", "rtt", "rate", "queue", "loss", "offered", "carrier pigeon", "flows", "duration", "nice"} {
		require.ErrorContains(t, err, want)
	}
	_, err = New(Config{})
	require.Error(t, err)
	require.NoError(t, testConfig().Validate())
}

func TestCourse(t *testing.T) {
	c := testConfig()
	c.Duration = 30 * time.Second
	p := c.course()
	require.Equal(t, 90*time.Second, p.end)
	require.Equal(t, p.tcp[0].To+10*time.Second, p.tcp[1].From)
	for i, w := range p.windows {
		require.Less(t, w.From, w.To)
		if i > 0 {
			require.GreaterOrEqual(t, w.From, p.windows[i-1].To)
		}
	}
	require.Greater(t, c.Takes(), p.end)
}

func TestAccount(t *testing.T) {
	c := testConfig()
	c.Duration, c.Flows, c.Rate, c.Offered = 10*time.Second, 3, 20e6, 20e6
	p := c.course()
	steps := int(p.end / trunk.LiveStep)
	media := &trunk.LiveReport{Arrived: make([]uint64, steps), Windows: make([]trunk.WindowReport, len(p.windows)), LateP99: time.Second}
	got := &tcpReport{Arrived: make([]uint64, steps)}
	for i := range steps {
		media.Arrived[i], got.Arrived[i] = 1000, 24000
	}
	for i := range media.Windows {
		media.Windows[i] = trunk.WindowReport{
			Offered: 100, OfferedAudio: 100, OfferedBytes: 1000, Arrived: 95, ArrivedBytes: 400, ArrivedAudio: 95, LateAudio: 19,
			P50: 30 * time.Millisecond, AudioP99: 120 * time.Millisecond,
		}
	}
	media.Samples = []trunk.LiveSample{
		{At: p.windows[2].From, State: "shared", Estimate: 4e6, Withheld: 1, Flows: 2, Bytes: 1000, Repair: 50},
		{At: p.windows[2].To - 1, State: "limited", Estimate: 2e6, Withheld: 2, Flows: 2, Bytes: 3000, Repair: 150},
	}
	sent := &tcpReport{Samples: []tcpSample{{At: p.windows[2].From, RTT: 50 * time.Millisecond}}}
	r := &Result{Config: c}
	r.account(p, media, got, sent, make([]testnet.Stats, len(p.windows)))
	require.True(t, r.Disturbed)
	b := r.Phases[2]
	require.Equal(t, BesideTCP, b.Name)
	require.InDelta(t, 80e3, b.Media, 1)
	require.InDelta(t, 0.04, b.MediaShare, 1e-9)
	require.InDelta(t, 0.04, b.LeastMedia, 1e-9)
	require.InDelta(t, 0.96, b.LeastTCP, 1e-9)
	require.InDelta(t, 10, b.DelayP50, 1e-9)
	require.InDelta(t, 0.05, b.AudioLoss, 1e-9)
	require.InDelta(t, 0.2, b.AudioLate, 1e-9)
	require.InDelta(t, 0.6, b.VideoWithheld, 1e-9)
	require.InDelta(t, 3e6, b.LinkEstimate, 1)
	require.InDelta(t, 0.5, b.LinkShared, 1e-9)
	require.InDelta(t, 0.05, b.Repair, 1e-9)
	require.InDelta(t, 50, b.TCPRTT, 1e-9)
	all := strings.Join(r.Starved, "\n")
	for _, want := range []string{"beside TCP: media has 4 %", "beside media: media has 4 %", "beside TCP: 5.0 % of audio lost", "media alone: a queue of 100 ms"} {
		require.Contains(t, all, want)
	}
	require.NotContains(t, all, "TCP has")
	require.Len(t, r.Course, int(p.end/time.Second))
	var table bytes.Buffer
	require.NoError(t, WriteTable(&table, r))
	require.Contains(t, table.String(), "Not fair enough: beside TCP: media has 4 %")
	require.Contains(t, table.String(), "The machine was busy")
}
