package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

// The API key of 'meridian dev'. It is public: dev listens on loopback only.
const (
	devKey    = "devkey"
	devSecret = "devsecret-devsecret-devsecret-32ch"
)

// Each dev node has ten ports: HTTP on the first, then mesh UDP, media UDP and ICE-TCP.
const (
	devBasePort     = 7880
	devPortsPerNode = 10
	devReadyTimeout = 60 * time.Second
	devStopTimeout  = 15 * time.Second
)

type devNode struct {
	id     mesh.NodeID
	region mesh.Region
	port   int
	cmd    *exec.Cmd
	tether io.Closer     // open as long as we live: a node of a killed dev ends by itself
	exited chan struct{} // closed when the process is gone
	err    error         // of the process; read after exited
}

func (n *devNode) http() string { return fmt.Sprintf("http://127.0.0.1:%d", n.port) }
func (n *devNode) mesh() string { return fmt.Sprintf("127.0.0.1:%d", n.port+1) }

func newDevCommand() *cobra.Command {
	var regions, delays, dir, logLevel string
	var basePort int
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run a whole mesh on this machine, one process a node",
		Long: `Starts one node per region on loopback, each its own process, under a throw-away CA and data folder. When all of them are
ready it prints one line of JSON on stdout; logs go to stderr. Node i serves HTTP and WebSocket on 127.0.0.1:7880+10·i.
API key "` + devKey + `", secret "` + devSecret + `". Ctrl-C stops all.

--delay puts emulated one-way delays on the links between regions.`,
		Example: `  meridian dev
  meridian dev --regions 'us-east*2,eu-west' --delay us-east:eu-west=40ms`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			nodes, err := parseRegions(regions, basePort)
			if err != nil {
				return usageError("--regions: %w", err)
			}
			delay, err := parseDelays(delays, nodes)
			if err != nil {
				return usageError("--delay: %w", err)
			}
			if err := checkPorts(cmd.Context(), nodes); err != nil {
				return err
			}
			if dir == "" {
				if dir, err = os.MkdirTemp("", "meridian-dev-"); err != nil {
					return err
				}
				defer func() { _ = os.RemoveAll(dir) }()
			}
			return runDev(cmd.Context(), nodes, delay, dir, logLevel, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.StringVar(&regions, "regions", "us-east,eu-west,ap-south", "comma-separated regions; us-east*2 starts two nodes there")
	f.StringVar(&delays, "delay", "", "emulated one-way delays between regions: us-east:eu-west=40ms,…")
	f.StringVar(&dir, "dir", "", "keep CA, data and configuration in this folder (default: a temporary one, removed at the end)")
	f.StringVar(&logLevel, "log", "info", "log level of the nodes: debug, info, warn, error")
	f.IntVar(&basePort, "port", devBasePort, "HTTP port of the first node")
	return cmd
}

// parseRegions reads "us-east*2,eu-west".
func parseRegions(s string, basePort int) ([]*devNode, error) {
	var nodes []*devNode
	count := map[string]int{}
	for item := range strings.SplitSeq(s, ",") {
		name, times, many := strings.Cut(strings.TrimSpace(item), "*")
		n := 1
		if many {
			if _, err := fmt.Sscanf(times, "%d", &n); err != nil || n < 1 || n > 50 {
				return nil, fmt.Errorf("%q: write the number of nodes as us-east*2, at most 50", item)
			}
		}
		region, err := mesh.ParseRegion(name)
		if err != nil {
			return nil, err
		}
		for range n {
			count[name]++
			nodes = append(nodes, &devNode{
				id:     mesh.NodeID(fmt.Sprintf("%s-%d", name, count[name])),
				region: region,
				port:   basePort + devPortsPerNode*len(nodes),
				exited: make(chan struct{}),
			})
		}
	}
	if last := nodes[len(nodes)-1].port + devPortsPerNode; basePort < 1 || last > 65535 {
		return nil, fmt.Errorf("%d nodes from port %d need ports up to %d", len(nodes), basePort, last)
	}
	return nodes, nil
}

// parseDelays reads "us-east:eu-west=40ms,…" into delays by unordered region pair.
func parseDelays(s string, nodes []*devNode) (map[[2]mesh.Region]time.Duration, error) {
	delays := map[[2]mesh.Region]time.Duration{}
	if s == "" {
		return delays, nil
	}
	known := map[mesh.Region]bool{}
	for _, n := range nodes {
		known[n.region] = true
	}
	for item := range strings.SplitSeq(s, ",") {
		pair, value, ok := strings.Cut(strings.TrimSpace(item), "=")
		a, b, ok2 := strings.Cut(pair, ":")
		d, err := time.ParseDuration(value)
		if !ok || !ok2 || err != nil || d < 0 {
			return nil, fmt.Errorf("%q: write it as us-east:eu-west=40ms", item)
		}
		for _, r := range []string{a, b} {
			if !known[mesh.Region(r)] {
				return nil, fmt.Errorf("%q: no node stands in region %q", item, r)
			}
		}
		delays[[2]mesh.Region{mesh.Region(a), mesh.Region(b)}] = d
		delays[[2]mesh.Region{mesh.Region(b), mesh.Region(a)}] = d
	}
	return delays, nil
}

// checkPorts fails early and by name when another program has a port: a child's failure would be harder to read.
func checkPorts(ctx context.Context, nodes []*devNode) error {
	lc := net.ListenConfig{}
	for _, n := range nodes {
		l, err := lc.Listen(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", n.port))
		if err != nil {
			return fmt.Errorf("port %d for %s is in use: stop the other program or choose other ports with --port (%w)", n.port, n.id, err)
		}
		_ = l.Close()
	}
	return nil
}

func runDev(ctx context.Context, nodes []*devNode, delay map[[2]mesh.Region]time.Duration, dir, logLevel string, stdout, stderr io.Writer) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	ca, err := devCA(dir)
	if err != nil {
		return err
	}
	out := &lineWriter{w: stderr}
	defer stopAll(nodes)
	for _, n := range nodes {
		name, err := writeDevNode(dir, ca, n, nodes, delay, logLevel)
		if err != nil {
			return err
		}
		n.cmd = exec.CommandContext(context.WithoutCancel(ctx), self, "serve", "--config", name, "--tethered") // stopAll ends it, in order
		if n.tether, err = n.cmd.StdinPipe(); err != nil {
			return err
		}
		n.cmd.Stderr = out.prefixed(string(n.id))
		n.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C reaches us, and we stop them in order
		if err := n.cmd.Start(); err != nil {
			return fmt.Errorf("dev: start %s: %w", n.id, err)
		}
		go func() {
			n.err = n.cmd.Wait()
			close(n.exited)
		}()
	}
	if err := waitReady(ctx, nodes); err != nil {
		return err
	}
	type region struct {
		Name    mesh.Region `json:"name"`
		Node    mesh.NodeID `json:"node"`
		URL     string      `json:"url"`
		HTTP    string      `json:"http"`
		Metrics string      `json:"metrics"`
		PID     int         `json:"pid"`
	}
	ready := struct {
		Event   string   `json:"event"`
		Regions []region `json:"regions"`
	}{Event: "ready"}
	for _, n := range nodes {
		ready.Regions = append(ready.Regions, region{
			n.region, n.id, "ws" + strings.TrimPrefix(n.http(), "http"), n.http(), n.http() + "/metrics", n.cmd.Process.Pid,
		})
	}
	if err := json.NewEncoder(stdout).Encode(ready); err != nil {
		return err
	}
	_, _ = fmt.Fprintf(out, "\nThe mesh is up. Open %s in two windows, choose different regions, and call.\nCtrl-C stops it.\n\n", nodes[0].http())
	return superviseDev(ctx, nodes, out)
}

// superviseDev waits for the end. A node that dies does not take the others with it: losing one is what a mesh is for.
func superviseDev(ctx context.Context, nodes []*devNode, out io.Writer) error {
	gone := make(chan *devNode)
	for _, n := range nodes {
		go func() {
			<-n.exited
			select {
			case gone <- n:
			case <-ctx.Done():
			}
		}()
	}
	for left := len(nodes); left > 0; {
		select {
		case <-ctx.Done():
			return nil
		case n := <-gone:
			left--
			_, _ = fmt.Fprintf(out, "node %s ended (%v); %d left\n", n.id, n.err, left)
		}
	}
	return errors.New("dev: every node has ended")
}

func stopAll(nodes []*devNode) {
	for _, n := range nodes {
		if n.cmd != nil && n.cmd.Process != nil {
			_ = n.cmd.Process.Signal(syscall.SIGTERM)
		}
	}
	deadline := time.After(devStopTimeout)
	for _, n := range nodes {
		if n.cmd == nil || n.cmd.Process == nil {
			continue
		}
		select {
		case <-n.exited:
		case <-deadline:
			_ = n.cmd.Process.Kill()
			<-n.exited
		}
	}
}

// waitReady returns when every node says so and sees every other one.
func waitReady(ctx context.Context, nodes []*devNode) error {
	ctx, cancel := context.WithTimeout(ctx, devReadyTimeout)
	defer cancel()
	for _, n := range nodes {
		for {
			err := askReady(ctx, n, len(nodes))
			if err == nil {
				break
			}
			select {
			case <-n.exited:
				return fmt.Errorf("dev: node %s ended before it was ready (%w): its log is above", n.id, n.err)
			case <-ctx.Done():
				if errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
					return fmt.Errorf("dev: node %s was not ready after %s: %w", n.id, devReadyTimeout, err)
				}
				return nil
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
	return nil
}

func askReady(ctx context.Context, n *devNode, members int) error {
	if err := getJSON(ctx, n.http()+"/readyz", "", nil); err != nil {
		return err
	}
	var edges struct {
		Edges []json.RawMessage `json:"edges"`
	}
	if err := getJSON(ctx, n.http()+"/v1/edges", "", &edges); err != nil {
		return err
	}
	if len(edges.Edges) < members {
		return fmt.Errorf("sees %d of %d nodes", len(edges.Edges), members)
	}
	return nil
}

// getJSON asks a node; into may be nil.
func getJSON(ctx context.Context, url, bearer string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	if bearer != "" {
		req.Header.Set("Authorization", "Bearer "+bearer)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(res.Body, 16<<20))
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s: %s", url, res.Status, strings.TrimSpace(string(body)))
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(body, into)
}
