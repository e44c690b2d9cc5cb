package node

import (
	"sync"
	"time"

	"github.com/meridian-sfu/meridian/cascade"
	"github.com/meridian-sfu/meridian/internal/mesh"
)

// bitrates are how much goes each way, in bits per second.
type bitrates struct{ out, in uint64 }

// rateMeter turns growing byte counters into bit rates between two looks. It is safe for concurrent use.
type rateMeter struct {
	mu      sync.Mutex
	at      time.Time                // guarded by mu
	clients uint64                   // guarded by mu; bytes sent to clients
	bytes   map[mesh.NodeID]bitrates // guarded by mu; bytes on each link
	links   map[mesh.NodeID]bitrates // guarded by mu
	egress  uint64                   // guarded by mu; bits per second to clients and nodes
}

// look takes the counters as they are now.
func (m *rateMeter) look(now time.Time, clients uint64, links []cascade.LinkStatus) {
	m.mu.Lock()
	defer m.mu.Unlock()
	seconds := now.Sub(m.at).Seconds()
	perSecond := func(bytes, before uint64) uint64 {
		if bytes < before || seconds <= 0 {
			return 0 // the counter began anew
		}
		return uint64(float64(bytes-before) * 8 / seconds)
	}
	bytes, rates := map[mesh.NodeID]bitrates{}, map[mesh.NodeID]bitrates{}
	egress := perSecond(clients, m.clients)
	for _, l := range links {
		total := bitrates{l.Out.AudioBytes + l.Out.VideoBytes, l.In.AudioBytes + l.In.VideoBytes}
		bytes[l.Peer] = total
		before, seen := m.bytes[l.Peer]
		if !seen {
			continue
		}
		rates[l.Peer] = bitrates{perSecond(total.out, before.out), perSecond(total.in, before.in)}
		egress += rates[l.Peer].out
	}
	if m.at.IsZero() {
		egress = 0
	}
	m.at, m.clients, m.bytes, m.links, m.egress = now, clients, bytes, rates, egress
}

func (m *rateMeter) link(id mesh.NodeID) bitrates {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.links[id]
}

func (m *rateMeter) total() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.egress
}
