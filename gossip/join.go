package gossip

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

const (
	lookupTimeout  = 3 * time.Second
	maxSeedAddrs   = 64 // addresses of one DNS name that are tried
	aloneCheckTime = time.Second
)

// join finds the mesh: by any seed while alone, with back-off; and by lost members and seeds now and then, so that the
// halves of a healed partition find each other again.
func (g *Gossip) join(ctx context.Context, m *memberlist.Memberlist) {
	p := profiles[g.cfg.Profile]
	backoff := p.retryMin
	timer := time.NewTimer(0)
	defer timer.Stop()
	var reconnected time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		wait := min(aloneCheckTime, p.reconnect)
		switch alone := g.count() == 1; {
		case alone && !g.attempt(ctx, m, g.candidates(ctx)) && g.count() == 1:
			wait = backoff/2 + rand.N(backoff) // jitter: a fleet that starts at once must not knock in step
			backoff = min(2*backoff, p.retryMax)
		case alone:
			backoff = p.retryMin
		case time.Since(reconnected) >= p.reconnect:
			g.attempt(ctx, m, g.candidates(ctx))
			reconnected = time.Now()
		}
		timer.Reset(wait)
	}
}

// attempt joins by the first address that answers. It returns true if one did, or none is known.
func (g *Gossip) attempt(ctx context.Context, m *memberlist.Memberlist, addrs []netip.AddrPort) bool {
	var last error
	for _, a := range addrs {
		if ctx.Err() != nil {
			return false
		}
		if _, err := m.Join([]string{a.String()}); err != nil {
			g.metrics.joins.WithLabelValues("error").Inc()
			last = err
			continue
		}
		g.metrics.joins.WithLabelValues("ok").Inc()
		g.noteJoin(nil)
		return true
	}
	if last != nil {
		g.noteJoin(last)
		return false
	}
	return true
}

// noteJoin keeps why joining failed for Status, and logs it when it changes.
func (g *Gossip) noteJoin(err error) {
	var text string
	if err != nil {
		text = err.Error()
	}
	old := g.lastErr.Swap(&text)
	if err != nil && (old == nil || *old != text) && g.count() == 1 {
		g.log.Warn("no node of the mesh answers, trying on", "err", err)
	}
}

// candidates returns addresses to join by that are neither this node's nor a live member's: one lost member, then all
// seeds, in random order.
func (g *Gossip) candidates(ctx context.Context) []netip.AddrPort {
	known := map[netip.AddrPort]bool{g.self.Load().MeshAddr: true}
	for _, n := range g.Members() {
		known[n.MeshAddr] = true
	}
	var out []netip.AddrPort
	add := func(a netip.AddrPort) {
		if !known[a] {
			known[a] = true
			out = append(out, a)
		}
	}
	if a, ok := g.someLost(); ok {
		add(a)
	}
	lost := len(out)
	for _, s := range g.cfg.Seeds {
		for _, a := range g.lookup(ctx, s) {
			add(a)
		}
	}
	seeds := out[lost:]
	rand.Shuffle(len(seeds), func(i, j int) { seeds[i], seeds[j] = seeds[j], seeds[i] })
	return out
}

// someLost returns one lost member at random, forgetting those lost for too long.
func (g *Gossip) someLost() (netip.AddrPort, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	var ids []mesh.NodeID
	for id, l := range g.lost {
		if time.Since(l.since) > lostFor {
			delete(g.lost, id)
			continue
		}
		ids = append(ids, id)
	}
	if len(ids) == 0 {
		return netip.AddrPort{}, false
	}
	return g.lost[ids[rand.IntN(len(ids))]].addr, true
}

// lookup resolves one seed; a name that does not resolve now is tried again the next time.
func (g *Gossip) lookup(ctx context.Context, seed string) []netip.AddrPort {
	if a, err := netip.ParseAddrPort(seed); err == nil {
		return []netip.AddrPort{netip.AddrPortFrom(a.Addr().Unmap(), a.Port())}
	}
	host, port, err := net.SplitHostPort(seed)
	if err != nil {
		return nil // Validate has refused it
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		g.noteJoin(fmt.Errorf("gossip: seed %s: %w", seed, err))
		return nil
	}
	out := make([]netip.AddrPort, 0, len(ips))
	for _, ip := range ips[:min(len(ips), maxSeedAddrs)] {
		out = append(out, netip.AddrPortFrom(ip.Unmap(), uint16(n)))
	}
	return out
}
