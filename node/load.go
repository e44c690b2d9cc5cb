package node

import (
	"runtime"
	"syscall"
	"time"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

// maxWatchedVoters bounds the links held for the ownership group.
const maxWatchedVoters = 8

// watchVoters keeps a link to the voters of the ownership group, so that the loss of an owner or leader is noticed at the
// speed of links, not of gossip.
func (n *Node) watchVoters() {
	want := map[mesh.NodeID]bool{}
	for _, id := range n.ownership.Status().Voters {
		if _, member := n.gossip.Lookup(id); member && id != n.cfg.ID && len(want) < maxWatchedVoters {
			want[id] = true
		}
	}
	for id, release := range n.watched {
		if !want[id] {
			release()
			delete(n.watched, id)
		}
	}
	for id := range want {
		if n.watched[id] == nil {
			n.watched[id] = n.cascade.Keep(id)
		}
	}
}

// tellLoad puts how busy this node is into gossip.
func (n *Node) tellLoad(cpu float64) {
	participants := n.participants()
	n.gossip.UpdateSelf(func(self *mesh.NodeInfo) {
		// Small changes are not worth a round of gossip.
		if d := cpu - self.Load.CPU; d > 0.05 || d < -0.05 {
			self.Load.CPU = cpu
		}
		self.Load.Participants = uint32(participants)
		if e := n.rates.total(); e > self.Load.EgressBitrate+self.Load.EgressBitrate/10 || e < self.Load.EgressBitrate-self.Load.EgressBitrate/10 {
			self.Load.EgressBitrate = e
		}
	})
}

func (n *Node) participants() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	total := 0
	for _, r := range n.rooms {
		total += r.users
	}
	return total
}

// cpuMeter measures the share of all cores this process uses between two looks.
type cpuMeter struct {
	at   time.Time
	used time.Duration
}

func newCPUMeter() *cpuMeter { return &cpuMeter{time.Now(), cpuTime()} }

func (m *cpuMeter) share() float64 {
	now, used := time.Now(), cpuTime()
	elapsed := now.Sub(m.at)
	share := float64(used-m.used) / float64(elapsed) / float64(runtime.GOMAXPROCS(0))
	m.at, m.used = now, used
	return min(max(share, 0), 1)
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
