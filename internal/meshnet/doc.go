// Package meshnet is the ground nodes talk over: one UDP socket per node, QUIC with mutual TLS 1.3 on it, one ALPN per
// service, and peers known by the node ID in their certificate. It knows nothing of what is said.
//
//	            ┌──────────── Network (one UDP socket, one identity) ────────────┐
//	Dial ──────▶│ quic.Transport ── Listener ─┬─ meridian-media/1  ─▶ h(*Conn)   │
//	            │                             ├─ meridian-gossip/1 ─▶ h(*Conn)   │
//	            │                             ├─ meridian-raft/1   ─▶ h(*Conn)   │
//	OpenService▶│ pool: one control Conn/peer ┴─ meridian-ctl/1    ─▶ services   │
//	Conn.Direct▶│ sessions: sealed media beside QUIC, found by ID ─▶ Direct      │
//	            └────────────────────────────────────────────────────────────────┘
//
// What the socket reads is told apart by its first two bits: 10 is direct media, the rest goes to QUIC. A [Direct] is a
// media connection's second way: datagrams under keys exported from its handshake, sent in batches (sendmmsg, UDP GSO)
// and read in batches (recvmmsg, UDP GRO) on Linux, one by one on any other packet connection. TLS makes both ends
// agree to it: they prefer an ALPN of its own. It has no congestion control. Its packets are drawn in direct_packet.go.
//
// A service stream begins with a header, then belongs to the service:
//
//	+-------------+-------------+----------------------+
//	| version = 1 | name length | name (1 to 64 bytes) |
//	+-------------+-------------+----------------------+
//
// # Doors
//
// [NewCA], [LoadCA], [CA.Issue]: the mesh's own certificate authority. [LoadIdentity]: a node's certificate.
// [New] binds the socket; [Network.Run] accepts; [Network.Dial] opens a [Conn] to a named node; [Network.OpenService]
// and [Network.HandleService] give typed streams over one pooled control connection, whichever side dialled it.
// [WriteMessage] and [ReadMessage] frame protobuf on a [Stream]. [Conn.Direct] gives the way beside QUIC.
//
// # Goroutines
//
// Run owns: accept (1, reads the listener, ends with it), stray (1, reads packets that are not QUIC, ends with Run),
// one per accepted connection (runs its handler), one per control connection (accepts service streams, ends with the
// connection) and one per service stream (header, then the handler). A dialled control connection is served likewise.
// A dial of the pool runs in a goroutine of its own, bounded by Config.HandshakeTimeout. QUIC's reading goroutine opens
// direct packets and calls their handlers. flushPauses (1 per direct session, ends with it) sends what Send left.
//
// # Units and limits
//
// Streams a peer may have open on one connection: Config.MaxStreams. Service names: 64 bytes. A message: MaxMessageBytes.
// Control connections kept per peer: 4. Datagrams: [Conn.MaxDatagramBytes]. A direct session: 64 packets wait for a
// flush, 1024 for Receive; packets may be late by 8128 numbers; a key seals 2^24 packets, a session 2^48; a peer's new
// address is believed once it returned a token, asked for at most 20 times a second. The batches
// of a UDP socket take 1 MiB. Trust: TLS 1.3 only, the mesh CA is the
// only root, certificates serve both directions, and a name other than the node ID means nothing.
//
// # References
//
// RFC 9000 (QUIC), RFC 9221 (DATAGRAM), RFC 9443 (one port), RFC 8446 (TLS 1.3, exporters), RFC 5280 (X.509), RFC 4303
// §3.4.3 and RFC 6479 (replay), RFC 9001 §6.6 (limits of a key).
package meshnet
