package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/token"
)

const maxTwirpRequest = 2 << 20 // bytes: metadata of 512 KiB, escaped as JSON

// twirpError is how the server API says no.
type twirpError struct {
	Code string `json:"code"`
	Msg  string `json:"msg"`
}

func (e *twirpError) Error() string { return e.Code + ": " + e.Msg }

// The codes of Twirp in use here, and their HTTP statuses.
var twirpStatus = map[string]int{
	"invalid_argument":    http.StatusBadRequest,
	"malformed":           http.StatusBadRequest,
	"unauthenticated":     http.StatusUnauthorized,
	"bad_route":           http.StatusNotFound,
	"not_found":           http.StatusNotFound,
	"deadline_exceeded":   http.StatusRequestTimeout,
	"canceled":            http.StatusRequestTimeout,
	"failed_precondition": http.StatusPreconditionFailed,
	"resource_exhausted":  http.StatusTooManyRequests,
	"unimplemented":       http.StatusNotImplemented,
	"unavailable":         http.StatusServiceUnavailable,
	"internal":            http.StatusInternalServerError,
}

var errPermission = &twirpError{"unauthenticated", "permissions denied"}

func invalidArgument(err error) error { return &twirpError{"invalid_argument", err.Error()} }

// method is one remote procedure: it reads its request with decode, after the caller was let in by its grants.
type method func(ctx context.Context, rooms Rooms, g *token.Grant, decode func(proto.Message) error) (proto.Message, error)

// rpc makes a method of a function on messages. allow says whether the grants suffice for the request.
func rpc[T any, In interface {
	*T
	proto.Message
}, Out proto.Message](allow func(*token.Grant, In) bool, do func(context.Context, Rooms, In) (Out, error)) method {
	return func(ctx context.Context, rooms Rooms, g *token.Grant, decode func(proto.Message) error) (proto.Message, error) {
		in := In(new(T))
		if err := decode(in); err != nil {
			return nil, err
		}
		if !allow(g, in) {
			return nil, errPermission
		}
		return do(ctx, rooms, in)
	}
}

// services are those client libraries know; their methods that are not in the table are unimplemented, not unknown.
var services = map[string]map[string]method{
	"livekit.RoomService":          roomService,
	"livekit.Egress":               nil,
	"livekit.Ingress":              nil,
	"livekit.SIP":                  nil,
	"livekit.AgentDispatchService": nil,
	"livekit.Connector":            nil,
}

// twirp answers POST /twirp/{service}/{method}.
func (a *API) twirp(w http.ResponseWriter, r *http.Request) {
	out, isJSON, err := a.call(w, r)
	if err == nil {
		var b []byte
		contentType := "application/protobuf"
		if isJSON {
			contentType = "application/json"
			b, err = protojson.MarshalOptions{UseProtoNames: true, EmitUnpopulated: true}.Marshal(out)
		} else {
			b, err = proto.Marshal(out)
		}
		if err == nil {
			w.Header().Set("Content-Type", contentType)
			_, _ = w.Write(b) // the client is gone: nobody left to tell
			return
		}
	}
	e := asTwirpError(err)
	if e.Code == "internal" {
		a.log.Error("server API call failed", "path", r.URL.Path, "err", err)
	}
	writeJSON(w, twirpStatus[e.Code], e)
}

func (a *API) call(w http.ResponseWriter, r *http.Request) (out proto.Message, isJSON bool, err error) {
	badRoute := func(format string, args ...any) (proto.Message, bool, error) {
		return nil, false, &twirpError{"bad_route", fmt.Sprintf(format, args...)}
	}
	methods, known := services[r.PathValue("service")]
	if !known {
		return badRoute("no handler for path %.200q", r.URL.Path)
	}
	if r.Method != http.MethodPost {
		return badRoute("unsupported method %.20q (only POST is allowed)", r.Method)
	}
	mediaType, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if isJSON = mediaType == "application/json"; !isJSON && mediaType != "application/protobuf" {
		return badRoute("unexpected Content-Type: %.100q", r.Header.Get("Content-Type"))
	}
	raw, ok := token.FromRequest(r)
	if !ok {
		return nil, false, errPermission
	}
	claims, err := token.Verify(a.cfg.Keys, raw, time.Now())
	if err != nil {
		return nil, false, &twirpError{"unauthenticated", err.Error()}
	}
	do, ok := methods[r.PathValue("method")]
	if !ok || a.deps.Rooms == nil {
		return nil, false, &twirpError{"unimplemented", "this server does not implement the method"}
	}
	out, err = do(r.Context(), a.deps.Rooms, &claims.Grant, func(m proto.Message) error {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxTwirpRequest))
		if err != nil {
			return &twirpError{"malformed", "the request broke off or is larger than 2 MiB"}
		}
		if isJSON {
			err = protojson.UnmarshalOptions{DiscardUnknown: true, RecursionLimit: 100}.Unmarshal(body, m)
		} else {
			err = proto.Unmarshal(body, m)
		}
		if err != nil {
			return &twirpError{"malformed", "the request could not be decoded"}
		}
		return nil
	})
	return out, isJSON, err
}

// asTwirpError hides the texts of errors that were not meant for callers.
func asTwirpError(err error) *twirpError {
	var e *twirpError
	switch {
	case errors.As(err, &e):
		return e
	case errors.Is(err, ErrNotFound):
		return &twirpError{"not_found", err.Error()}
	case errors.Is(err, ErrConflict):
		return &twirpError{"failed_precondition", err.Error()}
	case errors.Is(err, ErrUnavailable):
		return &twirpError{"unavailable", err.Error()}
	case errors.Is(err, mesh.ErrInvalidName):
		return &twirpError{"invalid_argument", err.Error()}
	case errors.Is(err, context.DeadlineExceeded):
		return &twirpError{"deadline_exceeded", "the mesh did not answer in time"}
	case errors.Is(err, context.Canceled):
		return &twirpError{"canceled", "the caller went away"}
	}
	return &twirpError{"internal", "internal error: the node's log has more"}
}
