package gossip

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/hashicorp/memberlist"
	"google.golang.org/protobuf/proto"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/meshpb/gossippb"
)

const (
	noticeVersion  = 1
	maxNoticeBytes = 128
	noticeValid    = 30 * time.Second // between a goodbye and the going
	maxLost        = 256
	lostFor        = 24 * time.Hour
)

// lostMember is a member that stopped answering: it may be gone, or on the other side of a partition.
type lostMember struct {
	addr  netip.AddrPort
	since time.Time
}

// delegate is what memberlist calls. It calls most of it under its own lock: these methods only note and return.
type delegate struct{ g *Gossip }

var (
	_ memberlist.Delegate         = delegate{}
	_ memberlist.EventDelegate    = delegate{}
	_ memberlist.AliveDelegate    = delegate{}
	_ memberlist.ConflictDelegate = delegate{}
)

// NodeMeta implements memberlist.Delegate.
func (d delegate) NodeMeta(limit int) []byte {
	b, err := encodeMeta(*d.g.self.Load())
	if err != nil || len(b) > limit {
		return nil // self is checked before it is stored
	}
	return b
}

// NotifyMsg implements memberlist.Delegate: the only user message is a goodbye.
func (d delegate) NotifyMsg(b []byte) {
	id, err := decodeNotice(b)
	if err != nil {
		d.g.log.Debug("gossip notice refused", "err", err)
		return
	}
	if d.g.noteLeaving(id) {
		d.g.notices.QueueBroadcast(notice{id})
	}
}

// GetBroadcasts implements memberlist.Delegate.
func (d delegate) GetBroadcasts(overhead, limit int) [][]byte {
	return d.g.notices.GetBroadcasts(overhead, limit)
}

// LocalState implements memberlist.Delegate.
func (delegate) LocalState(bool) []byte { return nil }

// MergeRemoteState implements memberlist.Delegate.
func (delegate) MergeRemoteState([]byte, bool) {}

// NotifyAlive implements memberlist.AliveDelegate: it refuses who does not speak for itself, or not our language.
func (d delegate) NotifyAlive(n *memberlist.Node) error {
	if _, err := memberInfo(n); err != nil {
		d.g.metrics.refused.Inc()
		return err
	}
	return nil
}

// NotifyJoin implements memberlist.EventDelegate.
func (d delegate) NotifyJoin(n *memberlist.Node) { d.g.put(n, Joined) }

// NotifyUpdate implements memberlist.EventDelegate.
func (d delegate) NotifyUpdate(n *memberlist.Node) { d.g.put(n, Updated) }

// NotifyLeave implements memberlist.EventDelegate.
func (d delegate) NotifyLeave(n *memberlist.Node) { d.g.remove(mesh.NodeID(n.Name)) }

// NotifyConflict implements memberlist.ConflictDelegate.
func (d delegate) NotifyConflict(existing, other *memberlist.Node) {
	d.g.metrics.conflicts.Inc()
	at := memberAddr(other.Addr, other.Port)
	if mesh.NodeID(existing.Name) == d.g.self.Load().ID {
		d.g.suspectTwin(at)
		return
	}
	d.g.log.Warn("two addresses claim one node ID", "node", existing.Name,
		"addr", memberAddr(existing.Addr, existing.Port), "other", at)
}

// memberInfo checks and unpacks what a member says of itself.
func memberInfo(n *memberlist.Node) (mesh.NodeInfo, error) {
	info, err := decodeMeta(n.Meta)
	if err != nil {
		return info, err
	}
	if string(info.ID) != n.Name {
		return info, fmt.Errorf("%w: %s speaks for %s", ErrMetadata, n.Name, info.ID)
	}
	info.MeshAddr = memberAddr(n.Addr, n.Port)
	if !info.MeshAddr.IsValid() || info.MeshAddr.Addr().IsUnspecified() || info.MeshAddr.Port() == 0 {
		return info, fmt.Errorf("%w: %s has no address others can reach: %s", ErrMetadata, n.Name, info.MeshAddr)
	}
	return info, nil
}

func (g *Gossip) put(n *memberlist.Node, t EventType) {
	info, err := memberInfo(n)
	if err != nil || info.ID == g.self.Load().ID {
		return // refused before, by NotifyAlive
	}
	g.mu.Lock()
	old, known := g.members[info.ID]
	g.members[info.ID] = info
	delete(g.lost, info.ID)
	delete(g.leaving, info.ID)
	g.mu.Unlock()
	if known {
		g.metrics.members.WithLabelValues(string(old.Region)).Dec()
	}
	g.metrics.members.WithLabelValues(string(info.Region)).Inc()
	g.emit(t, info)
}

func (g *Gossip) remove(id mesh.NodeID) {
	now := time.Now()
	g.mu.Lock()
	info, known := g.members[id]
	said, left := g.leaving[id]
	left = left && now.Sub(said) < noticeValid
	delete(g.members, id)
	delete(g.leaving, id)
	if known && !left {
		if len(g.lost) >= maxLost {
			g.forgetOldestLocked()
		}
		g.lost[id] = lostMember{info.MeshAddr, now}
	}
	g.mu.Unlock()
	if !known {
		return
	}
	g.coords.forget(id)
	g.metrics.members.WithLabelValues(string(info.Region)).Dec()
	if left {
		g.emit(Left, info)
		return
	}
	g.emit(Failed, info)
}

func (g *Gossip) emit(t EventType, info mesh.NodeInfo) {
	g.metrics.events.WithLabelValues(t.String()).Inc()
	if t != Updated {
		g.log.Info("mesh member "+t.String(), "node", info.ID, "region", info.Region, "addr", info.MeshAddr)
	}
	g.events.publish(Event{t, info})
}

func (g *Gossip) forgetOldestLocked() {
	var oldest mesh.NodeID
	for id, l := range g.lost {
		if oldest == "" || l.since.Before(g.lost[oldest].since) {
			oldest = id
		}
	}
	delete(g.lost, oldest)
}

// noteLeaving remembers a goodbye; false if it is none of a member, or known already.
func (g *Gossip) noteLeaving(id mesh.NodeID) bool {
	now := time.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, member := g.members[id]; !member {
		return false
	}
	if said, known := g.leaving[id]; known && now.Sub(said) < noticeValid {
		return false
	}
	g.leaving[id] = now // at most one per member
	return true
}

// notice is a goodbye on its way to everyone.
type notice struct{ id mesh.NodeID }

var _ memberlist.NamedBroadcast = notice{}

// Name implements memberlist.NamedBroadcast.
func (n notice) Name() string { return string(n.id) }

// Invalidates implements memberlist.Broadcast.
func (n notice) Invalidates(memberlist.Broadcast) bool { return false }

// Message implements memberlist.Broadcast.
func (n notice) Message() []byte {
	b, err := proto.Marshal(&gossippb.Notice{Version: noticeVersion, LeavingNodeId: string(n.id)})
	if err != nil {
		return nil // a node ID always encodes
	}
	return b
}

// Finished implements memberlist.Broadcast.
func (notice) Finished() {}

func decodeNotice(b []byte) (mesh.NodeID, error) {
	if len(b) > maxNoticeBytes {
		return "", fmt.Errorf("gossip: notice of %d bytes, at most %d", len(b), maxNoticeBytes)
	}
	var m gossippb.Notice
	if err := proto.Unmarshal(b, &m); err != nil {
		return "", fmt.Errorf("gossip: notice: %w", err)
	}
	if m.Version == 0 {
		return "", fmt.Errorf("gossip: notice without version")
	}
	return mesh.ParseNodeID(m.LeavingNodeId)
}
