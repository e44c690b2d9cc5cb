// Package cascade carries sources from node to node: links, their lanes, and the flows on them.
//
// A link joins two nodes: one control stream (protobuf, service "cascade" on meshnet's control connection) and several
// media connections, the lanes, on which datagrams run both ways. A flow is one source's way over a link. It exists
// while somebody at the far side watches, once however many watch.
//
//	origin                                                                            puller
//	Source ─▶ sendFlow ─▶ scheduler ─▶ datagram ══════ direct ══════▶ handler ─▶ receiver ─▶ pull ─▶ Source
//	            (a Sink)   (classes,   (gathered,                     (where it   (gaps,      (its
//	   ▲                    deadlines)  flushed)                       is read)    NACKs)   Feedback)
//	   └── demand, keyframe requests ─────── └─── retransmissions ◀─────── NACK ◀──────────────┘         │
//	       on the control stream ◀─────────────────────────────────────────────────────────────────────────┘
//
// Direct media (meshnet.Direct) passes no goroutine between who writes a packet and the socket, nor between the
// goroutine that reads the socket and the sinks. Where a lane carries QUIC DATAGRAMs there are a queue and a send loop
// on one side, a receive loop and a queue on the other.
//
// Original RTP travels behind a link header (drawn in frame.go), whole or without what of its header the other side has said it
// knows (contexts.go), and comes out untouched. What is lost between the nodes is repaired
// between the nodes. A packet that overtook others of its stream on another lane waits a few milliseconds for them
// (reorder.go); nothing waits for a repair.
//
// # Doors
//
//   - Cascade.Remote: a source of another node as a rtpstream.Source of this one, pulled on demand, from its origin or
//     from a node that relays it (RemoteSource.PullFrom changes that without a gap), and from a second one when the first
//     is in doubt or always (RemoteSource.Beside).
//   - Deps.Local, Deps.Relay: the way back; which source a peer gets when it asks.
//   - Cascade.Keep, Alive, WatchLinks, Links, Legs: links as such, liveness, status; what others say of theirs.
//   - Over: the network underneath, from a meshnet.Network.
//
// A link sends as its rate controller lets it (rate_control.go): the peer reports what came, the pacer keeps to the
// estimate, and of each flow those layers are asked for and sent that fit (layer_plan.go). Where lanes have congestion
// windows and these let less through, that is the estimate (rate_room.go). Of what the peer wants, temporal layers go at
// once and come where they can be decoded, spatial ones go with a picture and come with a keyframe (rtpstream.LayerGate).
//
// # Goroutines
//
// All end with Run. For each node that is kept or pulled from: peer.run (opens the link, moves every pull along).
// For each link: run (waits), readControl, writeControl, tick (probes, NACKs, liveness, sender reports), receiver.run
// (writes to the streams what was queued or held), dialLane for each lane on the side with the lower node ID. For each
// lane of QUIC DATAGRAMs: its send loop, the only caller of SendDatagram, and its receive loop; for a direct lane one
// that waits for its end. One for all: watchers.run, flusher.run.
//
// A link ends with its control stream; its lanes end with it and are dialled again while it lasts.
//
// Locks: receiver.turn and remote.writeMu are held over the sinks, which never block; receiver.mu is taken inside the
// former, and whatever a sink takes, a sendFlow.beginMu and a sender.mu for two, the one around the other. A
// remote.limitMu is held around Cascade.mu. Otherwise none is ever taken inside another; in particular
// link.flowMu, link.laneMu, sender.mu and receiver.mu are never held together.
//
// # Liveness
//
// Probes every 100 ms on up to eight lanes, both ways. Nothing heard for 150 ms: the link is in doubt, and what waits
// beside a way over it begins to flow. For 300 ms: suspected; more probes, and a ping on the control stream. Down when
// these stay unanswered for a round trip (100 ms at least) and the control stream is silent too, or for two, and when
// some other link is heard: a node that hears nobody is itself cut off. Up again after two answers and a word on the
// control stream, or answers for a second.
//
// # Units and limits
//
// Times inside are monotonic durations since New. A link keeps 4096 packets or a second for retransmission; repair of all
// kinds asks one budget (repair_budget.go), which earns 27 bytes for a hundred of media, or 120 for a hundred of audio where
// that is more, and saves up what a second earns, 16 to 160 kB; 64 halves of oversized packets; Config.MaxLanes lanes, 128
// at most; Config.MaxFlows flows each way. A flow
// has four contexts of RTP headers for each encoding, one more a second at most; it begins with 128 kB of what is kept since
// the latest keyframe; 250 packets of a stream are left out in a row. Garbage is counted and ignored up to Config.GarbageLimit a second; beyond, or for a control message no honest node sends, the
// link is closed and the peer not welcome for five seconds. A path has three hops at most.
//
// Nothing holds live media for more than 60 ms (queues_test.go names every queue): in front of the lanes Config.QueueDelay and
// AudioQueueDelay, retransmissions too; behind lanes of QUIC DATAGRAMs 60 ms beside what came last; out of order 15 ms, audio
// 5; to share a datagram 1 ms. What waits longer, for reasons in docs/decisions.md: base layers while video waits for a queue
// of ours to empty, 210 ms; what is kept since a keyframe, for who begins, 1 s; and on a lane with a congestion window 8
// packets, or 3 where lanes are more than 4, beside 4 inside the connection.
//
// # References
//
// RFC 9221 (QUIC datagrams), draft-ietf-avtcore-rtp-over-quic (flow IDs), RFC 6865 (Reed–Solomon for RTP), RFC 4585 §6.2.1 (NACK), RFC 3550 §6.4.1
// (sender reports), RFC 5795 (the idea of contexts; not its profiles, which build on packets that came before), RFC 7667 §3.7.
package cascade
