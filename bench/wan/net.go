package wan

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/meridian-sfu/meridian/internal/testnet"
)

// Net is a running network. All methods may be called concurrently.
type Net struct {
	hosts  []*Host
	index  map[string]int
	router *router
	end    context.CancelFunc // of the hosts' life
	once   sync.Once
	closed error // of Close
}

var runs atomic.Uint64 // networks of this process, for their names

// Up makes the network of t and starts its router. It removes what crashed runs left first. The error says what t
// lacks (Validate), what this machine lacks (Available), or which command failed; nothing is left behind then.
func Up(t Topology) (*Net, error) {
	if err := t.Validate(); err != nil {
		return nil, err
	}
	if err := Available(); err != nil {
		return nil, err
	}
	if err := Sweep(); err != nil {
		return nil, err
	}
	if t.MTU == 0 {
		t.MTU = 1500
	}
	if t.Tick == 0 {
		t.Tick = DefaultTick
	}
	n := &Net{index: make(map[string]int)}
	life, end := context.WithCancel(context.Background())
	n.end = end
	prefix := ownPrefix(runs.Add(1))
	var devices []int
	for i, name := range t.Hosts {
		h := &Host{name: name, namespace: prefix + name, addr: netip.AddrFrom4(hostAddr(i)), life: life}
		n.hosts = append(n.hosts, h)
		n.index[name] = i
		fd, err := h.make(t.MTU)
		if fd >= 0 {
			devices = append(devices, fd)
		}
		if err != nil {
			for _, fd := range devices {
				_ = closeDevice(fd)
			}
			return nil, errors.Join(err, n.remove())
		}
	}
	r, err := newRouter(devices, t.Tick, func(from, to int) *testnet.Shaper {
		return testnet.NewShaper(t.Default, t.Seed, uint64(from)<<32|uint64(to)) // #nosec G115 -- small and positive
	})
	if err != nil {
		return nil, errors.Join(err, n.remove())
	}
	n.router = r
	for _, p := range t.Links {
		_ = n.Set(p.A, p.B, p.There) // both were validated
		_ = n.Set(p.B, p.A, p.Back)
	}
	return n, nil
}

// Host returns the host of that name, nil when there is none.
func (n *Net) Host(name string) *Host {
	if i, ok := n.index[name]; ok {
		return n.hosts[i]
	}
	return nil
}

// Hosts returns all hosts in the order of the Topology.
func (n *Net) Hosts() []*Host { return slices.Clone(n.hosts) }

// Set makes l the link from one host to another, in this direction only. Packets in flight keep their time. The error
// is that of l.Validate or names an unknown host; nothing changes then.
func (n *Net) Set(from, to string, l testnet.Link) error {
	if err := l.Validate(); err != nil {
		return err
	}
	return n.with(from, to, func(p *path) { p.shaper.Set(l) })
}

// SetPair is Set in both directions.
func (n *Net) SetPair(a, b string, l testnet.Link) error {
	return errors.Join(n.Set(a, b, l), n.Set(b, a, l))
}

// Block drops all packets from one host to another, in this direction only, also those in flight.
func (n *Net) Block(from, to string) error {
	return n.with(from, to, func(p *path) { p.blocked = true })
}

// Unblock ends Block.
func (n *Net) Unblock(from, to string) error {
	return n.with(from, to, func(p *path) { p.blocked = false })
}

// Partition splits the network: packets, also those in flight, pass only between hosts of one group. Hosts named in
// no group form one more. It replaces an earlier Partition.
func (n *Net) Partition(groups ...[]string) error {
	side := make([]int, len(n.hosts))
	for g, names := range groups {
		for _, name := range names {
			i, ok := n.index[name]
			if !ok {
				return fmt.Errorf("wan: no host %q", name)
			}
			side[i] = g + 1
		}
	}
	n.router.each(func(from, to int, p *path) { p.cut = side[from] != side[to] })
	return nil
}

// Heal ends every Partition and Block.
func (n *Net) Heal() {
	n.router.each(func(_, _ int, p *path) { p.cut, p.blocked = false, false })
}

// Stats counts packets sent so far from one host to another, in this direction only.
func (n *Net) Stats(from, to string) (s testnet.Stats) {
	_ = n.with(from, to, func(p *path) { s = p.stats })
	return s
}

// Unrouted counts packets to addresses that are no host's, IPv6 and multicast.
func (n *Net) Unrouted() uint64 { return n.router.unrouted.Load() }

// CPU is what the router's thread used so far, with the kernel's work for its reads and writes: the writes include
// the receiving host's protocol stack up to the socket.
func (n *Net) CPU() time.Duration { return time.Duration(n.router.cpu.Load()) }

// Close kills what still runs in the hosts, ends the router and removes the hosts. It is idempotent.
func (n *Net) Close() error {
	n.once.Do(func() {
		n.end()
		for _, h := range n.hosts {
			killInside(h.namespace)
		}
		n.router.close()
		n.closed = n.remove()
	})
	return n.closed
}

// remove deletes the namespaces of all hosts made so far.
func (n *Net) remove() error {
	n.end()
	var errs []error
	for _, h := range n.hosts {
		if _, err := os.Stat(h.path()); err == nil {
			errs = append(errs, run(context.Background(), "netns", "del", h.namespace))
		}
	}
	return errors.Join(errs...)
}

func (n *Net) with(from, to string, f func(*path)) error {
	i, ok := n.index[from]
	if !ok {
		return fmt.Errorf("wan: no host %q", from)
	}
	j, ok := n.index[to]
	if !ok {
		return fmt.Errorf("wan: no host %q", to)
	}
	n.router.mu.Lock()
	defer n.router.mu.Unlock()
	f(n.router.path(i, j))
	return nil
}
