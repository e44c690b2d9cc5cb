package api

import (
	"time"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

// Status is the mesh as one node sees it: the answer of GET /v1/status.
type Status struct {
	Node      mesh.NodeID     `json:"node"`
	Region    mesh.Region     `json:"region"`
	Version   string          `json:"version"`
	Time      time.Time       `json:"time"`
	UptimeSec float64         `json:"uptime_seconds"`
	Draining  bool            `json:"draining"`
	Ownership OwnershipStatus `json:"ownership"`
	Nodes     []NodeStatus    `json:"nodes"` // this node among them
	Links     []LinkStatus    `json:"links"` // of this node
	Rooms     []RoomStatus    `json:"rooms"` // that this node knows
}

// OwnershipStatus is the state of the Raft group that assigns rooms to owners.
type OwnershipStatus struct {
	State   string        `json:"state"`  // "leader", "follower", "candidate", "watcher", "none"
	Leader  mesh.NodeID   `json:"leader"` // empty when there is none
	Term    uint64        `json:"term"`
	Applied uint64        `json:"applied"` // index of the last log entry applied here
	Voters  []mesh.NodeID `json:"voters"`
}

// NodeStatus is one node of the mesh.
type NodeStatus struct {
	ID            mesh.NodeID `json:"id"`
	Region        mesh.Region `json:"region"`
	Zone          string      `json:"zone,omitempty"`
	URL           string      `json:"url"`
	MeshAddr      string      `json:"mesh_addr"`
	Version       string      `json:"version"`
	Latitude      float64     `json:"latitude"`
	Longitude     float64     `json:"longitude"`
	State         string      `json:"state"` // "alive", "suspect", "left", "dead"
	Draining      bool        `json:"draining"`
	CPU           float64     `json:"cpu"` // share of all cores, 0 to 1
	EgressBitrate uint64      `json:"egress_bits_per_second"`
	Participants  uint32      `json:"participants"`
	Capacity      uint32      `json:"capacity"` // 0: no limit stated
	RTTMs         float64     `json:"rtt_ms"`   // from the answering node; 0 when unknown
}

// LinkStatus is the link between the answering node and another.
type LinkStatus struct {
	Peer               mesh.NodeID `json:"peer"`
	State              string      `json:"state"` // "up", "suspect", "down", "connecting"
	RTTMs              float64     `json:"rtt_ms"`
	Loss               float64     `json:"loss"`          // share of media packets lost before repair, 0 to 1
	ResidualLoss       float64     `json:"residual_loss"` // share lost after repair, 0 to 1
	Lanes              int         `json:"lanes"`
	SendBitrate        uint64      `json:"send_bits_per_second"`
	ReceiveBitrate     uint64      `json:"receive_bits_per_second"`
	PacketsSent        uint64      `json:"packets_sent"`
	PacketsReceived    uint64      `json:"packets_received"`
	VideoBytesSent     uint64      `json:"video_bytes_sent"`
	VideoBytesReceived uint64      `json:"video_bytes_received"`
	PacketsDropped     uint64      `json:"packets_dropped"` // on purpose, before sending
	// What the way to the peer carries.
	RateState string       `json:"rate_state"`                         // "unlimited" while it was never seen full, "limited", or "shared" with others who keep it full
	Estimate  uint64       `json:"estimate_bits_per_second,omitempty"` // absent while unlimited
	QueueMs   float64      `json:"queue_ms"`                           // that stands on it now
	Withheld  int          `json:"withheld_flows"`                     // flows not sent in full because of it
	Flows     []FlowStatus `json:"flows"`
}

// FlowStatus is one source on its way over a link.
type FlowStatus struct {
	Room      mesh.RoomName `json:"room"`
	Source    mesh.SourceID `json:"source"`
	Direction string        `json:"direction"`        // "send" or "receive"
	Kind      string        `json:"kind"`             // "audio" or "video"
	Origin    mesh.NodeID   `json:"origin,omitempty"` // the node the source is published on; empty when not known here
	Encodings []string      `json:"encodings,omitempty"`
}

// RoomStatus is one room as the answering node knows it.
type RoomStatus struct {
	Name         mesh.RoomName       `json:"name"`
	ID           mesh.RoomID         `json:"id"`
	Owner        mesh.NodeID         `json:"owner"` // empty while provisional
	Epoch        uint64              `json:"epoch"`
	Version      uint64              `json:"version"`
	Provisional  bool                `json:"provisional"`
	CreatedAt    time.Time           `json:"created_at"`
	Participants []ParticipantStatus `json:"participants"`
}

// ParticipantStatus is one participant of a room.
type ParticipantStatus struct {
	ID       mesh.ParticipantID `json:"id"`
	Identity mesh.Identity      `json:"identity"`
	Name     string             `json:"name,omitempty"`
	Node     mesh.NodeID        `json:"node"`
	Region   mesh.Region        `json:"region"`
	State    string             `json:"state"` // "joining", "joined", "active", "disconnected"
	JoinedAt time.Time          `json:"joined_at"`
	Sources  []SourceStatus     `json:"sources"`
}

// SourceStatus is one published source.
type SourceStatus struct {
	ID       mesh.SourceID `json:"id"`
	Kind     string        `json:"kind"` // "audio" or "video"
	Type     string        `json:"type"` // "camera", "microphone", "screen_share", "screen_share_audio", "unknown"
	MIMEType string        `json:"mime_type"`
	Muted    bool          `json:"muted"`
	Watchers int           `json:"watchers"` // subscribers on the answering node
}

// RoomDetail is the answer of GET /debug/rooms/{name}: a room, and what the answering node's links carry for it.
type RoomDetail struct {
	Node  mesh.NodeID  `json:"node"`
	Room  RoomStatus   `json:"room"`
	Links []LinkStatus `json:"links"` // with flows of this room only; links without any are left out
}
