// Package room is a room as this node knows it: who is in it, here and on other nodes, what each publishes, and what the
// participants attached here are subscribed to. It decides and says what must happen; it does nothing itself.
//
//	signal ── Attach, Upsert, Subscribe, Remove ─▶ ┌──────┐ ─▶ []Effect: Tell · Attach · Detach · …
//	directory ── Upsert, Remove, SetMeta ────────▶ │ Room │
//	cascade ── RemoteSubscriber ─────────────────▶ └──────┘ ─▶ Visible, Wanted, Subscribers, …
//
// Effects come in the order in which they must be carried out: a source is detached before its end is told, and told
// before it is attached, because a client throws away media of a participant it does not know.
//
// A subscription exists when the subscriber wishes for the source (by its own word, or automatically), may subscribe,
// the publisher is not hidden and lets it. A participant never receives its own sources. Of one identity there is one
// participant: a later join replaces the earlier one.
//
// # Doors
//
// [New], [Room.Attach], [Room.Upsert], [Room.Remove], [Room.Subscribe], [Room.SetMeta], [Room.RemoteSubscriber]; the
// views of view.go.
//
// # Goroutines
//
// None, and no clock, network or lock: whoever holds a Room guards it.
//
// # Units and limits
//
// [MaxWishes] explicit subscriptions of one participant are remembered. The number of participants is the caller's to bound.
//
// # References
//
// LiveKit client protocol (ordering of update and media), RFC 7656 (participant, source).
package room
