package signal

import (
	"github.com/meridian-sfu/meridian/internal/mesh"
)

// LeaveReason says why a participant goes. The numbers are those of DisconnectReason, as in mesh.Participant.
type LeaveReason int32

// The reasons this mesh gives.
const (
	LeaveUnknown            LeaveReason = 0
	LeaveClientInitiated    LeaveReason = 1
	LeaveDuplicateIdentity  LeaveReason = 2
	LeaveServerShutdown     LeaveReason = 3
	LeaveParticipantRemoved LeaveReason = 4
	LeaveRoomDeleted        LeaveReason = 5
	LeaveStateMismatch      LeaveReason = 6
	LeaveJoinFailure        LeaveReason = 7
	LeaveMigration          LeaveReason = 8
	LeaveSignalClose        LeaveReason = 9
	LeaveRoomClosed         LeaveReason = 10
	LeaveConnectionTimeout  LeaveReason = 14
	LeaveMediaFailure       LeaveReason = 15
)

// LeaveAction says what a client does after a leave. The numbers are those of the protocol.
type LeaveAction uint8

// The actions.
const (
	ActionDisconnect LeaveAction = iota // for good
	ActionResume                        // a new connection, the same participant
	ActionReconnect                     // start over
)

// Codec is a codec clients may publish.
type Codec struct {
	MIMEType string // "video/VP8"
	FMTP     string // format parameters; usually empty
}

// ICEServer is a STUN or TURN server for the client.
type ICEServer struct {
	URLs       []string
	Username   string
	Credential string
}

// RoomCounts are the figures of a room that change with every join.
type RoomCounts struct {
	Participants uint32
	Publishers   uint32
	Recording    bool
}

// JoinResponse is the first message to a client that joined. What is the same for all clients (version, codecs, ping times) is
// added from Config.
type JoinResponse struct {
	Room              mesh.Room
	Counts            RoomCounts
	Participant       mesh.Participant
	Others            []mesh.Participant // without hidden ones and the participant itself
	SubscriberPrimary bool               // only with two peer connections and a participant that may subscribe
	FastPublish       bool               // the client may negotiate before its first source
	ICEServers        []ICEServer
	ForceRelay        bool
	SIFTrailer        []byte // marks frames injected by the SFM in end-to-end encrypted sources; random, per room
}

// ReconnectResponse is the first message to a client that resumed.
type ReconnectResponse struct {
	ICEServers          []ICEServer
	ForceRelay          bool
	LastMessageSequence uint32 // of the last reliable data message received from the client
}

// Speaker is how loud somebody is.
type Speaker struct {
	Participant mesh.ParticipantID
	Level       float32 // 0 to 1, 1 is loudest
	Active      bool
}

// ConnectionLevel is how good a connection is. The numbers are those of the protocol.
type ConnectionLevel uint8

// The levels.
const (
	ConnectionPoor ConnectionLevel = iota
	ConnectionGood
	ConnectionExcellent
	ConnectionLost
)

// ConnectionQuality is a participant's connection as the client shows it.
type ConnectionQuality struct {
	Participant mesh.ParticipantID
	Level       ConnectionLevel
	Score       float32 // mean opinion score, 1 to 5
}

// StreamState says that a source is paused for this subscriber, or is no more.
type StreamState struct {
	Participant mesh.ParticipantID
	Source      mesh.SourceID
	Paused      bool
}

// SubscribedCodec says which qualities of a codec somebody wants.
type SubscribedCodec struct {
	Codec   string  // lower case, without the kind: "vp8"
	Enabled [3]bool // by Quality: low, medium, high
}

// SubscriptionError says why a subscriber gets no media. The numbers are those of the protocol.
type SubscriptionError uint8

// The errors.
const (
	SubscriptionUnknown SubscriptionError = iota
	SubscriptionCodecUnsupported
	SubscriptionSourceNotFound
)

// RequestReason is the outcome of a request. The numbers are those of the protocol.
type RequestReason uint8

// The outcomes.
const (
	RequestOK RequestReason = iota
	RequestNotFound
	RequestNotAllowed
	RequestLimitExceeded
	RequestQueued
	RequestUnsupportedType
	RequestFailed
)

// MuteRequest names what was asked to be muted, for a RequestResponse.
type MuteRequest struct {
	Source mesh.SourceID
	Muted  bool
}

// RequestResponse answers a request. At most one of the pointers is set: the request it answers, by which clients find the
// caller that waits.
type RequestResponse struct {
	RequestID uint32 // 0 when the request had none
	Reason    RequestReason
	Message   string

	AddTrack         *AddTrack
	Mute             *MuteRequest
	UpdateMetadata   *UpdateMetadata
	UpdateAudioTrack *UpdateAudioTrack
	UpdateVideoTrack *UpdateVideoTrack
}
