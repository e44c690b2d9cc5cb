// Package directory keeps one room equal on all nodes that take part in it. Edges are the source of truth for their own
// participants; the owner puts what they report in order and tells the others; everyone else mirrors. No media passes
// here, and nothing about a live room exists only on the owner.
//
//	edge A ── Report (own participants) ──▶ ┌───────┐ ── Update (everybody else, numbered) ──▶ edge A
//	edge B ── Report ─────────────────────▶ │ owner │ ── Update, Command ──────────────────▶ edge B
//	                                        └───────┘
//	edge A ── Data ─────────────────────────────────────────────────────────────────────────▶ edge B
//
// Provisional: nobody is known to own the room. It works for those who are here, and is merged once the table of owners
// answers. Edge: a snapshot goes to the owner, then changes; so come its updates; a missed number asks for a snapshot.
// Owner: unique identities (the last join stays), the room's record, the end of the room after every edge has agreed.
//
//	owner changes │ every edge reports to the new one, which also asks those it knows of; records nobody confirms
//	              │ are dropped after Config.EdgeGrace
//	owner gone    │ edges tell each other directly, and offer themselves to the table of owners
//	edge gone     │ the owner drops its participants after Config.EdgeGrace; at once if the node restarted
//	lower epoch   │ refused and counted, but for data, which decides nothing
//
// # Doors
//
// [New], [Directory.Run], [Directory.Open] → [Handle] (Put, Remove, Data, Snapshot, Close). For the server API, at any
// node: [Directory.Moderate], [Directory.UpdateRoom], [Directory.EndRoom], [Directory.SendData],
// [Directory.Participants], [Directory.Create], [Directory.Rooms]. What it needs: [Deps]; whom it tells: [Handler].
//
// # Goroutines
//
// Run owns: one per room (its loop: all state of the room but what callers share under its mutex; ends with the room),
// one per peer and service that is spoken to (writes its queue, reconnects; ends when idle for a minute) with one
// reader of that stream's far side, one per call of Owners. Streams of peers are read in the network's goroutines; Run
// waits for them.
//
// # Units and limits
//
// A frame is at most 4 MiB, a batch of records about 256 KiB; names, metadata and sources as package mesh bounds them.
// Config bounds rooms, participants and the frames waiting for a peer: a peer that reads too slowly loses its queue and
// is brought up to date by snapshots; lossy data drops the oldest. A data message holds at most 1 MiB.
//
// # References
//
// Design §6 (ownership) and §10 (failure). Wire: proto/meridian/directory/v1. Fencing tokens: M. Kleppmann, "How to do
// distributed locking" (2016).
package directory
