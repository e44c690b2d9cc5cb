// Package trunk measures what a link between two nodes delivers over an emulated ocean, beside what a plain QUIC
// connection and plain UDP deliver over the same one.
//
//	Bench.Run ──starts──▶ sender process             ocean process          receiver process
//	   │ watchdog         workload ─▶ contestant ═══▶ (testnet.Shaper: ═══▶ contestant ─▶ meter
//	   │                      ▲       (cascade,        delay, loss, rate;
//	   │                      │        quic, udp)      counts)   │ both directions
//	   │                      └──────── pulse: packets are due ──┘
//	   └◀── one report of each process: packets, delays, bytes on the wire, processor time
//
// A cell is one set of conditions. Its contestants run one after the other with the same seed, so that they are
// offered the same packets. Every packet carries its stream, its counter and when it was sent, by the monotonic clock
// that all processes of a machine share; the receiver counts what arrives, each packet once. Each side is a process of
// its own, so that its processor time is its own and one's garbage collector does not hold up the other. Each stays on its processor and
// runs goroutines on one thread at a time. Their sockets are real ones; the path between them is a third process.
//
// # Doors
//
//   - New, Bench.Run: one cell; Matrix and Bench.RunAll: many.
//   - Node: what the processes run; the program that embeds this package offers it under Config.Command.
//   - StartLive: Meridian's link alone, between processes that its owner puts where it likes, for bench/fairness.
//   - WriteTable, WriteFigure: results as Markdown and as SVG. Results themselves are JSON.
//
// # Goroutines
//
// Run owns one goroutine per process, which reads its messages, and the watchdog's, one per processor, and leaves none. Node owns the contestant's: for UDP and QUIC a
// receive loop, for QUIC a send loop, for Meridian those of meshnet and cascade. In the ocean it owns one, on a thread of its own.
//
// # Units and limits
//
// Rates are bits per second of RTP packets, headers included; wire bytes are UDP payload. Losses and overheads are
// shares. Packets leave the sender on a grid of 0.5 ms, and the ocean on the same one. A second of warm-up is not counted, and traffic goes on after the counted time so that
// its last packets can be missed and repaired like all others. Rates are 500 kbit/s to 200 Mbit/s.
//
// # References
//
// RFC 9221 (QUIC datagrams), RFC 7741 (VP8 payload), RFC 7587 (Opus payload), RFC 6534 (loss episodes).
package trunk
