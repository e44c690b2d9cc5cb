package mesh

import "net/netip"

// NodeInfo is what a node tells every other node about itself by gossip. All of it fits 512 bytes on the wire.
type NodeInfo struct {
	ID     NodeID
	Region Region
	Zone   string // failure domain inside the region; may be empty

	MeshAddr  netip.AddrPort // UDP address and port other nodes dial
	ClientURL string         // base URL clients connect to: ws://host:port or wss://host[:port]

	Latitude  float64 // degrees, −90 to 90, north positive
	Longitude float64 // degrees, −180 to 180, east positive

	Load     Load
	Version  string // software version, semver
	Draining bool   // takes no new participants

	RaftCluster string // ID of the Raft group this node knows of; empty until it knows one
}

// Load is how busy a node says it is.
type Load struct {
	CPU           float64 // share of all cores in use, 0 to 1
	EgressBitrate uint64  // bits per second sent to clients and nodes
	Participants  uint32  // participants attached now
	Capacity      uint32  // participants it is willing to hold; 0 is "no limit stated"
}
