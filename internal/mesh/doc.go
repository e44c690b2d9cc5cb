// Package mesh holds the nouns every other package shares: who a node is, what a room, a participant and a source are.
//
// It is a leaf: it imports only the standard library, owns no goroutine and reads no clock. The values here are plain
// data; what happens to them is the business of the rooms of the house (see ARCHITECTURE.md). A record is never
// changed after it was handed to another package: change a Clone instead.
//
// Words follow RFC 7656 (participant, source, encoding), Raft (owner, epoch) and SWIM (node).
package mesh
