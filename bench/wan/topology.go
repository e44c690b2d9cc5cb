package wan

import (
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/meridian-sfu/meridian/internal/testnet"
)

// MaxHosts is how many hosts a Topology may have.
const MaxHosts = 250

// Topology is what Up makes.
type Topology struct {
	Hosts   []string      // names: 1 to 32 letters, digits and dashes, each once
	Links   []Pair        // between hosts, each pair once
	Default testnet.Link  // both ways between hosts that no Pair names
	Tick    time.Duration // how often the router works at most, 100 µs to 100 ms; 0 stands for DefaultTick
	MTU     int           // bytes of an IP packet, 576 to 2000; 0 stands for 1500
	Seed    uint64        // of losses and jitter
}

// Pair is the way between two hosts: There from A to B, Back from B to A.
type Pair struct {
	A, B        string
	There, Back testnet.Link
}

// DefaultTick is a compromise: the router's floor under traffic is a wake-up per tick, a packet's error up to two ticks.
const DefaultTick = time.Millisecond

// Both makes a Pair with the same link both ways.
func Both(a, b string, l testnet.Link) Pair { return Pair{A: a, B: b, There: l, Back: l} }

var hostName = regexp.MustCompile(`^[A-Za-z0-9-]{1,32}$`)

// Validate returns all problems of t, joined.
func (t Topology) Validate() error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf("wan: "+format, args...)) }
	if len(t.Hosts) == 0 || len(t.Hosts) > MaxHosts {
		fail("%d hosts: want 1 to %d", len(t.Hosts), MaxHosts)
	}
	known := make(map[string]bool)
	for _, h := range t.Hosts {
		if !hostName.MatchString(h) {
			fail("host %q: a name is 1 to 32 letters, digits and dashes", h)
		}
		if known[h] {
			fail("host %q: named twice", h)
		}
		known[h] = true
	}
	seen := make(map[[2]string]bool)
	for _, p := range t.Links {
		switch {
		case !known[p.A] || !known[p.B] || p.A == p.B:
			fail("link %q–%q: not two hosts of this topology", p.A, p.B)
		case seen[[2]string{p.A, p.B}]:
			fail("link %q–%q: named twice", p.A, p.B)
		}
		seen[[2]string{p.A, p.B}], seen[[2]string{p.B, p.A}] = true, true
		errs = append(errs, p.There.Validate(), p.Back.Validate())
	}
	errs = append(errs, t.Default.Validate())
	if t.Tick != 0 && (t.Tick < 100*time.Microsecond || t.Tick > 100*time.Millisecond) {
		fail("tick %v: want 100 µs to 100 ms", t.Tick)
	}
	if t.MTU != 0 && (t.MTU < 576 || t.MTU > maxPacket) {
		fail("MTU %d: want 576 to %d", t.MTU, maxPacket)
	}
	return errors.Join(errs...)
}
