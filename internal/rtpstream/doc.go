// Package rtpstream holds the one shape media has everywhere in Meridian: a Packet that comes in on a Stream of a
// Source and is fanned out to Sinks, and the Feedback that runs the other way.
//
//	producer ──Packet──▶ Stream.Write ─▶ loss, stats ─▶ Cache ─▶ Fanout ─┬─▶ Sink (a sender to a subscriber)
//	   ▲                                                                 └─▶ Sink (a flow to another node)
//	   └────────────── Feedback: keyframe requests, wanted encodings ◀── Subscription.SetDemand, RequestKeyframe
//
// The producer is a client's connection or a link from another node: both make the same Source with another Feedback.
// So the cascade between nodes is one more sink and one more source, and it recurses.
//
// # Doors
//
//   - Pool, Packet: counted buffers; read once, retain to keep, release when done.
//   - Source, Subscription: the encodings of one camera, microphone or screen, and what one consumer wants of them.
//   - Stream: one RTP stream (RFC 3550 §3): one SSRC, one direction, with cache and statistics. Stream.Replay is what a
//     decoder can start from: the newest keyframe and all that came since.
//   - Stream.Describe: what a packet says of layers. LayerGate: which of them pass to one consumer, and from where on.
//   - KeyframeGates: one request for a keyframe in place of many. VoiceGate: which audio nobody needs to hear.
//   - Rewriter: continuous sequence numbers, timestamps and VP8 picture IDs over switches, over what was left out on
//     purpose, and from the past to the present, at the last hop only.
//   - ParseVP8, ParseVP9, ParseAV1, DependencyReader: what payload descriptors and the dependency descriptor tell of layers.
//   - Queue, Cache, Unwrapper: the bounded ring, the retransmission store, the 16/32 → 64-bit extension.
//
// # Goroutines
//
// None, and no clock: callers say what time it is. Stream.Write has one caller at a time per stream; a Sink that
// subscribes to several encodings is called concurrently, once per stream.
//
// # Units and limits
//
// A packet holds at most MaxPacketBytes. A source has at most MaxEncodings encodings, index 0 the smallest.
// Arrival times are monotonic durations since an arbitrary start of the process. 512 packets, 384 kB and six seconds of
// video are kept to start from.
//
// # References
//
// RFC 3550 (RTP), RFC 7656 (taxonomy), RFC 7667 §3.7 (Selective Forwarding Middlebox), RFC 7741 (VP8 payload),
// RFC 9628 (VP9 payload), RTP Payload Format For AV1 (with the dependency descriptor, appendix A),
// RFC 8285 (header extensions), RFC 6464 (audio levels).
package rtpstream
