// Package load puts publishers and subscribers on a running mesh, or on any server that speaks the protocol of LiveKit
// client SDKs, and measures what the subscribers get and what it costs the server.
//
//	Run ─┬─▶ publisher ─ signalling (WebSocket) ─▶ server(s)
//	     │      └─ frames, stamped with their time ═SRTP═▶  │ forwards
//	     └─▶ subscriber ─ signalling ─▶                     ▼
//	            sockets ─epoll, GRO─▶ reader ─▶ streams: loss, bitrate, freezes by the clear RTP header
//	                                   └─ every 32nd packet ─▶ Pion ─ decrypts ─▶ stamp: delay
//
// A server is driven to its limit from one other core, so subscribers do next to nothing per packet: one thread reads all
// their sockets, up to 64 kB a system call, and looks at RTP headers, which SRTP leaves in the clear. Pion does ICE, DTLS
// and signalling's peer connections, and decrypts a sample of the packets for the delay, and all of them until a
// subscriber has its first whole keyframe. Media is shaped like a camera's and a microphone's (simulcast VP8 with three
// temporal layers, Opus with audio levels); headers are valid, what is within is noise that nothing here decodes.
//
// # Doors
//
//   - Scenario: what is to happen; Validate tells what cannot.
//   - Run: does it, tells progress, returns a Result.
//   - WriteTable: Results as Markdown. Results themselves are JSON.
//
// # Goroutines
//
// Run owns: the reader (one thread for all subscribers' sockets); for each client its signalling reader, its pinger and
// Pion's; for each publisher one sender per source and one reader of feedback per encoding; for each subscriber one per
// received source, which reads the sample. All end before Run returns.
//
// # Units and limits
//
// Shares are between 0 and 1, times in JSON milliseconds, rates bits per second of RTP with its SRTP tag. Delay is from the
// publisher's write to the subscriber's read in one process, so by one clock. At most 10,000 clients at once. Reading without a
// goroutine per socket needs Linux; elsewhere each socket has one.
//
// # References
//
// RFC 3550 (RTP), RFC 7741 (VP8 payload), RFC 7587 (Opus), RFC 8853 (simulcast), RFC 6464 (audio level), udp(7) (UDP_GRO).
package load
