// Package signal is the door LiveKit client SDKs come in by: a WebSocket carrying protobuf messages, converted here to and
// from the mesh's own types. Nothing behind this door knows the protocol's messages.
//
//	GET /rtc?…       (v0) ┐                            ┌─▶ reader (the HTTP handler) ─▶ Session.Offer, AddTrack, …
//	GET /rtc/v1?…    (v1) ├▶ JoinRequest ▶ Hall.Join ▶ upgrade
//	GET …/validate        ┘       │ error                └─▶ Conn.SendX ─▶ queue ─▶ writer ─▶ client
//	                              └▶ HTTP status and text (404 also makes clients fall back from v1 to v0)
//
// A join is completed before the upgrade, so that what fails can be told as an HTTP error. Then, in this order and from one
// goroutine: Session.Attach, AddTrack and Offer for what came inside the join request, each message of the client, Leave
// when it says so, Closed exactly once and last.
//
// # Doors
//
// New and Server (an http.Handler; Handles tells which paths are its own) · Hall and Session, implemented by node · Conn, the
// way to the client · StampData and ServerData for what travels on data channels · SourceIDPrefix, QualityOf, AddTrack.Source.
//
// # Goroutines
//
//   - reader, 1 per connection: the HTTP handler's; reads frames, calls the Session; ends with the connection.
//   - writer, 1 per connection: drains the queue to the socket and performs the close; ends after it.
//   - keepalive, 1 per connection: sends a WebSocket ping every Config.PingInterval; ends with the writer.
//   - Server.Run, 1: waits for shutdown, tells every client to reconnect elsewhere and waits for all of the above.
//
// # Units and limits
//
// A message from a client has at most Config.MaxMessageBytes, a join request at most MaxJoinRequestBytes decompressed, a data
// message at most MaxDataBytes. The queue to a client holds Config.QueueMessages and Config.QueueBytes; a client that lets it
// run over is disconnected. A client that sends garbage gets a close code and a reason: 1007 for what cannot be decoded, 1008
// for what breaks a limit, 1009 for what is too large. Names and metadata obey the limits of package mesh.
//
// # References
//
// RFC 6455 (WebSocket), RFC 8829 (offers and answers), RFC 8838 (trickle ICE), and the message definitions of
// github.com/livekit/protocol.
package signal
