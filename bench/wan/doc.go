// Package wan puts an emulated wide-area network between programs that know nothing of it: nodes, browsers, load
// generators. Each host is a network namespace whose only way out is a TUN device; a router in this process reads
// what the hosts send and hands it over when, and if, the testnet.Link of that direction says so.
//
//	namespace "eu"             this process                 namespace "us"
//	process ─ wan0 (TUN) ──▶ read ─▶ Shaper eu→us ─▶ Timeline ─▶ write ──▶ wan0 (TUN) ─ process
//	10.77.0.1                (once per tick)            (once per tick)    10.77.0.2
//
// # Doors
//
// Available says why it cannot work here. Up makes hosts and links; Set, SetPair, Block, Unblock, Partition and Heal
// change them while it runs, with the semantics of testnet.Switch; Stats and CPU tell what happened and what it cost;
// Close ends what runs in the hosts and removes them. Host.Command starts a process inside a host, Host.Do opens
// sockets there for this process, Host.DialContext serves an http.Transport. Sweep removes what crashed runs left; Up does so too.
//
// # Goroutines
//
// One router per Net, on a thread of its own with real-time priority where that is granted. It sleeps while no packet
// is on its way and ends with Close. It shares Go's scheduler with its process: work that is measured belongs into
// processes of their own.
//
// # Units and limits
//
// Linux, root, /dev/net/tun and the ip command. IPv4 only, MaxHosts hosts, MaxInFlight packets on their way. Links
// count IP packets: Rate and QueueBytes include the 28 bytes of IPv4 and UDP headers. The router works at most once
// per Topology.Tick (1 ms): a packet waits for it twice, so it is late by up to two ticks when there is traffic, never
// early. Loss, reordering and rate come from testnet.Shaper and are exact on what the router reads.
//
// Cost and accuracy: go test -run - -bench . ./bench/wan (README.md has figures). The tests of this package fail where
// namespaces are not available, unless MERIDIAN_NO_NETNS=1 says that this is known.
//
// # References
//
// Linux Documentation/networking/tuntap.rst; ip-netns(8); namespaces(7).
package wan
