// Package sfm is the Selective Forwarding Middlebox of a node (RFC 7667 §3.7): the clients' peer connections, what they
// publish, and what each of them gets of it. It is the only user of Pion.
//
//	client ═SRTP═▶ receiver ─Packet▶ rtpstream.Stream ▶ Fanout ─┬▶ sender ▶ Queue ▶ egress ═SRTP═▶ client
//	   ▲              │  ▲                                      └▶ (a flow to another node)
//	   └── PLI, NACK ─┘  └── Feedback: keyframes, demand ◀── sender: layer choice, PLI/FIR of its client
//
// A sender picks one encoding of its source (layers.go), makes one continuous stream of it (rtpstream.Rewriter), answers
// NACKs from the stream's cache exactly as it sent before, and makes sender reports from the publisher's own clock.
//
// # Doors
//
//   - SFM: one UDP and one TCP port for all clients; makes endpoints.
//   - Endpoint: one client. Commands go in by methods that return at once, events come out through its Handler.
//   - Published hands out an rtpstream.Source, Subscribe takes one: of this node or of any other.
//
// # Negotiation
//
// With two peer connections the client offers on its publisher connection and we on the subscriber connection: never two
// offers in flight, changes meanwhile go into the next one. With a single one the client always offers; when more
// sections are needed it is asked to (NeedSections). M-lines are never removed: what is unsubscribed goes inactive and is
// used again once the client has seen that.
//
// While a client restarts ICE its media goes on over the old path (held.go). One that lost its signalling alone keeps its
// subscriber connection as it is (restart.go).
//
// # Goroutines
//
//   - Endpoint loop, one per endpoint: reads commands and connection events, calls the Handler; ends with Close.
//   - egress, one per endpoint: writes media, sender reports and keyframe requests; ends with Close.
//   - readRTP and readRTCP, one each per received encoding: end with the stream, the source or the endpoint.
//   - sender readRTCP, one per subscription with an m-line: answers NACKs; ends with the m-line or the endpoint.
//   - the ender, one per endpoint: waits for the others and closes Done.
//   - Pion's own, which end with the peer connections.
//
// # Units and limits
//
// Commands wait in a queue of 1024, whose overflow ends the endpoint. EgressPackets wait for a client, the oldest is
// dropped and counted. Descriptions hold at most 512 kB and 512 m-lines, data messages 65,535 bytes; reliable data that
// is not taken (4 MB) ends the endpoint, lossy data is dropped. Who begins to watch begins with what came since the latest
// keyframe, when that is 384 kB and six seconds at most, in portions of about 20 Mbit/s; or else with the smallest encoding,
// which publishers never are told to stop while anything of a source is wanted. Keyframe requests go out once per
// KeyframeInterval and encoding, for those who begin, or lose picture after picture, once per KeyframeJoinInterval.
// Retransmissions are bounded by a quarter of what is sent.
//
// # References
//
// RFC 3550 (RTP), RFC 4585 and 5104 (feedback), RFC 4588 (RTX), RFC 7741 (VP8), RFC 7587 (Opus), RFC 8829 (JSEP), RFC
// 8853 (simulcast), RFC 8445 and 6544 (ICE), RFC 8831 (data channels).
package sfm
