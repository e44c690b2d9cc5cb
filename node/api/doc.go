// Package api answers the HTTP requests of a node that are not signalling: where is my nearest edge, may I have a token,
// the server API of LiveKit SDKs, health, metrics, and what `meridian status` shows.
//
//	GET  /healthz /readyz          probes                                   anyone
//	GET  /v1/edges                 edges ranked for the caller              anyone
//	POST /v1/edge                  LiveKit TokenSource: edge and token      Config.TokenPolicy
//	GET  /settings/regions         regions, nearest first                   access token
//	POST /twirp/livekit.RoomService/{method}                                access token with the method's grant
//	GET  /v1/status /debug/rooms/{name}                                     Config.OpenStatus or AdminToken
//	GET  /metrics                  Prometheus                               Config.ServeMetrics
//
// # Doors
//
// New, API.Handler and API.Paths: node mounts the handler under each of the paths. Deps says what this package needs of the others;
// Rooms is the server API's view of the rooms of the mesh. ClientAddr tells who is calling through proxies.
// Messages of livekit/protocol are converted in convert.go and go no further.
//
// # Goroutines
//
// None of its own; handlers run on those of the HTTP server, and all Deps are called from them concurrently.
//
// # Units and limits
//
// Bodies: 64 KiB for /v1/edge, 2 MiB for the server API. X-Forwarded-For: the last 32 hops count. JSON carries milliseconds
// (`_ms`), kilometres (`_km`) and shares from 0 to 1. Errors are {"error","hint"}, of the server API {"code","msg"}.
//
// # References
//
// Twirp wire protocol v7 (https://twitchtv.github.io/twirp/docs/spec_v7.html). LiveKit TokenSource endpoint and RoomService API.
// X-Forwarded-For: MDN, "Selecting an IP address". CORS: WHATWG Fetch.
package api
