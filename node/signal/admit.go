package signal

import (
	"errors"
	"maps"
	"net/http"
	"strings"
	"time"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/token"
)

// minProtocol is the oldest protocol version served: sync-stream IDs came with it.
const minProtocol = 9

func denied(text string) error     { return &RefusedError{http.StatusUnauthorized, text} }
func badRequest(text string) error { return &RefusedError{http.StatusBadRequest, text} }

// admit reads all that a request to join says and checks all that needs no knowledge of rooms. The error is a *RefusedError.
func (s *Server) admit(r *http.Request, v1 bool) (JoinRequest, error) {
	claims, err := s.authenticate(r)
	if err != nil {
		return JoinRequest{}, err
	}
	j := JoinRequest{Claims: claims, RemoteAddr: s.cfg.ClientAddr(r)}
	q := r.URL.Query()
	switch wrapped := q.Get("join_request"); {
	case wrapped != "":
		msg, err := decodeJoinRequest(wrapped)
		if err == nil {
			err = j.fromJoinRequest(msg)
		}
		if err != nil {
			return j, badRequest("join_request: " + err.Error())
		}
		j.PublishSuffix = q.Get("publish")
	case v1:
		return j, badRequest("join_request is required")
	default:
		if err := j.fromQuery(q); err != nil {
			return j, badRequest(err.Error())
		}
	}
	j.Client.settle(r.UserAgent())
	return j, j.settle()
}

func (s *Server) authenticate(r *http.Request) (*token.Claims, error) {
	raw, ok := token.FromRequest(r)
	if !ok {
		return nil, denied("permissions denied: no access token")
	}
	claims, err := token.Verify(s.keys(), raw, time.Now())
	if err != nil {
		return nil, denied(err.Error())
	}
	if !claims.Grant.RoomJoin {
		return nil, denied("permissions denied: no permissions to access the room")
	}
	return claims, nil
}

// settle checks names and limits and works out who comes in with what.
func (j *JoinRequest) settle() error {
	if j.Client.Protocol < minProtocol {
		return badRequest("unsupported protocol version: 9 or newer is needed")
	}
	var err error
	if j.Claims.Grant.Room == "" {
		return badRequest("no room name")
	}
	if j.Room, err = mesh.ParseRoomName(j.Claims.Grant.Room); err != nil {
		return badRequest(err.Error())
	}
	if j.Claims.Identity == "" {
		return badRequest("identity cannot be empty")
	}
	j.Identity = j.Claims.Identity
	j.Permission = j.Claims.Permission()
	if j.PublishSuffix != "" {
		j.Identity += mesh.Identity("#" + j.PublishSuffix)
		j.Permission.CanSubscribe = false
	}
	if _, err = mesh.ParseIdentity(string(j.Identity)); err != nil {
		return badRequest(err.Error())
	}
	if len(j.ParticipantID) > maxIDBytes {
		return badRequest("participant ID is too long")
	}
	if j.Reconnect && j.ParticipantID == "" {
		j.Reconnect = false // nothing to resume: an ordinary join, as other servers take it
	}
	j.overlay()
	if err = checkProfile(j.Claims.Name, j.Metadata, j.Attributes); err != nil {
		var limit *limitError
		errors.As(err, &limit)
		return badRequest(limit.what + " is too long")
	}
	return nil
}

// overlay lays what the client says of itself over what the token says, where the token permits it. An empty value deletes
// nothing.
func (j *JoinRequest) overlay() {
	metadata, attributes := j.Metadata, j.Attributes
	j.Metadata, j.Attributes = j.Claims.Metadata, maps.Clone(j.Claims.Attributes)
	if !j.Permission.CanUpdateMetadata {
		return
	}
	if metadata != "" {
		j.Metadata = metadata
	}
	for k, v := range attributes {
		if v == "" {
			continue
		}
		if j.Attributes == nil {
			j.Attributes = make(map[string]string, len(attributes))
		}
		j.Attributes[strings.Clone(k)] = strings.Clone(v) // not to keep the whole request in memory
	}
}
