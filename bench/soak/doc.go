// Package soak runs three nodes over real sockets for a while, under loss and churn, and tells whether anything grows.
//
//	a ═══ loss, delay ═══ b ═══ loss, delay ═══ c        a publishes; b pulls from a; c pulls from b and from a
//	└──────────────── loss, delay ──────────────┘        b and c publish too
//
// All in one process: meshnet and cascade as nodes build them, each on a UDP socket of its own with an emulated path
// (testnet.DelayConn). Subscribers come, go and change their mind, sources end and come back, paths get worse, better and
// black for a second. From time to time memory, goroutines, file descriptors, lanes and flows are noted.
//
// # Doors
//
// New, Soak.Run: the whole. Result.Growth: what grew, the verdict.
//
// # Goroutines
//
// Run owns two for each node (meshnet, cascade) and one that publishes; churn and samples are its own.
//
// # Units and limits
//
// Rates are bits per second of RTP, losses shares. Heap is what is in use after a collection. The first sixth of the
// samples warms up and is not compared. Resident memory and file descriptors are read from /proc, 0 elsewhere.
package soak
