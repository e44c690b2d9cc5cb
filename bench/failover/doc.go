// Package failover measures how long media stays away when a way between nodes dies.
//
//	            ┌───▶ b ───┐          a  publishes a microphone and a camera
//	publisher ▶ a ════════▶ w ▶ sink  w  watches; w2 beside it where gateways are tried
//	            └───▶ d ───┘          b, d  stand in regions of their own
//
// Every trial is a mesh of its own, whole but for gossip: meshnet, cascade and cascade/upstream over a network in memory
// with the round trips the trial's seed drew. What is measured is the longest time without a new packet at the sink, from
// just before the failure on: it holds the time between two packets in good days (20 ms of audio, 33 ms of video).
//
// # Doors
//
//   - Config, Run: trials, some at once, in real time. Trial: one, also in virtual time (testing/synctest).
//   - Report: what they gave, as JSON and by WriteTable.
//
// # Goroutines
//
// Run has one for each trial that runs; a trial has those of its nodes and one for each source. All end with them.
//
// # Units and limits
//
// A trial takes about 13 s. It needs no socket.
//
// # References
//
// Package cascade/route says what may be a way, package cascade how a failure is noticed.
package failover
