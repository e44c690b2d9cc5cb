package soak

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/meridian-sfu/meridian/cascade"
	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/meshnet"
	"github.com/meridian-sfu/meridian/internal/rtpstream"
	"github.com/meridian-sfu/meridian/internal/testnet"
)

const room mesh.RoomName = "soak"

// node is one of the three.
type node struct {
	id      mesh.NodeID
	wan     *testnet.DelayConn
	meshnet *meshnet.Network
	cascade *cascade.Cascade
	addr    netip.AddrPort

	mu      sync.Mutex
	sources map[mesh.SourceID]*rtpstream.Source // guarded by mu; what it gives to others
}

// startNodes makes the nodes and a path between any two; ctx ends all of it, and wg waits for that.
func startNodes(ctx context.Context, cfg Config, ids []mesh.NodeID, log *slog.Logger, wg *sync.WaitGroup) ([]*node, error) {
	ca, err := meshnet.NewCA("soak", 24*time.Hour)
	if err != nil {
		return nil, err
	}
	nodes := make([]*node, len(ids))
	resolve := func(id mesh.NodeID) (netip.AddrPort, bool) {
		for _, n := range nodes {
			if n != nil && n.id == id {
				return n.addr, true
			}
		}
		return netip.AddrPort{}, false
	}
	for i, id := range ids {
		if nodes[i], err = newNode(ca, id, cfg.Seed+uint64(i), resolve, log); err != nil {
			closeAll(nodes)
			return nil, err
		}
	}
	for _, n := range nodes {
		if err := n.paths(nodes, cfg, 0); err != nil {
			closeAll(nodes)
			return nil, err
		}
	}
	for _, n := range nodes {
		wg.Go(func() { _ = n.meshnet.Run(ctx) }) // it ends with ctx, without an error
		wg.Go(func() { _ = n.cascade.Run(ctx) })
	}
	return nodes, nil
}

func closeAll(nodes []*node) {
	for _, n := range nodes {
		if n != nil {
			_ = n.meshnet.Close() // never ran
		}
	}
}

func newNode(ca *meshnet.CA, id mesh.NodeID, seed uint64, resolve func(mesh.NodeID) (netip.AddrPort, bool), log *slog.Logger) (*node, error) {
	cert, key, err := ca.Issue(id, 24*time.Hour)
	if err != nil {
		return nil, err
	}
	identity, err := meshnet.NewIdentity(ca.CertPEM(), cert, key)
	if err != nil {
		return nil, err
	}
	udp, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, fmt.Errorf("soak: %w", err)
	}
	n := &node{id: id, wan: testnet.NewDelayConn(udp, seed), sources: make(map[mesh.SourceID]*rtpstream.Source)}
	if n.meshnet, err = meshnet.New(meshnet.DefaultConfig(), identity, n.wan, log, nil); err != nil {
		_ = n.wan.Close()
		return nil, err
	}
	n.addr = n.meshnet.LocalAddr()
	n.meshnet.SetResolver(resolve)
	n.cascade, err = cascade.New(cascade.DefaultConfig(), cascade.Deps{
		Net: cascade.Over(n.meshnet), Resolve: resolve,
		Local: func(_ mesh.NodeID, _ mesh.RoomName, id mesh.SourceID) (*rtpstream.Source, bool) {
			n.mu.Lock()
			defer n.mu.Unlock()
			s, ok := n.sources[id]
			return s, ok
		},
	}, log, nil)
	if err != nil {
		_ = n.meshnet.Close()
		return nil, err
	}
	return n, nil
}

// paths sets what is lost on the way to every other node.
func (n *node) paths(nodes []*node, cfg Config, loss float64) error {
	for _, o := range nodes {
		if o == n {
			continue
		}
		if err := n.wan.Set(o.addr, testnet.Link{Delay: cfg.RTT / 2, Jitter: cfg.RTT / 20, Loss: loss, Burst: 2}); err != nil {
			return err
		}
	}
	return nil
}

// offer gives a source to who asks; nil takes it away.
func (n *node) offer(id mesh.SourceID, s *rtpstream.Source) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if s == nil {
		delete(n.sources, id)
		return
	}
	n.sources[id] = s
}
