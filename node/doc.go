// Package node is the hall: it builds every room of the house, introduces them to each other, and runs and stops them in
// order. It is the only package that knows more than one room.
//
//	clients ─ws─▶ signal ─▶ session ─┬─▶ sfm endpoint ─▶ rtpstream.Source ─▶ senders
//	                 ▲               │                        ▲   │
//	                 │               ▼                        │   ▼
//	            room (effects) ◀─ roomLoop ─▶ directory     cascade ─QUIC─▶ other nodes
//	                                             │
//	                              ownership ◀────┘   gossip: who is there
//
// Three stories are worth reading: join.go (a client comes in), relay.go (a source comes from another node), drain.go (the
// node goes away without hurting anyone).
//
// # Doors
//
//   - Config, New, Run: a node, from its configuration to its orderly end.
//
// # Goroutines
//
//   - Run: one per component (meshnet, gossip, ownership, cascade, directory, sfm, signal, HTTP server), ended by Run's context in
//     the reverse order of their start.
//   - roomLoop, one per room with local participants: takes commands from signalling, endpoints and the directory in order, and carries
//     out the room's effects. Ends when the room's last local participant left and its linger passed.
//   - upstream.Router: looks after where every source of another node is pulled from.
//   - loadLoop: tells gossip how busy this node is, every few seconds.
//
// # Units and limits
//
// A room's command queue holds roomQueueLength commands: a full one slows its own clients, nobody else.
//
// # References
//
// ARCHITECTURE.md; RFC 7667 §3.7.
package node
