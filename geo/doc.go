// Package geo says where a client is, and which nodes are good for it: address → place → ranked edges.
//
//	netip.Addr ──Database.Lookup──▶ Place ─┐
//	                                       ├─ Rank ──▶ []RankedEdge, best first
//	gossip: []Edge{NodeInfo, RTT, Healthy} ┘
//
// # Doors
//
// Open reads a GeoIP2/GeoLite2/DB-IP City database, or the one embedded here when no path is given. Lookup and Rank
// may be called concurrently and keep no state. Rank is pure.
//
// The embedded database (edge.mmdb.gz, made by `make geodb`, see mkdb) knows the nearest of a few dozen large cities of
// an address, which is what ranking needs. It is derived from data that asks for Attribution wherever results are shown.
//
// # Goroutines
//
// None.
//
// # Units and limits
//
// Degrees, kilometres along the great circle, time.Duration round trip times. A database file has at most 1 GiB. It is
// read into memory, not mapped: replacing it under a running node cannot crash the node.
//
// # References
//
// MaxMind DB File Format 2.0. Great circle: R. W. Sinnott, "Virtues of the Haversine", Sky & Telescope 68 (1984); mean
// Earth radius: IUGG. Speed of light in fibre (index 1.468, ITU-T G.652): about 2/3 c. Paths over great circles: A. Singla
// et al., "The Internet at the Speed of Light", HotNets 2014. What delay people notice: ITU-T G.114. Rendezvous hashing:
// D. Thaler, C. Ravishankar (1998). Addresses that have no place: RFC 1918, 4193, 6598; IPv4 in IPv6: RFC 6052.
package geo
