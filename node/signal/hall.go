package signal

import (
	"context"
	"net/http"
	"net/netip"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/token"
)

// Hall is what stands behind the door. Its methods are called concurrently.
type Hall interface {
	// Join lets a participant in. It is called before the upgrade: a *RefusedError becomes the HTTP answer, any other error
	// status 500 without its text. ctx ends with the request or after Config.JoinTimeout. When the upgrade fails afterwards,
	// the Session's only call is Closed.
	Join(ctx context.Context, req JoinRequest) (Session, error)
	// Check makes the checks of Join and lets nobody in.
	Check(ctx context.Context, req JoinRequest) error
}

// Session is one participant's signalling as the hall sees it. All methods are called from one goroutine, in the order the
// client sent its messages, and must not block for long: nothing more is read from the client meanwhile.
type Session interface {
	// Attach is called once, first, after the upgrade. The session sends its JoinResponse (or ReconnectResponse, or a leave)
	// through c before anything else.
	Attach(c *Conn)

	Offer(SessionDescription)
	Answer(SessionDescription)
	// Trickle passes a candidate as the JSON of an RTCIceCandidateInit; final says that it was the last of its target and
	// then candidate may be empty.
	Trickle(target Target, candidate string, final bool)
	AddTrack(AddTrack)
	Mute(source mesh.SourceID, muted bool)
	Subscription(Subscription)
	TrackSettings(TrackSettings)
	SubscriptionPermission(SubscriptionPermission)
	UpdateMetadata(UpdateMetadata)
	UpdateAudioTrack(UpdateAudioTrack)
	UpdateVideoTrack(UpdateVideoTrack)
	SyncState(SyncState)
	Simulate(Scenario)
	// Leave says that the client goes on purpose. The answer to it and the close are sent by this package afterwards.
	Leave(LeaveReason)

	// Closed is called exactly once, last: the connection is gone. err is nil when the client left or the session itself
	// closed it, and else says what happened: the signal is lost and the client may resume.
	Closed(err error)
}

// RefusedError is how a Hall says no.
type RefusedError struct {
	Status int    // HTTP status
	Text   string // plain text shown to the client
}

// Error returns the text.
func (e *RefusedError) Error() string { return e.Text }

// Refusals clients know by their texts.
var (
	ErrNoSuchRoom = &RefusedError{http.StatusNotFound, "requested room does not exist"}
	ErrDraining   = &RefusedError{http.StatusServiceUnavailable, "node is draining"}
)

// ReconnectSignalLost is the ReconnectReason of a client that lost its signalling and nothing else, as far as it knows.
const ReconnectSignalLost = 1

// JoinRequest is all a client says when it comes in. It was checked: names and metadata are within their limits, the token
// allows joining Room, the client speaks a supported protocol.
type JoinRequest struct {
	Claims     *token.Claims // not nil
	Room       mesh.RoomName
	Identity   mesh.Identity   // with PublishSuffix appended when there is one
	Permission mesh.Permission // Claims.Permission, without CanSubscribe for a publish-only connection
	RemoteAddr netip.Addr      // of the client, as Config.ClientAddr resolved it; may be invalid

	SinglePC bool // one peer connection for both directions, the client always offers
	Client   ClientInfo

	AutoSubscribe        bool
	AdaptiveStream       bool
	SubscriberAllowPause *bool // nil leaves it to the node
	AutoSubscribeData    *bool // nil leaves it to the node
	DisableICELite       bool

	Reconnect       bool               // resume of ParticipantID
	ReconnectReason int32              // ReconnectReason number of the protocol
	ParticipantID   mesh.ParticipantID // set with Reconnect

	// Metadata and Attributes are what the participant starts with: the token's, overlaid by the client's where the token
	// lets it update its own.
	Metadata   string
	Attributes map[string]string

	// AddTracks and Offer came inside the request. They are delivered to the Session by AddTrack and Offer right after Attach
	// and stand here only for information.
	AddTracks []AddTrack
	Offer     *SessionDescription
	SyncState *SyncState // for information; clients send it again as a message

	PublishSuffix string // a second, publish-only connection of the same user
}

// ClientInfo is what a client says about itself. All strings are at most maxClientInfoBytes long and otherwise unchecked.
type ClientInfo struct {
	SDK            string // "js", "swift", "go", …; empty when unknown
	Version        string
	Protocol       int
	OS             string
	OSVersion      string
	DeviceModel    string
	Browser        string
	BrowserVersion string
	Network        string
	ClientProtocol int32   // data-feature version
	Capabilities   []int32 // capability numbers
}

// RefuseWithLeave returns a Session that tells the client to leave as soon as it is attached, and closes. It is the answer to a
// resume of a session nobody knows: LeaveStateMismatch with ActionReconnect makes the client start over.
func RefuseWithLeave(reason LeaveReason, action LeaveAction) Session {
	return &leaver{reason: reason, action: action}
}

type leaver struct {
	nobody
	reason LeaveReason
	action LeaveAction
}

func (l *leaver) Attach(c *Conn) {
	c.SendLeave(l.reason, l.action)
	c.Close(CloseNormal, "")
}

// nobody is a Session that listens to nothing.
type nobody struct{}

var _ Session = (*leaver)(nil)

func (nobody) Attach(*Conn)                                  {}
func (nobody) Offer(SessionDescription)                      {}
func (nobody) Answer(SessionDescription)                     {}
func (nobody) Trickle(Target, string, bool)                  {}
func (nobody) AddTrack(AddTrack)                             {}
func (nobody) Mute(mesh.SourceID, bool)                      {}
func (nobody) Subscription(Subscription)                     {}
func (nobody) TrackSettings(TrackSettings)                   {}
func (nobody) SubscriptionPermission(SubscriptionPermission) {}
func (nobody) UpdateMetadata(UpdateMetadata)                 {}
func (nobody) UpdateAudioTrack(UpdateAudioTrack)             {}
func (nobody) UpdateVideoTrack(UpdateVideoTrack)             {}
func (nobody) SyncState(SyncState)                           {}
func (nobody) Simulate(Scenario)                             {}
func (nobody) Leave(LeaveReason)                             {}
func (nobody) Closed(error)                                  {}
