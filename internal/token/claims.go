package token

import (
	"encoding/json"
	"maps"
	"slices"
	"time"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

// Claims is what a verified token says about its bearer.
type Claims struct {
	APIKey   string        // who signed it ("iss")
	Identity mesh.Identity // "sub", else "jti"; empty in tokens for the server API; not yet checked for length

	Name        string
	Metadata    string
	Attributes  map[string]string
	Kind        string   // "standard", "agent", …; empty means standard
	KindDetails []string // lower-cased enum names, passed through

	Grant      Grant           // what it allows; the zero Grant when the token has none
	SIP        json.RawMessage // grants of the telephony API, passed through
	Agent      json.RawMessage // grants of the agent API, passed through
	RoomConfig json.RawMessage // protojson RoomConfiguration, applied when the join opens the room
	RoomPreset string

	NotBefore time.Time // zero when absent
	Expires   time.Time
	SHA256    string // base64 of the digest of a signed body; empty when there is none
}

// Clone returns a deep copy, safe to change.
func (c *Claims) Clone() *Claims {
	d := *c
	d.Attributes = maps.Clone(c.Attributes)
	d.KindDetails = slices.Clone(c.KindDetails)
	d.Grant.CanPublishSources = slices.Clone(c.Grant.CanPublishSources)
	return &d
}

// Permission is what the bearer may do as a participant of the granted room.
func (c *Claims) Permission() mesh.Permission {
	g := &c.Grant
	p := mesh.Permission{
		CanSubscribe:        g.MaySubscribe(),
		CanPublish:          g.MayPublish(),
		CanPublishData:      g.MayPublishData(),
		CanUpdateMetadata:   g.MayUpdateOwnMetadata(),
		CanSubscribeMetrics: g.MaySubscribeMetrics(),
		Hidden:              g.Hidden,
		Recorder:            g.Recorder,
		Agent:               g.Agent,
	}
	for _, name := range g.CanPublishSources {
		if t, ok := sourceTypes[name]; ok {
			p.CanPublishSources = append(p.CanPublishSources, t)
		}
	}
	if len(g.CanPublishSources) > 0 && len(p.CanPublishSources) == 0 {
		p.CanPublish = false // a restriction to sources nobody knows must not become no restriction at all
	}
	return p
}

var sourceTypes = map[string]mesh.SourceType{
	"unknown":            mesh.SourceUnknown,
	"camera":             mesh.SourceCamera,
	"microphone":         mesh.SourceMicrophone,
	"screen_share":       mesh.SourceScreenShare,
	"screen_share_audio": mesh.SourceScreenShareAudio,
}
