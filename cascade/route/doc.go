// Package route decides where a node pulls a source from. It is pure: a snapshot and a question go in, the next hop
// comes out; the same ones give the same answer on every node.
//
//	region of the origin      │ ocean │      region of the watcher
//	                          │       │
//	     origin ──────────────┼───────┼──▶ gateway ──▶ watcher, watcher, …
//	          └──▶ gateway of a third region ──▲
//	               (a detour, when the direct way is dead or clearly worse)
//
// A region's gateway for a source is chosen among the nodes there by rendezvous hash of the source: it pulls the source
// over the ocean once, everybody else of the region pulls it from the gateway. Detours use the gateways of other
// regions, which are the nodes that have the source if their region watches it at all, so that a detour costs few
// copies. A way has one detour node at most and three links at most: origin, detour, gateway, watcher. A node that is
// asked for a source as a detour pulls it straight from the origin, and one that is asked as a gateway never from
// another gateway: nodes that do not agree on who is there make a copy too many, not a circle.
//
// # Doors
//
//   - Snapshot: the nodes and links as somebody knows them.
//   - Snapshot.Best: the best way now. Route.Update: the same with hysteresis, step by step.
//   - Snapshot.Spare: what to have ready for when that fails. Twin: whether audio should come by both.
//   - Gateway, Cost: the parts.
//
// # Goroutines
//
// None, no lock and no clock.
//
// # Units and limits
//
// A cost is a time: the round trip, plus what loss and jitter add to it until a frame can be shown, see Cost. A change
// from one way to a better one needs a gain of 15 % and of 10 ms that lasts HoldDown, and back from a detour to a
// direct way that is no worse, only HoldDown, which doubles up to MaxHoldDown with every way that died in use lately. A change away from a dead way, or to another gateway because nodes came
// or went, happens at once. Links not measured for MaxAge count as unknown.
// One decision costs one hash for each node of the own region, and for a gateway one for each node.
//
// # What it gives
//
// 30 regions × 100 nodes, 10 sources that every node watches; the RTT between regions as a cloud publishes it
// (rtt_test.go); 4 rounds of failures, each of 12 links between regions that are dead, 6 that have three times the RTT
// and 2 % loss, and 30 dead nodes (go test -run TestSimulation -v ./cascade/route):
//
//	                           path RTT over      cost over     copies on a    detours  no     next hops changed by a
//	                           direct, all well   the least     link in use             way    round (that had to)
//	                            p50   p99   max    p50   p99    mean    max
//	all well                   1.01  1.08  1.11   1.04  1.31   1.000      1      0.3 %  0 %
//	all links known            1.01  1.08  2.25   1.04  1.31   1.000      1      3.6 %  0 %     1.19 % (1.19 %)
//	own links and estimates    1.01  1.08  2.25   1.04  1.31   1.000      1      3.6 %  0 %     1.19 % (1.19 %)
//
// The last line is what a node can do that knows its own links, and of others the RTT in good days: a detour whose own
// link is dead refuses, and another one is asked. The least cost is over any number of nodes (Dijkstra), with one node
// in each region, so that the gateway counts against us.
//
// # References
//
// D. Thaler, C. Ravishankar, "Using Name-Based Mappings to Increase Hit Rates" (1998), rendezvous hashing. D. Andersen
// et al., "Resilient Overlay Networks", SOSP 2001: one intermediate node suffices for nearly all of what detours can
// give. R. Ramjee et al., "Adaptive Playout Mechanisms for Packetized Audio Applications", INFOCOM 1994: playout at
// the mean delay and four deviations. RFC 3550 §6.4.1: interarrival jitter is a mean deviation.
package route
