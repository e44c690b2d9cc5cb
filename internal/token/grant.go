package token

// Grant is the "video" claim. The pointers have three states, nil meaning the default: read them by the May methods.
type Grant struct {
	RoomCreate bool `json:"roomCreate,omitempty"`
	RoomList   bool `json:"roomList,omitempty"`
	RoomRecord bool `json:"roomRecord,omitempty"`
	RoomAdmin  bool `json:"roomAdmin,omitempty"` // of Room
	RoomJoin   bool `json:"roomJoin,omitempty"`  // of Room

	Room            string `json:"room,omitempty"`
	DestinationRoom string `json:"destinationRoom,omitempty"` // may be forwarded or moved there

	CanPublish            *bool    `json:"canPublish,omitempty"`
	CanSubscribe          *bool    `json:"canSubscribe,omitempty"`
	CanPublishData        *bool    `json:"canPublishData,omitempty"`
	CanPublishSources     []string `json:"canPublishSources,omitempty"` // "camera", "microphone", …; empty allows all
	CanUpdateOwnMetadata  *bool    `json:"canUpdateOwnMetadata,omitempty"`
	CanSubscribeMetrics   *bool    `json:"canSubscribeMetrics,omitempty"`
	CanManageAgentSession *bool    `json:"canManageAgentSession,omitempty"`

	IngressAdmin bool `json:"ingressAdmin,omitempty"`
	Hidden       bool `json:"hidden,omitempty"`   // others are not told of the participant
	Recorder     bool `json:"recorder,omitempty"` // the participant records the room
	Agent        bool `json:"agent,omitempty"`    // may register as an agent worker
}

// MayPublish reports whether sources may be published; by default yes.
func (g *Grant) MayPublish() bool { return g.CanPublish == nil || *g.CanPublish }

// MaySubscribe reports whether sources may be subscribed to; by default yes.
func (g *Grant) MaySubscribe() bool { return g.CanSubscribe == nil || *g.CanSubscribe }

// MayPublishData reports whether data messages may be sent; by default as MayPublish.
func (g *Grant) MayPublishData() bool {
	if g.CanPublishData == nil {
		return g.MayPublish()
	}
	return *g.CanPublishData
}

// MayUpdateOwnMetadata reports whether the participant may change its own name, metadata and attributes; by default no.
func (g *Grant) MayUpdateOwnMetadata() bool {
	return g.CanUpdateOwnMetadata != nil && *g.CanUpdateOwnMetadata
}

// MaySubscribeMetrics reports whether metrics of other participants may be received; by default no.
func (g *Grant) MaySubscribeMetrics() bool {
	return g.CanSubscribeMetrics != nil && *g.CanSubscribeMetrics
}

// MayManageAgentSession reports whether an agent's session may be controlled; by default no.
func (g *Grant) MayManageAgentSession() bool {
	return g.CanManageAgentSession != nil && *g.CanManageAgentSession
}
