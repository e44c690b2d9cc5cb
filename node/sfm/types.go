package sfm

import (
	"errors"
	"time"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

// Errors an endpoint ends with (Endpoint.Err) or SendData returns.
var (
	ErrClosed       = errors.New("sfm: closed")
	ErrOverloaded   = errors.New("sfm: endpoint command queue overflowed")
	ErrSlowReader   = errors.New("sfm: reliable data is not read fast enough")
	ErrDataTooLarge = errors.New("sfm: data message too large")
)

// Target names one of a client's peer connections. The values are those of the signalling protocol.
type Target uint8

// The targets. With a single peer connection everything is Publisher.
const (
	Publisher Target = iota
	Subscriber
)

// Description is a session description on its way between a client and us.
type Description struct {
	Type string // "offer" or "answer"
	SDP  string
	ID   uint32 // an answer carries the ID of its offer; 0 is "no ID"

	// MidToTrack names the source on every m-line we send on. Set on descriptions we make.
	MidToTrack map[string]string
}

// State is how an endpoint is connected.
type State uint8

// The states.
const (
	Connecting   State = iota
	Connected          // the primary peer connection is up
	Disconnected       // no word from the client for a while; may come back
	Failed             // will not come back without an ICE restart or a new endpoint
)

// String returns the state in lower case.
func (s State) String() string {
	switch s {
	case Connecting:
		return "connecting"
	case Connected:
		return "connected"
	case Disconnected:
		return "disconnected"
	case Failed:
		return "failed"
	}
	return "unknown"
}

// Handler is told what happens on an endpoint. Its methods are called from the endpoint's own goroutine, in order and
// never under a lock. They must not block for long and may call methods of the Endpoint.
type Handler interface {
	// SendDescription hands over an offer or answer for the client.
	SendDescription(t Target, d Description)
	// SendCandidate hands over an RTCIceCandidateInit as JSON for the client.
	SendCandidate(t Target, candidateJSON string)
	// NeedSections asks a client with a single peer connection for an offer with so many more recvonly sections. Both
	// zero just asks for an offer.
	NeedSections(audios, videos int)
	// NegotiationFailed tells of a description that made no sense. The endpoint goes on as if it had not come.
	NegotiationFailed(t Target, err error)
	// Published tells that an expected source was negotiated: codec, MID, extensions and encodings are filled in.
	Published(src mesh.Source, media *rtpstream.Source)
	// Unpublished tells that the client stopped sending a source.
	Unpublished(id mesh.SourceID)
	// DemandChanged tells what the whole mesh wants of a local video source. More is told at once, less after a while.
	DemandChanged(id mesh.SourceID, d rtpstream.Demand)
	// Data hands over one message of a data channel. The payload belongs to the handler.
	Data(reliable bool, label string, payload []byte)
	// StateChanged tells how the endpoint is connected now.
	StateChanged(s State)
}

// EndpointConfig says what a client is and may.
type EndpointConfig struct {
	ID             mesh.ParticipantID
	SinglePC       bool // one peer connection on which the client always offers
	CanPublish     bool
	CanSubscribe   bool
	Protocol       int  // of the signalling protocol
	AdaptiveStream bool // the client tells what it shows: video starts small
}

// Subscribe says what a client shall receive.
type Subscribe struct {
	Publisher mesh.ParticipantID
	Source    mesh.Source
	Media     *rtpstream.Source
}

// QualityUnset in Wanted means the client stated no quality.
const QualityUnset = -1

// Wanted is what a client wants of a source it subscribes to.
type Wanted struct {
	Disabled      bool
	Width, Height uint32 // pixels it is shown at; 0 is not stated
	Quality       int    // QualityUnset, 0 low, 1 medium, 2 high
	FPS           uint32 // frames per second; 0 is not stated
}

// EndpointStats is what an endpoint did so far.
type EndpointStats struct {
	State         State
	RTT           time.Duration // of the latest receiver report; 0 until known
	Published     []StreamStats
	Subscriptions []SubscriptionStats
}

// StreamStats is one received encoding.
type StreamStats struct {
	Source   mesh.SourceID
	Encoding uint8
	rtpstream.Stats
}

// SubscriptionStats is one sent source.
type SubscriptionStats struct {
	Source       mesh.SourceID
	Bound        bool // has an m-line
	Target       int  // encoding wanted, −1 for none
	Current      int  // encoding sent, −1 for none
	Packets      uint64
	Bytes        uint64 // of RTP payloads
	Retransmits  uint64
	FractionLost float64 // 0 to 1, of the latest receiver report
}
