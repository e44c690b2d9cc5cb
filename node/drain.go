package node

import (
	"time"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/node/signal"
)

// This file is the story of a node that goes away on purpose: it takes no new clients, says so by gossip, sends those it has
// elsewhere, and leaves when they are gone or the deadline has passed.

// drain moves everybody away, for at most drainDeadline.
func (n *Node) drain() {
	n.draining.Store(true)
	n.gossip.UpdateSelf(func(self *mesh.NodeInfo) { self.Draining = true })
	rooms := n.allRooms()
	if len(rooms) == 0 {
		return
	}
	n.log.Info("draining", "rooms", len(rooms))
	for _, r := range rooms {
		r.post(func() {
			for _, s := range r.sessions {
				r.evict(s, signal.LeaveServerShutdown, signal.ActionReconnect)
			}
		})
	}
	deadline := time.Now().Add(drainDeadline)
	for len(n.allRooms()) > 0 && time.Now().Before(deadline) {
		time.Sleep(20 * time.Millisecond)
	}
}
