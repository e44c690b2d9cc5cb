package ownership

import (
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/meshpb/ownershippb"
)

// groupInfo is what is known of the Raft group, by Raft itself on a voter and by a voter's word on a watcher.
type groupInfo struct {
	leader mesh.NodeID
	term   uint64
	voters []mesh.NodeID // sorted
	heard  time.Time     // when a voter said so; zero on a voter
}

// silence is how long a node or a leader may say nothing before another is asked.
func (o *Ownership) silence() time.Duration { return 6 * o.cfg.StatusInterval }

// votersOf returns the voters of Raft's latest configuration, sorted. It does not block.
func votersOf(r *raft.Raft) []mesh.NodeID {
	var ids []mesh.NodeID
	for _, s := range r.GetConfiguration().Configuration().Servers {
		if s.Suffrage == raft.Voter {
			ids = append(ids, mesh.NodeID(s.ID))
		}
	}
	slices.Sort(ids)
	return ids
}

// own returns what this node's Raft knows; ok says that it votes and knows a leader.
func (o *Ownership) own(r *raft.Raft) (g groupInfo, ok bool) {
	_, leader := r.LeaderWithID()
	g = groupInfo{leader: mesh.NodeID(leader), term: r.CurrentTerm(), voters: votersOf(r)}
	return g, leader != "" && slices.Contains(g.voters, o.self)
}

// group returns the best this node knows. A voter that lost its leader still knows the voters.
func (o *Ownership) group(r *raft.Raft) groupInfo {
	g, ok := o.own(r)
	if ok {
		return g
	}
	o.mu.Lock()
	remote := o.remote
	o.mu.Unlock()
	if time.Since(remote.heard) > o.silence() {
		remote.leader = ""
	}
	if len(remote.voters) == 0 {
		g.leader = ""
		return g
	}
	return remote
}

// groupProto is what this node tells others of the group.
func (o *Ownership) groupProto(r *raft.Raft) *ownershippb.Group {
	g := o.group(r)
	o.mu.Lock()
	waiting := o.waiting
	o.mu.Unlock()
	return &ownershippb.Group{
		ClusterId: o.clusterID(), Leader: string(g.leader), Term: g.term, Voters: idStrings(g.voters),
		Index: o.fsm.index(), LastLogIndex: r.LastIndex(), WouldBootstrap: waiting,
	}
}

// Status returns what this node knows of the group.
func (o *Ownership) Status() Status {
	entries, index := o.view.size()
	s := Status{Role: RoleWatcher, ClusterID: o.clusterID(), Entries: entries, Applied: index}
	r, _, err := o.running()
	if err != nil {
		return s
	}
	g := o.group(r)
	s.Leader, s.Ready, s.Term, s.Voters = g.leader, g.leader != "", g.term, slices.Clone(g.voters)
	switch _, votes := o.own(r); {
	case r.State() == raft.Leader:
		s.Role = RoleLeader
	case votes:
		s.Role = RoleFollower
	}
	return s
}

// observe brings the metrics up to date and logs a change of leader.
func (o *Ownership) observe() {
	s := o.Status()
	o.m.leader.Set(boolGauge(s.Role == RoleLeader))
	o.m.ready.Set(boolGauge(s.Ready))
	o.m.term.Set(float64(s.Term))
	o.m.voters.Set(float64(len(s.Voters)))
	o.m.entries.Set(float64(s.Entries))
	o.mu.Lock()
	changed := o.lastLead != s.Leader
	o.lastLead = s.Leader
	o.mu.Unlock()
	switch {
	case changed && s.Leader == "":
		o.log.Warn("leader lost")
	case changed:
		o.log.Info("leader known", "node", s.Leader, "role", s.Role, "term", s.Term)
	}
}

func boolGauge(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func idStrings(ids []mesh.NodeID) []string {
	out := make([]string, len(ids))
	for i, id := range ids {
		out[i] = string(id)
	}
	return out
}

// idsFromStrings keeps what may be a node ID, at most limit of them.
func idsFromStrings(in []string, limit int) []mesh.NodeID {
	var out []mesh.NodeID
	for _, s := range in {
		if id, err := mesh.ParseNodeID(s); err == nil && len(out) < limit {
			out = append(out, id)
		}
	}
	return out
}

// groupFromProto reads what another node said of the group.
func groupFromProto(m *ownershippb.Group) groupInfo {
	g := groupInfo{term: m.GetTerm(), voters: idsFromStrings(m.GetVoters(), 2*maxVoters)}
	slices.Sort(g.voters)
	if id, err := mesh.ParseNodeID(m.GetLeader()); err == nil {
		g.leader = id
	}
	return g
}
