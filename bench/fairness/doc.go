// Package fairness puts Meridian's link and a kernel's TCP behind one bottleneck and measures what each gets of it.
//
//	namespace "a"                    router of bench/wan                    namespace "b"
//	trunk sender   ─┐                                                ┌─▶ trunk receiver
//	TCP sender     ─┴─ wan0 ──▶ rate, one queue, delay ──▶ wan0 ─────┴─▶ TCP receiver
//
// A run is one course of five phases, so that each comes to a bottleneck that the other has filled:
//
//	TCP     ════════════════════════          ═══════════════════════
//	media              ══════════════════════════════════
//	        tcp first │ media joins  │ media  │ tcp joins │ tcp
//	                  │ beside       │ alone  │ beside    │ last
//
// # Doors
//
//   - New, Bench.Run: one run.
//   - Node: what the TCP processes run; the program that embeds this package offers it under Config.TCPNode, and
//     trunk.Node under Config.MediaNode.
//   - WriteTable: results as Markdown. Results themselves are JSON.
//
// # Goroutines
//
// Run owns those of the network (bench/wan) and one for each process, which reads what it says, and leaves none. A TCP
// process has one goroutine for each connection.
//
// # Units and limits
//
// Rates are bits per second: of the bottleneck in IP packets, of media in RTP packets, of TCP in payload. A share is a
// part of both goodputs. Linux, root, /dev/net/tun and the ip command: see bench/wan. Delays are from a packet's write to the
// link until the far node has it, the link's own queue included.
//
// # References
//
// RFC 5033 (evaluating congestion control), RFC 8868 (evaluating it for media), tcp(7).
package fairness
