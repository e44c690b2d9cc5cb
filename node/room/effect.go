package room

import "github.com/meridian-sfu/meridian/internal/mesh"

// Effect is one thing that must happen outside because the room changed. Effects are carried out in the order given.
// The set is closed: Tell, Attach, Detach, SubscriptionPermission, SubscriptionError, FirstSubscriber, RoomChanged.
type Effect interface{ isEffect() }

// Tell sends the records to the named local participants (signal `update`). Among them may be the participant itself.
type Tell struct {
	To           []mesh.ParticipantID
	Participants []mesh.Participant
}

// Attach begins to send Source of Publisher to the local participant Subscriber.
type Attach struct {
	Subscriber mesh.ParticipantID
	Publisher  mesh.Participant
	Source     mesh.Source
}

// Detach ends what an earlier Attach of the same pair began.
type Detach struct {
	Subscriber mesh.ParticipantID
	Source     mesh.SourceID
}

// SubscriptionPermission tells To whether it is allowed to subscribe to a source it wishes for.
type SubscriptionPermission struct {
	To        mesh.ParticipantID
	Publisher mesh.ParticipantID
	Source    mesh.SourceID
	Allowed   bool
}

// SubscriptionError tells To that its wish cannot be met. Unknown: the source does not exist here and the wish is not
// remembered; else the source is its own.
type SubscriptionError struct {
	To      mesh.ParticipantID
	Source  mesh.SourceID
	Unknown bool
}

// FirstSubscriber says that a source of the local participant Publisher has its first subscriber ever.
type FirstSubscriber struct {
	Publisher mesh.ParticipantID
	Source    mesh.SourceID
}

// RoomChanged sends the room's record to the named local participants (signal `room_update`).
type RoomChanged struct { //nolint:revive // the room changed, among effects that are of participants
	To   []mesh.ParticipantID
	Room mesh.Room
}

func (Tell) isEffect()                   {}
func (Attach) isEffect()                 {}
func (Detach) isEffect()                 {}
func (SubscriptionPermission) isEffect() {}
func (SubscriptionError) isEffect()      {}
func (FirstSubscriber) isEffect()        {}
func (RoomChanged) isEffect()            {}
