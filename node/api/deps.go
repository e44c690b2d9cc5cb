package api

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

// Deps are the other parts of a node as the API needs them. All are called concurrently.
type Deps struct {
	// Edges ranks the nodes for a client. Required.
	Edges func(context.Context, EdgeQuery) EdgeList
	// Ready returns why the node cannot take clients now; nothing when it can. Required.
	Ready func() []string
	// Status describes the mesh as this node sees it. Required.
	Status func(context.Context) Status
	// Rooms serves the server API. Nil leaves all its methods unimplemented.
	Rooms Rooms
	// Gatherer holds what /metrics serves. Nil serves no metrics.
	Gatherer prometheus.Gatherer
}

func (d Deps) validate() error {
	if d.Edges == nil || d.Ready == nil || d.Status == nil {
		return errors.New("api: Deps.Edges, Ready and Status are required")
	}
	return nil
}

// EdgeQuery is the client edges are ranked for.
type EdgeQuery struct {
	Client netip.Addr    // may be invalid
	Region mesh.Region   // the client's wish; may be empty
	Room   mesh.RoomName // it is about to join; may be empty
}

// EdgeList is what Deps.Edges found.
type EdgeList struct {
	Client      ClientPlace
	Edges       []RankedEdge // best first, healthy ones only
	Attribution string       // whose data told the client's place; may be empty
}

// ClientPlace is where the client seems to be.
type ClientPlace struct {
	Known     bool    `json:"known"`
	Country   string  `json:"country,omitempty"` // ISO 3166-1 alpha-2
	City      string  `json:"city,omitempty"`    // or the nearest large one
	Latitude  float64 `json:"latitude"`          // degrees; 0 unless Known
	Longitude float64 `json:"longitude"`         // degrees; 0 unless Known
}

// RankedEdge is a node the client may connect to.
type RankedEdge struct {
	Node        mesh.NodeID
	Region      mesh.Region
	ClientURL   string        // ws:// or wss://
	Distance    float64       // kilometres; negative when unknown
	ExpectedRTT time.Duration // 0 when unknown
	Load        float64       // 0 to 1
	Draining    bool
}

// What a method of Rooms may answer. Errors that wrap none of these, nor mesh.ErrInvalidName or a context's, are
// internal: they are logged, and the caller is not told their text.
var (
	ErrNotFound    = errors.New("not found")                  // no such room, participant or source
	ErrConflict    = errors.New("not possible in this state") // as a limit that was reached
	ErrUnavailable = errors.New("unavailable")                // the mesh cannot decide now; try again
)

// Rooms is the server API's view of all rooms of the mesh. Methods may be called on any node, for any room. Names were
// checked; metadata and attributes are within their limits.
type Rooms interface {
	// ListRooms returns the open rooms; with names only those of them that are open.
	ListRooms(ctx context.Context, names []mesh.RoomName) ([]RoomInfo, error)
	// CreateRoom opens a room, or returns the open one of that name.
	CreateRoom(ctx context.Context, c CreateRoom) (RoomInfo, error)
	// DeleteRoom ends a room for everyone in it.
	DeleteRoom(ctx context.Context, room mesh.RoomName) error
	UpdateRoomMetadata(ctx context.Context, room mesh.RoomName, metadata string) (RoomInfo, error)

	ListParticipants(ctx context.Context, room mesh.RoomName) ([]mesh.Participant, error)
	GetParticipant(ctx context.Context, room mesh.RoomName, id mesh.Identity) (mesh.Participant, error)
	RemoveParticipant(ctx context.Context, room mesh.RoomName, id mesh.Identity) error
	UpdateParticipant(ctx context.Context, room mesh.RoomName, id mesh.Identity, u ParticipantUpdate) (mesh.Participant, error)
	MuteSource(ctx context.Context, room mesh.RoomName, id mesh.Identity, source mesh.SourceID, muted bool) (mesh.Source, error)

	// SendData sends a message from the server itself: its Sender is empty, its Payload a marshalled DataPacket.
	SendData(ctx context.Context, room mesh.RoomName, m mesh.DataMessage) error
}

// RoomInfo is a room with its numbers of people.
type RoomInfo struct {
	mesh.Room
	Participants uint32
	Publishers   uint32
}

// CreateRoom is how a room shall be opened. Zero values take the defaults of the node.
type CreateRoom struct {
	Name             mesh.RoomName
	Metadata         string
	EmptyTimeout     time.Duration
	DepartureTimeout time.Duration
	MaxParticipants  uint32
}

// ParticipantUpdate changes a participant. Empty fields stay as they are.
type ParticipantUpdate struct {
	Name       string
	Metadata   string
	Attributes map[string]string // an empty value deletes the key
	Permission *mesh.Permission
}
