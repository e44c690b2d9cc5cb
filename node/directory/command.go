package directory

import "github.com/meridian-sfu/meridian/internal/mesh"

// Reasons of an eviction or an end, as the numbers of LiveKit's DisconnectReason.
const (
	ReasonDuplicateIdentity int32 = 2
	ReasonRemoved           int32 = 4
	ReasonRoomDeleted       int32 = 5
	ReasonRoomClosed        int32 = 10
	ReasonConnectionTimeout int32 = 14
)

// Command is what the owner may ask of a participant's edge: one of Evict, Mute, Change and Subscribe.
type Command interface{ isCommand() }

// Evict ends the participant's session.
type Evict struct{ Reason int32 }

// Mute mutes a source of the participant, or asks it to unmute.
type Mute struct {
	Source mesh.SourceID
	Muted  bool
}

// Change changes what is not nil of the participant's record. In Attributes an empty value deletes its key.
type Change struct {
	Name       *string
	Metadata   *string
	Attributes map[string]string
	Permission *mesh.Permission
}

// Subscribe changes what the participant is subscribed to.
type Subscribe struct {
	Sources []mesh.SourceID
	Want    bool
}

func (Evict) isCommand()     {}
func (Mute) isCommand()      {}
func (Change) isCommand()    {}
func (Subscribe) isCommand() {}
