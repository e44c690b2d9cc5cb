// Package gossip knows which nodes exist, where they stand and how loaded they are: SWIM membership (memberlist) over
// the mesh's own QUIC connections, with network coordinates carried by its pings.
//
//	UpdateSelf ─▶ self ─▶ NodeMeta (≤ 512 bytes) ─┐
//	                                              ▼
//	Members, Lookup, Resolve ◀─ members ◀─ memberlist ◀─▶ transport ◀─▶ meshnet (ALPN meridian-gossip/1)
//	Subscribe ◀─ events (one goroutine)           │        packets: DATAGRAMs, bounded queue per peer
//	RTT, Distance ◀─ coordinates ◀─ ping acks ────┘        streams: QUIC streams
//
// It says who exists, not whether media flows: suspicion takes seconds, and what moves media watches its own links.
//
// A node may speak only for itself: metadata is refused unless it names the memberlist name it came under, and every
// connection to a member is refused unless the certificate names that member, so a claim about somebody else's address
// dies at the first probe. A member that lies about a third one's departure is answered by that one's refutation.
//
// # Doors
//
// [New], [Gossip.Run]; [Gossip.Members], [Gossip.Lookup], [Gossip.Resolve] (for meshnet.SetResolver),
// [Gossip.UpdateSelf], [Gossip.Subscribe], [Gossip.RTT], [Gossip.Distance], [Gossip.Status].
//
// # Goroutines
//
// Run owns: join (1, seeds and lost members, ends with ctx), update (1, coalesced metadata, ends with ctx), deliver
// (1, events to subscribers, ends with ctx), conflict (1, checks who else bears our name, ends with ctx), memberlist's
// own (a probe under way ends by its own timeout shortly after Run, reaching nobody), and in the transport one sender
// per peer with traffic (ends after 60 s of silence) and two readers per connection (end with it).
//
// # Units and limits
//
// Metadata 512 bytes, packets 1100 bytes (a QUIC DATAGRAM), 64 packets queued per peer (the oldest is dropped),
// 4096 peers, 256 lost members remembered for 24 h. Leaving takes at most 1 s. Updates of self at most one a second.
//
// # References
//
// SWIM (Das et al. 2002), Lifeguard (Dadgar et al. 2018), Vivaldi (Dabek et al. 2004), RFC 9221 (DATAGRAM).
package gossip
