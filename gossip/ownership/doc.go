// Package ownership knows which node owns which room, by a Raft group that the mesh forms by itself.
//
//	Claim, Release, Reassign                              Lookup, Entries, Watch
//	       │ leader? else ask it (service "ownership")               ▲
//	       ▼                                                       view ◀── frames of a voter (watcher)
//	  proposals ─▶ Raft log ─▶ majority ─▶ fsm(table) ─▶ feed ───────┴──▶ frames to watchers (voter)
//
// The table maps a room to its owner and epoch. Epochs are drawn from one counter for all rooms, so an epoch is never
// given twice and a room's only grow, over releases too. The table is pure (state.go); commands carry their own time.
//
// # Who votes
//
// At most five nodes, chosen by the leader from the live members (voters.go); all others watch one of them. A node without
// state waits until gossip names a group; with Config.Bootstrap it starts one when none is named for BootstrapWait, and
// of several such nodes the one with the smallest ID. The group's ID is bound to the data folder before any state is
// written there and begins every Raft stream, so two groups never mix. When a mesh shows two groups, the one announced by
// fewer nodes loses (by as many: the greater ID): its nodes without state change sides, its others stop with
// ErrForeignCluster, because throwing a log away is an operator's decision.
//
// # Doors
//
// New, Run; Claim, Release, Reassign go to the leader and retry until their context ends; Lookup, Entries, Watch and Status
// read what this node knows and never block. Deps.Net is the mesh network (OverMeshnet).
//
// # Goroutines
//
//	dispatch     1  calls watchers; wakes on the view
//	sourceLoop   1  feeds the view, from fsm or from a voter's stream
//	clusterLoop  1  group ID, bootstrap, metrics; each StatusInterval
//	voterLoop    1  Raft configuration, on the leader; each VoterInterval
//	warmLoop     1  connections between voters; each VoterInterval, one more goroutine per voter while it dials
//	proposeLoop  1  reads proposals, writes the log
//	commitLoop   1  reads futures in log order, answers
//	serve        n  one per service stream, at most 2048; the network's goroutine
//	handle       n  one per accepted Raft connection, plus one per stream until its hello is read
//
// and Raft's own. All end with Run's context.
//
// # Units and limits
//
// 200 000 rooms; names as package mesh bounds them; requests 8 KiB, frames 128 KiB, a watcher 1024 changes behind gets the
// whole table again. Five voters 250 ms RTT apart, 1 % of packets lost, default timeouts, emulated: a lost leader is
// followed by another after 1.4 s (median) or 2.2 s (nine in ten; two candidates may split the votes), its rooms have new
// owners after 2.5 s and 3.4 s, and a living leader keeps its term.
//
// A command of a version this release does not know changes nothing, is counted and logged: a release that adds one must
// not send it before every voter knows it. A group that lost a majority of its voters' folders for good is not
// recovered: the nodes are stopped and one is started with Bootstrap. A voter that lost its folder must return under a new ID.
//
// # References
//
// Ongaro, Consensus: Bridging Theory and Practice (2014): §4 membership, §6.4 clients, §9.6 pre-vote. hashicorp/raft v1.8.
package ownership
