// Package upstream brings the sources of other nodes to this one, each once, from where package route says.
//
//	rooms ── Watch ──▶ Router ◀── Relay ── nodes that pull from here (through package cascade)
//	                     │ members, links ─▶ route.Snapshot ─▶ route.Route
//	                     ▼
//	       cascade.RemoteSource.PullFrom, Beside
//
// # Doors
//
//   - Router.Watch, Unwatch: a source for those who watch here.
//   - Router.Relay: the answer to cascade.Deps.Relay.
//   - Router.Run: routes that follow links, members and refusals.
//
// # Goroutines
//
// Run alone. Watch and Relay decide a first route on their caller's.
//
// # Units and limits
//
// Every source from another region has a spare way, on which a flow waits (cascade.RemoteSource.Beside); to at most 16
// nodes for all sources together. A node that refused a source is not asked for it again for 10 s; a link that does not come up within 2 s counts as
// down. At most 16384 sources are brought here for other nodes.
//
// # References
//
// Package route has them.
package upstream
