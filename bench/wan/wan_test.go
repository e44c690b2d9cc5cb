package wan

import (
	"bufio"
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/internal/testnet"
)

// up makes a network or fails with the reason. MERIDIAN_NO_NETNS=1 says that this machine cannot and is known not to.
func up(t testing.TB, topology Topology) *Net {
	t.Helper()
	if err := Available(); err != nil {
		if os.Getenv("MERIDIAN_NO_NETNS") == "1" {
			t.Skip(err)
		}
		t.Fatalf("%v (MERIDIAN_NO_NETNS=1 skips these tests)", err)
	}
	n, err := Up(topology)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, n.Close()) })
	return n
}

func sockets(t testing.TB, n *Net, names ...string) (conns []*net.UDPConn) {
	t.Helper()
	for _, name := range names {
		c, err := n.Host(name).ListenUDP(7000)
		require.NoError(t, err)
		t.Cleanup(func() { _ = c.Close() })
		_ = c.SetReadBuffer(4 << 20)
		conns = append(conns, c)
	}
	return conns
}

func TestTopologyValidate(t *testing.T) {
	bad := Topology{
		Hosts: []string{"a", "a", "no spaces", strings.Repeat("x", 33)},
		Links: []Pair{{A: "a", B: "b"}, Both("a", "a", testnet.Link{Loss: 2}), {A: "no spaces", B: "a"}, {A: "a", B: "no spaces"}},
		Tick:  time.Second, MTU: 9000, Default: testnet.Link{Delay: -1},
	}
	err := bad.Validate()
	for _, part := range []string{
		`host "a": named twice`, `host "no spaces"`, "xxx", `link "a"–"b"`, `link "a"–"a"`, "loss 2",
		`link "a"–"no spaces": named twice`, "tick 1s", "MTU 9000", "delay -1ns",
	} {
		require.ErrorContains(t, err, part)
	}
	require.ErrorContains(t, Topology{}.Validate(), "0 hosts")
	_, err = Up(bad)
	require.Error(t, err)
	require.NoError(t, Topology{Hosts: []string{"a", "b"}, Links: []Pair{Both("a", "b", testnet.Link{})}}.Validate())
}

func TestDestination(t *testing.T) {
	b := make([]byte, 28)
	b[0] = 0x45
	a := hostAddr(249)
	copy(b[16:], a[:])
	host, ok := destination(b)
	require.True(t, ok)
	require.Equal(t, 249, host)
	for name, bad := range map[string][]byte{"empty": nil, "short": b[:19], "IPv6": append([]byte{0x60}, b[1:]...), "foreign": make([]byte, 20), "net": append(b[:19:19], 0)} {
		_, ok := destination(bad)
		require.False(t, ok, name)
	}
}

func TestCommand(t *testing.T) {
	n := up(t, Topology{Hosts: []string{"eu", "us"}})
	require.Nil(t, n.Host("mars"))
	require.Len(t, n.Hosts(), 2)
	require.Equal(t, "us", n.Host("us").Name())
	out, err := n.Host("us").Command(t.Context(), "ip", "-o", "addr", "show", "dev", Device).Output()
	require.NoError(t, err)
	require.Contains(t, string(out), n.Host("us").Addr().String()+"/16")
	require.NotContains(t, string(out), "inet6")

	ctx, cancel := context.WithCancel(t.Context())
	canceled := n.Host("us").Command(ctx, "sh", "-c", "sleep 1000 & wait")
	require.NoError(t, canceled.Start())
	cancel()
	require.Error(t, canceled.Wait())

	left := n.Host("eu").Command(t.Context(), "sleep", "1000")
	require.NoError(t, left.Start())
	ended := make(chan error, 1)
	go func() { ended <- left.Wait() }()
	require.NoError(t, n.Close())
	require.Error(t, <-ended)
	_, err = os.Stat(n.Host("eu").path())
	require.ErrorIs(t, err, os.ErrNotExist)
	require.Error(t, n.Host("eu").Do(func() error { return nil }))
	require.NoError(t, n.Close())
}

// TCP from inside to inside, as an http.Transport would dial.
func TestDialContext(t *testing.T) {
	link := testnet.Link{Delay: 20 * time.Millisecond}
	n := up(t, Topology{Hosts: []string{"eu", "us"}, Links: []Pair{Both("eu", "us", link)}})
	ln, err := n.Host("us").ListenTCP(0)
	require.NoError(t, err)
	defer func() { _ = ln.Close() }()
	go func() {
		c, err := ln.Accept()
		if err == nil {
			_, _ = io.WriteString(c, "hello\n")
			_ = c.Close()
		}
	}()
	start := time.Now()
	c, err := n.Host("eu").DialContext(t.Context(), "tcp", ln.Addr().String())
	require.NoError(t, err)
	defer func() { _ = c.Close() }()
	require.GreaterOrEqual(t, time.Since(start), 2*link.Delay)
	line, err := bufio.NewReader(c).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "hello\n", line)
	_, err = n.Host("eu").DialContext(t.Context(), "tcp", "localhost:80")
	require.Error(t, err)
}

func TestBlockPartitionHeal(t *testing.T) {
	const delay = 100 * time.Millisecond
	n := up(t, Topology{Hosts: []string{"a", "b", "c"}, Default: testnet.Link{Delay: delay}})
	c := sockets(t, n, "a", "b", "c")
	send := func(from, to int, word string) {
		_, err := c[from].WriteTo([]byte(word), c[to].LocalAddr())
		require.NoError(t, err)
	}
	read := func(at int) string {
		b := make([]byte, 100)
		require.NoError(t, c[at].SetReadDeadline(time.Now().Add(10*time.Second)))
		k, err := c[at].Read(b)
		require.NoError(t, err)
		return string(b[:k])
	}
	blocked := func(from, to string, want uint64) {
		require.Eventually(t, func() bool { return n.Stats(from, to).Blocked == want }, 10*time.Second, 5*time.Millisecond)
	}
	require.NoError(t, n.Block("a", "b"))
	send(0, 1, "lost")
	blocked("a", "b", 1)
	send(1, 0, "the other direction")
	require.Equal(t, "the other direction", read(0))
	require.NoError(t, n.Unblock("a", "b"))
	send(0, 1, "one")
	require.Equal(t, "one", read(1))

	require.NoError(t, n.Set("a", "b", testnet.Link{Delay: 2 * time.Second}))
	send(0, 1, "in flight")
	send(0, 2, "behind it")
	require.Equal(t, "behind it", read(2)) // so the router has the other one, too
	require.NoError(t, n.Partition([]string{"a"}, []string{"b", "c"}))
	send(0, 2, "lost")
	blocked("a", "c", 1)
	blocked("a", "b", 2) // counted when it would have arrived
	send(1, 2, "same side")
	require.Equal(t, "same side", read(2))
	n.Heal()
	require.NoError(t, n.SetPair("a", "c", testnet.Link{}))
	send(0, 2, "healed")
	require.Equal(t, "healed", read(2))
	require.Equal(t, testnet.Stats{Passed: 2, Blocked: 1}, n.Stats("a", "c"))

	require.Error(t, n.Partition([]string{"mars"}))
	require.Error(t, n.Block("mars", "a"))
	require.Error(t, n.Unblock("a", "mars"))
	require.Error(t, n.Set("a", "b", testnet.Link{Loss: 2}))
	_, err := c[0].WriteTo([]byte("x"), &net.UDPAddr{IP: net.IPv4(10, 77, 5, 5), Port: 1})
	require.NoError(t, err)
	require.Eventually(t, func() bool { return n.Unrouted() > 0 }, 10*time.Second, 5*time.Millisecond)
}

// A run that is killed leaves namespaces and processes; the next one removes them, and them alone.
func TestSweep(t *testing.T) {
	if os.Getenv("MERIDIAN_WAN_CRASH") == "1" {
		n, err := Up(Topology{Hosts: []string{"left"}})
		require.NoError(t, err)
		orphan := n.Host("left").Command(context.Background(), "sh", "-c", "sleep 1000 & echo $!; wait")
		orphan.Stdout = os.Stdout
		require.NoError(t, orphan.Start())
		_, _ = os.Stdout.WriteString(n.Host("left").Namespace() + "\n")
		select {} // until killed
	}
	mine := up(t, Topology{Hosts: []string{"mine"}})
	crash := exec.Command(os.Args[0], "-test.run=^TestSweep$")
	crash.Env = append(os.Environ(), "MERIDIAN_WAN_CRASH=1")
	out, err := crash.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, crash.Start())
	var namespace, pid string
	for lines := bufio.NewScanner(out); (namespace == "" || pid == "") && lines.Scan(); {
		if strings.HasPrefix(lines.Text(), namePrefix) {
			namespace = lines.Text()
		} else {
			pid = lines.Text()
		}
	}
	require.NotEmpty(t, pid)
	require.NoError(t, Sweep())
	_, err = os.Stat(netnsDir + "/" + namespace)
	require.NoError(t, err, "its owner lives")
	require.NoError(t, crash.Process.Signal(syscall.SIGKILL))
	_ = crash.Wait()
	require.NoError(t, Sweep())
	_, err = os.Stat(netnsDir + "/" + namespace)
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = os.Stat("/proc/" + pid + "/cmdline")
	if err == nil { // a zombie until its reaper comes
		line, _ := os.ReadFile("/proc/" + pid + "/cmdline")
		require.Empty(t, line)
	}
	_, err = os.Stat(mine.Host("mine").path())
	require.NoError(t, err)
}

func TestStale(t *testing.T) {
	own := ownPrefix(1) + "host"
	for name, want := range map[string]bool{
		own: false, "mwan.99999999.5.1.x": true, strings.Replace(own, ".1.host", "9.1.host", 1): true,
		"other": false, "mwan.x.1.1.h": false, "mwan.1.1": false, "mwan.0.1.1.h": false,
	} {
		require.Equal(t, want && startTime(os.Getpid()) != "", stale(name), name)
	}
}
