package mesh

import (
	"maps"
	"slices"
	"time"
)

// MediaKind is audio or video.
type MediaKind uint8

// The media kinds.
const (
	Audio MediaKind = iota + 1
	Video
)

// SourceType says what a source is made of. The values are stable: they cross the wire.
type SourceType uint8

// The source types.
const (
	SourceUnknown SourceType = iota
	SourceCamera
	SourceMicrophone
	SourceScreenShare
	SourceScreenShareAudio
)

// ParticipantState says how far a participant has come. The values are stable: they cross the wire.
type ParticipantState uint8

// The participant states, in the order they are passed.
const (
	StateJoining      ParticipantState = iota // signalling accepted
	StateJoined                               // JoinResponse sent
	StateActive                               // media connection up
	StateDisconnected                         // gone
)

// Encryption says how a source's payload is encrypted end to end. The mesh never looks inside.
type Encryption uint8

// The end-to-end encryptions.
const (
	EncryptionNone Encryption = iota
	EncryptionGCM
	EncryptionCustom
)

// Encoding is one simulcast version of a source, from lowest (index 0) to highest.
type Encoding struct {
	RID     string // RFC 8851 restriction ID; empty when there is only one encoding
	Width   uint32 // pixels
	Height  uint32 // pixels
	Bitrate uint32 // bits per second, as announced
	SSRC    uint32 // as sent by the publisher; 0 until known
}

// HeaderExtension says which RTP header extension an ID stands for on a publisher's connection (RFC 8285).
type HeaderExtension struct {
	ID  uint8
	URI string
}

// Source is one published camera, microphone or screen. It is written by the edge its participant is attached to.
type Source struct {
	ID         SourceID
	ClientID   string // the client's own name of it ("cid")
	Kind       MediaKind
	Type       SourceType
	Name       string
	Muted      bool
	Width      uint32 // pixels, of the highest encoding
	Height     uint32 // pixels, of the highest encoding
	MIMEType   string // RFC 4855 media type: "video/VP8", "audio/opus"
	ClockRate  uint32 // Hz
	FMTP       string // format parameters as negotiated with the publisher
	Encodings  []Encoding
	MID        string // of the publisher's m-line
	StreamName string // what lip-syncs together, "camera" or as the client says
	Encryption Encryption
	Stereo     bool
	DisableDTX bool
	DisableRED bool
	Extensions []HeaderExtension // as negotiated with the publisher
}

// Permission is what a participant may do.
type Permission struct {
	CanSubscribe        bool
	CanPublish          bool
	CanPublishData      bool
	CanPublishSources   []SourceType // empty allows all types
	CanUpdateMetadata   bool         // its own name, metadata and attributes
	CanSubscribeMetrics bool
	Hidden              bool // others are not told of it
	Recorder            bool
	Agent               bool
}

// MayPublish reports whether a source of type t may be published.
func (p Permission) MayPublish(t SourceType) bool {
	return p.CanPublish && (len(p.CanPublishSources) == 0 || slices.Contains(p.CanPublishSources, t))
}

// Participant is who is in a room. Its one writer is the edge it is attached to (Node), and Version only grows.
type Participant struct {
	ID               ParticipantID
	Identity         Identity
	Name             string
	Metadata         string
	Attributes       map[string]string
	Kind             string // "standard", "agent", "egress", "ingress", "sip"
	State            ParticipantState
	Permission       Permission
	JoinedAt         time.Time
	Version          uint32
	Node             NodeID
	Region           Region
	ClientProtocol   int32   // data-feature version the client speaks, mirrored to other clients
	Capabilities     []int32 // client capability numbers, mirrored to other clients
	Publisher        bool    // has published at least once
	Quality          Quality
	Sources          []Source
	DisconnectReason int32 // LiveKit DisconnectReason number, set with StateDisconnected

	// Subscribers restricts who may subscribe to this participant's sources. Nil allows everyone.
	Subscribers *SubscriberACL
}

// Quality is how good a participant's connection to its edge is. With neither level nor score it is not known.
type Quality struct {
	Level uint8   // 0 poor, 1 good, 2 excellent, 3 lost
	Score float32 // mean opinion score, 1 to 4.5; 0 when lost or not known
}

// SubscriberACL says who may subscribe to a participant's sources when not everyone may.
type SubscriberACL struct {
	Identities map[Identity][]SourceID // allowed identity → allowed sources; an empty list allows all sources
}

// Clone returns a deep copy, safe to change.
func (p Participant) Clone() Participant {
	p.Attributes = maps.Clone(p.Attributes)
	p.Capabilities = slices.Clone(p.Capabilities)
	p.Permission.CanPublishSources = slices.Clone(p.Permission.CanPublishSources)
	p.Sources = slices.Clone(p.Sources)
	for i := range p.Sources {
		p.Sources[i].Encodings = slices.Clone(p.Sources[i].Encodings)
		p.Sources[i].Extensions = slices.Clone(p.Sources[i].Extensions)
	}
	return p
}

// Source returns the source with the given ID.
func (p *Participant) Source(id SourceID) (*Source, bool) {
	for i := range p.Sources {
		if p.Sources[i].ID == id {
			return &p.Sources[i], true
		}
	}
	return nil, false
}

// Room is what is known of a room as a whole. Its one writer is the owner; Version only grows within an epoch.
type Room struct {
	Name             RoomName
	ID               RoomID
	Metadata         string
	CreatedAt        time.Time
	EmptyTimeout     time.Duration // nobody ever came
	DepartureTimeout time.Duration // the last one left
	MaxParticipants  uint32        // 0 is no limit
	Owner            NodeID        // empty while the room is open provisionally
	Epoch            uint64        // fencing token of the owner; 0 while provisional
	Version          uint64
}

// DataMessage is one message on a participant's data channel. Payload is opaque to the mesh: it was stamped with its
// sender at the door it came in by.
type DataMessage struct {
	Sender       ParticipantID
	Reliable     bool
	Destinations []Identity // empty addresses everyone but the sender
	Payload      []byte
}
