package signal

import (
	"github.com/meridian-sfu/meridian/internal/mesh"
)

// SessionDescription is one side of a negotiation (RFC 8829).
type SessionDescription struct {
	Type string // "offer" or "answer"
	SDP  string
	ID   uint32 // an answer echoes its offer's; 0 is "none"
}

// Target names a peer connection of a client. The numbers are those of the protocol.
type Target uint8

// The targets. With a single peer connection it is always TargetPublisher.
const (
	TargetPublisher Target = iota
	TargetSubscriber
)

// Quality is a step of a video source, lowest first. The numbers are those of the protocol.
type Quality uint8

// The qualities.
const (
	QualityLow Quality = iota
	QualityMedium
	QualityHigh
	QualityOff
)

// AddTrack announces a source the client is about to offer.
type AddTrack struct {
	ClientID  string        // the client's name of it ("cid"), expected as the track ID of the offer's msid
	SourceID  mesh.SourceID // set when the client adds another codec to a source it publishes already
	Kind      mesh.MediaKind
	Type      mesh.SourceType
	Name      string
	Muted     bool
	Width     uint32          // pixels
	Height    uint32          // pixels
	Encodings []mesh.Encoding // lowest first; empty for audio
	Codecs    []AddTrackCodec // the preferred one first

	StreamName string // never empty: "camera" and "screen_share" group audio with video by default
	Encryption mesh.Encryption
	Stereo     bool
	DisableDTX bool
	DisableRED bool

	AudioFeatures     []int32 // AudioTrackFeature numbers
	BackupCodecPolicy int32   // BackupCodecPolicy number
}

// AddTrackCodec is one codec a source will be published with.
type AddTrackCodec struct {
	Codec     string // lower case, without the kind: "vp8"
	ClientID  string // the client's name of this version of the source; empty for a backup codec that is not published yet
	Encodings []mesh.Encoding
	Mode      int32 // VideoLayer.Mode number
}

// Source returns the announced source as the room keeps it, under the given ID. What is known only after negotiation (clock
// rate, parameters, extensions, mid, SSRCs) is left for the caller.
func (a *AddTrack) Source(id mesh.SourceID) mesh.Source {
	s := mesh.Source{
		ID: id, ClientID: a.ClientID, Kind: a.Kind, Type: a.Type, Name: a.Name, Muted: a.Muted,
		Width: a.Width, Height: a.Height, StreamName: a.StreamName, Encryption: a.Encryption,
		Stereo: a.Stereo, DisableDTX: a.DisableDTX, DisableRED: a.DisableRED,
		Encodings: append([]mesh.Encoding(nil), a.Encodings...),
	}
	if len(a.Codecs) > 0 {
		s.MIMEType = mimeType(a.Kind, a.Codecs[0].Codec)
	}
	return s
}

// Subscription asks for sources, or no more for them.
type Subscription struct {
	Sources   []mesh.SourceID
	Subscribe bool
}

// TrackSettings says how a client wants to receive sources.
type TrackSettings struct {
	Sources  []mesh.SourceID
	Disabled bool    // send nothing for now
	Quality  Quality // counts only when Width and Height are 0
	Width    uint32  // pixels
	Height   uint32  // pixels
	FPS      uint32  // frames per second; 0 is no wish
	Priority uint32  // 1 is highest, 0 is no wish
}

// SubscriptionPermission says who may subscribe to the client's sources.
type SubscriptionPermission struct {
	All    bool // everyone; Grants do not matter then
	Grants []SubscriptionGrant
}

// SubscriptionGrant allows one participant, named by Participant or by Identity.
type SubscriptionGrant struct {
	Participant mesh.ParticipantID
	Identity    mesh.Identity
	AllSources  bool
	Sources     []mesh.SourceID // counts when AllSources is false
}

// ACL returns the permission as the room keeps it: nil when everyone is allowed. identityOf resolves participants that are named
// by ID only; those it does not know are allowed nothing.
func (p *SubscriptionPermission) ACL(identityOf func(mesh.ParticipantID) (mesh.Identity, bool)) *mesh.SubscriberACL {
	if p.All {
		return nil
	}
	acl := &mesh.SubscriberACL{Identities: make(map[mesh.Identity][]mesh.SourceID)}
	everything := make(map[mesh.Identity]bool)
	for _, g := range p.Grants {
		identity, ok := g.Identity, g.Identity != ""
		if !ok {
			identity, ok = identityOf(g.Participant)
		}
		if !ok || everything[identity] || (!g.AllSources && len(g.Sources) == 0) {
			continue // an empty list in the ACL would allow everything
		}
		if g.AllSources {
			everything[identity] = true
			acl.Identities[identity] = nil
			continue
		}
		acl.Identities[identity] = append(acl.Identities[identity], g.Sources...)
	}
	return acl
}

// UpdateMetadata asks for new values of the client's own name, metadata and attributes. Values are within the limits of package
// mesh or the request was refused already.
type UpdateMetadata struct {
	Name       string            // empty leaves it
	Metadata   string            // empty leaves it
	Attributes map[string]string // an empty value deletes the attribute
	RequestID  uint32
}

// UpdateAudioTrack says which processing an audio source went through.
type UpdateAudioTrack struct {
	Source   mesh.SourceID
	Features []int32 // AudioTrackFeature numbers
	Stereo   bool
	NoDTX    bool
}

// UpdateVideoTrack says that a video source has another size.
type UpdateVideoTrack struct {
	Source mesh.SourceID
	Width  uint32 // pixels
	Height uint32 // pixels
}

// SyncState is what a resuming client believes.
type SyncState struct {
	// Offer and Answer are the last pair: the subscriber's with two peer connections, else the client's offer.
	Offer         *SessionDescription
	Answer        *SessionDescription
	Subscription  Subscription // what differs from the default: Subscribe is false with auto-subscribe
	Published     []PublishedSource
	DataChannels  []DataChannel
	Disabled      []mesh.SourceID
	ReceiveStates []DataReceiveState
}

// PublishedSource pairs the client's name of a source with ours.
type PublishedSource struct {
	ClientID string
	ID       mesh.SourceID
}

// DataChannel is an open channel of a client.
type DataChannel struct {
	Label  string
	ID     uint32
	Target Target
}

// DataReceiveState says up to where a client has received reliable data messages of a sender.
type DataReceiveState struct {
	Sender       mesh.ParticipantID
	LastSequence uint32
}

// ScenarioKind is what a test client wants to see happen.
type ScenarioKind uint8

// The scenarios.
const (
	SimulateSpeakerUpdate ScenarioKind = iota + 1 // Value seconds of speaker activity
	SimulateNodeFailure
	SimulateMigration
	SimulateServerLeave
	SimulateCandidateProtocol   // Value: 0 UDP, 1 TCP, 2 TLS
	SimulateSubscriberBandwidth // Value bits per second; 0 lifts the limit
	SimulateDisconnectOnResume
	SimulateDisconnectOnResumeSilent // before any message of the server
	SimulateLeaveFullReconnect
)

// Scenario is a wish of a test client. Hall decides whether to grant it.
type Scenario struct {
	Kind  ScenarioKind
	Value int64
}
