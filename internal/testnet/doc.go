// Package testnet emulates wide-area networks: delay, jitter, random and bursty loss, limited rate, black holes and
// partitions. Tests run whole meshes over it in memory, and `meridian dev --delay` puts it between real processes.
//
//	             ┌─ shaper.go ─────────────┐
//	WriteTo ───▶ │ Link: lost? queue full? │ ──▶ scheduler (Timeline: heap by due time) ──▶ deliver
//	             │ when does it arrive?    │
//	             └─────────────────────────┘
//	DelayConn: deliver = WriteTo of the wrapped net.PacketConn        (real sockets, one-way, outgoing only)
//	Switch:    deliver = inbox of the Endpoint with that address      (in memory, one Link per direction and host pair)
//
// Package bench/wan puts the same Shaper and Timeline between network namespaces, for programs that know nothing of it.
//
// # Doors
//
// NewDelayConn wraps a socket; Set, Block and Heal change what happens to packets for one destination while it runs.
// NewSwitch makes a network; Listen joins it; Set, SetDefault, Block, Partition and Heal change it while it runs.
// Stats counts all packets, LinkStats those of one direction.
//
// # Goroutines
//
// One scheduler per DelayConn and one per Switch. It waits for the earliest packet in flight and ends with Close.
// All waiting is on channels and timers, so both may be used inside a testing/synctest bubble (a DelayConn only if
// the connection it wraps may).
//
// # Units and limits
//
// Loss is a share from 0 to 1 and comes before the queue. Rate is bits per second of UDP payload; its queue drops
// newcomers (tail drop) when it is full by time or by bytes. At most MaxInFlight packets are in flight per
// DelayConn or Switch and InboxPackets wait in one Endpoint; what exceeds that is dropped and counted. A Switch is
// exact. A DelayConn sends on ticks of 0.5 ms, so that many packets share one timer: a packet is late by up to that,
// never early, and in real time by the grain of Go's timers besides (1 ms on Linux).
//
// Packets of one direction keep their order unless Link.Reorder: jitter moves a packet back to its predecessor's time
// at the earliest. A changed Link applies to packets sent from then on, a Block also to those in flight. The same seed
// and the same sequence of packets give the same losses and delays.
//
// What a DelayConn adds is lost in the noise of the ~10 µs of CPU that a packet's way over loopback costs both ends
// anyway, at 10,000 packets/s to each of four destinations; packets are 1.3 to 2.3 ms late on average there, 0.2 ms of
// it without emulation (go test -run - -bench Paced -benchtime 3000x ./internal/testnet).
//
// # References
//
// Gilbert–Elliott loss: G. Haßlinger, O. Hohlfeld, "The Gilbert-Elliott Model for Packet Loss in Real Time Services on
// the Internet", MMB 2008; RFC 6534 §4 (loss episodes).
package testnet
