package api

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"time"

	"github.com/livekit/protocol/livekit"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/token"
)

const maxTokenRequest = 64 << 10 // bytes

// TokenResponse is the answer of POST /v1/edge: what LiveKit SDKs call a TokenSource response, and the edges beside.
type TokenResponse struct {
	ServerURL        string `json:"server_url"`
	ParticipantToken string `json:"participant_token"`
	Edges            []Edge `json:"edges"` // best first; ServerURL is that of the first
}

// refusal is a request for a token that is not granted.
type refusal struct {
	status     int
	text, hint string
}

func (e *refusal) Error() string { return e.text }

// tokenSource chooses the edge for a participant about to join, and signs its token.
//
// With TokensClosed the caller shows an access token that allows joining the room and gets one with the same grants,
// identity and expiry. Without identity in it the request may name one. What the participant says of itself (name, metadata,
// attributes) may differ from the token only if that allows updating own metadata; the room's configuration only
// if it allows creating rooms.
func (a *API) tokenSource(w http.ResponseWriter, r *http.Request) {
	raw, hasToken := bearer(r)
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxTokenRequest))
	if err != nil {
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			a.refuse(w, &refusal{http.StatusRequestEntityTooLarge, "the request is too large", "keep it under 64 KiB"})
		} else {
			a.refuse(w, &refusal{http.StatusBadRequest, "the request broke off", "send it again"})
		}
		return
	}
	req, err := parseTokenRequest(body)
	if err != nil {
		a.refuse(w, err)
		return
	}
	q, ok := a.edgeQuery(w, r)
	if !ok {
		a.metrics.tokens.WithLabelValues("invalid").Inc()
		return
	}
	now := time.Now()
	claims, ttl := &token.Claims{}, a.cfg.TokenTTL
	if a.cfg.TokenPolicy == TokensOpen {
		claims = openClaims(req)
	} else {
		if !hasToken {
			a.refuse(w, &refusal{
				http.StatusUnauthorized, "an access token is needed",
				"send one that allows joining the room as 'Authorization: Bearer …', as your application or 'meridian token' makes it",
			})
			return
		}
		claims, err = token.Verify(a.cfg.Keys, raw, now)
		if err != nil {
			err = &refusal{http.StatusUnauthorized, err.Error(), "make a new token with a key of this mesh, as 'meridian token' does"}
		} else {
			ttl = min(ttl, claims.Expires.Sub(now))
			claims, err = closedClaims(req, claims)
		}
	}
	if err != nil {
		a.refuse(w, err)
		return
	}
	q.Room = mesh.RoomName(claims.Grant.Room)
	edges := edgesOf(a.rank(r, q))
	if len(edges) == 0 {
		a.metrics.tokens.WithLabelValues("failed").Inc()
		w.Header().Set("Retry-After", "2")
		writeError(w, http.StatusServiceUnavailable, "no edge is healthy", "try again in a moment; GET /readyz says what this node lacks")
		return
	}
	// A token in its last seconds is still good by the verifier's leeway; Mint takes 0 for the default.
	key := cmp.Or(claims.APIKey, a.cfg.SigningKey)
	signed, err := token.Mint(key, a.cfg.Keys[key], *claims, max(ttl, time.Second), now)
	if err != nil {
		a.metrics.tokens.WithLabelValues("failed").Inc()
		a.log.Warn("token cannot be signed", "room", claims.Grant.Room, "participant", claims.Identity, "err", err)
		writeError(w, http.StatusBadRequest, "the token cannot be signed", "send less metadata, attributes and room configuration")
		return
	}
	a.metrics.tokens.WithLabelValues("issued").Inc()
	writeJSON(w, http.StatusCreated, TokenResponse{ServerURL: edges[0].URL, ParticipantToken: signed, Edges: edges})
}

func (a *API) refuse(w http.ResponseWriter, err error) {
	var no *refusal
	if !errors.As(err, &no) {
		no = &refusal{http.StatusBadRequest, err.Error(), "correct the request"}
	}
	switch no.status {
	case http.StatusUnauthorized:
		a.metrics.tokens.WithLabelValues("refused").Inc()
		writeUnauthorized(w, no.text, no.hint)
		return
	case http.StatusForbidden:
		a.metrics.tokens.WithLabelValues("refused").Inc()
	default:
		a.metrics.tokens.WithLabelValues("invalid").Inc()
	}
	writeError(w, no.status, no.text, no.hint)
}

// tokenRequest is a TokenSourceRequest within the limits. Empty fields were not given.
type tokenRequest struct {
	room       mesh.RoomName
	identity   mesh.Identity
	name       string
	metadata   string
	attributes map[string]string
	roomConfig json.RawMessage
}

// parseTokenRequest reads JSON with the field names in snake or camel case; an empty body asks for nothing in particular.
func parseTokenRequest(body []byte) (*tokenRequest, error) {
	var m livekit.TokenSourceRequest
	if len(body) > 0 {
		if err := (protojson.UnmarshalOptions{DiscardUnknown: true, RecursionLimit: 50}).Unmarshal(body, &m); err != nil {
			return nil, &refusal{http.StatusBadRequest, "the request is no valid JSON of a token request", `send an object like {"room_name":"…","participant_identity":"…"}`}
		}
	}
	req := &tokenRequest{name: m.GetParticipantName(), metadata: m.GetParticipantMetadata(), attributes: m.GetParticipantAttributes()}
	var err error
	if s := m.GetRoomName(); s != "" {
		if req.room, err = mesh.ParseRoomName(s); err != nil {
			return nil, &refusal{http.StatusBadRequest, err.Error(), "choose another room_name"}
		}
	}
	if s := m.GetParticipantIdentity(); s != "" {
		if req.identity, err = mesh.ParseIdentity(s); err != nil {
			return nil, &refusal{http.StatusBadRequest, err.Error(), "choose another participant_identity"}
		}
	}
	if err := checkLimits(req.name, req.metadata, req.attributes); err != nil {
		return nil, &refusal{http.StatusBadRequest, err.Error(), "send less"}
	}
	if m.RoomConfig != nil {
		if req.roomConfig, err = protojson.Marshal(m.RoomConfig); err != nil {
			return nil, &refusal{http.StatusBadRequest, "room_config is not valid", "leave it out or correct it"}
		}
	}
	return req, nil
}

// openClaims are those anyone may have in development.
func openClaims(req *tokenRequest) *token.Claims {
	yes := true
	c := &token.Claims{
		Identity: req.identity, Name: req.name, Metadata: req.metadata, Attributes: req.attributes, RoomConfig: req.roomConfig,
		Grant: token.Grant{RoomJoin: true, Room: string(req.room), CanUpdateOwnMetadata: &yes},
	}
	if c.Identity == "" {
		c.Identity = mesh.Identity(mesh.NewID("guest-"))
	}
	if c.Grant.Room == "" {
		c.Grant.Room = mesh.NewID("room-")
	}
	return c
}

// closedClaims are those of the token shown, as far as the request keeps within them.
func closedClaims(req *tokenRequest, shown *token.Claims) (*token.Claims, error) {
	forbid := func(text, hint string) (*token.Claims, error) {
		return nil, &refusal{http.StatusForbidden, text, hint}
	}
	c := shown.Clone()
	if !c.Grant.RoomJoin {
		return forbid("the token does not allow joining a room", "make one with roomJoin and the room's name")
	}
	if _, err := mesh.ParseRoomName(c.Grant.Room); err != nil {
		return forbid("the token names no valid room", "make one with roomJoin and the room's name")
	}
	if req.room != "" && string(req.room) != c.Grant.Room {
		return forbid("the token is for another room", "ask for its room, or make a token for this one")
	}
	switch {
	case c.Identity == "" && req.identity == "":
		c.Identity = mesh.Identity(mesh.NewID("guest-"))
	case c.Identity == "":
		c.Identity = req.identity
	case req.identity != "" && req.identity != c.Identity:
		return forbid("the token is for another participant", "ask for its identity, or make a token for this one")
	}
	if _, err := mesh.ParseIdentity(string(c.Identity)); err != nil {
		return forbid("the token names no valid identity", "make one with an identity of at most 256 bytes")
	}
	changed := req.name != "" && req.name != c.Name || req.metadata != "" && req.metadata != c.Metadata ||
		len(req.attributes) > 0 && !maps.Equal(req.attributes, c.Attributes)
	if changed {
		if !c.Grant.MayUpdateOwnMetadata() {
			return forbid("the token does not allow choosing name, metadata or attributes", "leave them out, or make a token with canUpdateOwnMetadata")
		}
		if req.name != "" {
			c.Name = req.name
		}
		if req.metadata != "" {
			c.Metadata = req.metadata
		}
		if len(req.attributes) > 0 {
			c.Attributes = req.attributes
		}
	}
	if req.roomConfig != nil {
		if !c.Grant.RoomCreate {
			return forbid("the token does not allow configuring the room", "leave room_config out, or make a token with roomCreate")
		}
		c.RoomConfig = req.roomConfig
	}
	return c, nil
}

// checkLimits returns which limit of mesh is exceeded, if any.
func checkLimits(name, metadata string, attributes map[string]string) error {
	if len(name) > mesh.MaxNameLength {
		return fmt.Errorf("the name has %d bytes, at most %d are allowed", len(name), mesh.MaxNameLength)
	}
	if len(metadata) > mesh.MaxMetadataBytes {
		return fmt.Errorf("the metadata has %d bytes, at most %d are allowed", len(metadata), mesh.MaxMetadataBytes)
	}
	total := 0
	for k, v := range attributes {
		total += len(k) + len(v)
	}
	if total > mesh.MaxAttributesBytes {
		return fmt.Errorf("the attributes have %d bytes, at most %d are allowed", total, mesh.MaxAttributesBytes)
	}
	return nil
}
