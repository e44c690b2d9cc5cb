package api

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/token"
)

func openAPI(t testing.TB) (*API, *stub) {
	s := newStub()
	a, _ := newTestAPI(t, s, func(c *Config) { c.TokenPolicy = TokensOpen })
	return a, s
}

func issued(t *testing.T, got answer) (TokenResponse, *token.Claims) {
	t.Helper()
	require.Equal(t, http.StatusCreated, got.status, got.body)
	var resp TokenResponse
	got.decode(t, &resp)
	claims, err := token.Verify(token.Keys{testKey: testSecret}, resp.ParticipantToken, time.Now())
	require.NoError(t, err)
	return resp, claims
}

func TestTokenSourceOpen(t *testing.T) {
	a, s := openAPI(t)
	for name, body := range map[string]string{
		"snake": `{"room_name":"r","participant_name":"Ada","participant_identity":"ada","participant_metadata":"m",
			"participant_attributes":{"k":"v"},"room_config":{"empty_timeout":30},"from_the_future":{"x":[1]}}`,
		"camel": `{"roomName":"r","participantName":"Ada","participantIdentity":"ada","participantMetadata":"m",
			"participantAttributes":{"k":"v"},"roomConfig":{"emptyTimeout":30}}`,
	} {
		t.Run(name, func(t *testing.T) {
			resp, claims := issued(t, ask(a, "POST", "/v1/edge?region=eu-west", body))
			require.Equal(t, "wss://eu.example", resp.ServerURL)
			require.Len(t, resp.Edges, 4)
			require.EqualValues(t, "r", s.query.Room)
			require.EqualValues(t, "eu-west", s.query.Region)
			require.True(t, claims.Grant.RoomJoin)
			require.Equal(t, "r", claims.Grant.Room)
			require.EqualValues(t, "ada", claims.Identity)
			require.Equal(t, "Ada", claims.Name)
			require.Equal(t, "m", claims.Metadata)
			require.Equal(t, map[string]string{"k": "v"}, claims.Attributes)
			require.JSONEq(t, `{"emptyTimeout":30}`, string(claims.RoomConfig))
			require.False(t, claims.Grant.RoomAdmin || claims.Grant.RoomCreate)
		})
	}
	for _, body := range []string{"", "{}"} {
		_, first := issued(t, ask(a, "POST", "/v1/edge", body))
		_, second := issued(t, ask(a, "POST", "/v1/edge", body))
		require.NotEmpty(t, first.Identity)
		require.NotEqual(t, first.Identity, second.Identity)
		require.NotEmpty(t, first.Grant.Room)
	}
}

func TestTokenSourceBadInput(t *testing.T) {
	a, s := openAPI(t)
	long := strings.Repeat("x", mesh.MaxNameLength+1)
	for name, tc := range map[string]struct {
		body   string
		status int
	}{
		"no JSON":         {"room=r", http.StatusBadRequest},
		"array":           {"[]", http.StatusBadRequest},
		"wrong type":      {`{"room_name":7}`, http.StatusBadRequest},
		"long room":       {`{"room_name":"` + long + `"}`, http.StatusBadRequest},
		"long identity":   {`{"participant_identity":"` + long + `"}`, http.StatusBadRequest},
		"long name":       {`{"participant_name":"` + long + `"}`, http.StatusBadRequest},
		"not UTF-8":       {"{\"room_name\":\"\xff\"}", http.StatusBadRequest},
		"nested too deep": {`{"x":` + strings.Repeat("[", 1000) + strings.Repeat("]", 1000) + `}`, http.StatusBadRequest},
		"too large":       {`{"participant_metadata":"` + strings.Repeat("m", maxTokenRequest) + `"}`, http.StatusRequestEntityTooLarge},
		"token too large": {`{"participant_metadata":"` + strings.Repeat("m", maxTokenRequest-100) + `"}`, http.StatusBadRequest},
	} {
		t.Run(name, func(t *testing.T) {
			got := ask(a, "POST", "/v1/edge", tc.body)
			require.Equal(t, tc.status, got.status, got.body)
			var e errorBody
			got.decode(t, &e)
			require.NotEmpty(t, e.Error)
			require.NotEmpty(t, e.Hint)
		})
	}
	require.Equal(t, http.StatusBadRequest, ask(a, "POST", "/v1/edge?region=-", "{}").status)
	s.edges = nil
	got := ask(a, "POST", "/v1/edge", "{}")
	require.Equal(t, http.StatusServiceUnavailable, got.status)
	require.NotEmpty(t, got.header.Get("Retry-After"))
}

func TestTokenSourceClosed(t *testing.T) {
	a, _ := newTestAPI(t, newStub(), nil)
	yes, no := true, false
	join := token.Claims{
		Identity: "ada", Name: "Ada", Kind: "agent", Metadata: "m",
		Grant: token.Grant{RoomJoin: true, Room: "r", CanPublish: &no, Hidden: true},
	}
	changing := join
	changing.Grant.CanUpdateOwnMetadata, changing.Grant.RoomCreate = &yes, true
	nameless := token.Claims{Grant: token.Grant{RoomJoin: true, Room: "r"}}
	for name, tc := range map[string]struct {
		claims *token.Claims
		body   string
		status int
		check  func(t *testing.T, c *token.Claims)
	}{
		"no token": {nil, "{}", http.StatusUnauthorized, nil},
		"same grants": {&join, "{}", http.StatusCreated, func(t *testing.T, c *token.Claims) {
			require.EqualValues(t, "ada", c.Identity)
			require.Equal(t, "agent", c.Kind)
			require.Equal(t, join.Grant, c.Grant)
		}},
		"repeats what it says": {&join, `{"room_name":"r","participant_identity":"ada","participant_name":"Ada"}`, http.StatusCreated, nil},
		"other room":           {&join, `{"room_name":"x"}`, http.StatusForbidden, nil},
		"other identity":       {&join, `{"participant_identity":"eve"}`, http.StatusForbidden, nil},
		"other name":           {&join, `{"participant_name":"Eve"}`, http.StatusForbidden, nil},
		"room config":          {&join, `{"room_config":{"max_participants":2}}`, http.StatusForbidden, nil},
		"may change": {
			&changing, `{"participant_name":"Eve","participant_metadata":"n","participant_attributes":{"a":"b"},"room_config":{"max_participants":2}}`, http.StatusCreated,
			func(t *testing.T, c *token.Claims) {
				require.Equal(t, "Eve", c.Name)
				require.Equal(t, "n", c.Metadata)
				require.Equal(t, "b", c.Attributes["a"])
				require.JSONEq(t, `{"maxParticipants":2}`, string(c.RoomConfig))
			},
		},
		"names itself": {&nameless, `{"participant_identity":"eve"}`, http.StatusCreated, func(t *testing.T, c *token.Claims) {
			require.EqualValues(t, "eve", c.Identity)
		}},
		"is named": {&nameless, ``, http.StatusCreated, func(t *testing.T, c *token.Claims) {
			require.NotEmpty(t, c.Identity)
		}},
		"no roomJoin":  {&token.Claims{Grant: token.Grant{RoomAdmin: true, Room: "r"}}, "{}", http.StatusForbidden, nil},
		"no room":      {&token.Claims{Grant: token.Grant{RoomJoin: true}}, `{"room_name":"r"}`, http.StatusForbidden, nil},
		"bad identity": {&token.Claims{Identity: mesh.Identity(strings.Repeat("x", 300)), Grant: nameless.Grant}, "{}", http.StatusForbidden, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var headers []string
			if tc.claims != nil {
				headers = []string{"Authorization", "Bearer " + mint(t, *tc.claims)}
			}
			got := ask(a, "POST", "/v1/edge", tc.body, headers...)
			require.Equal(t, tc.status, got.status, got.body)
			if tc.status != http.StatusCreated {
				require.Contains(t, got.body, `"hint"`)
				return
			}
			_, claims := issued(t, got)
			require.WithinDuration(t, time.Now().Add(time.Hour), claims.Expires, time.Minute, "not beyond the token shown")
			if tc.check != nil {
				tc.check(t, claims)
			}
		})
	}
	expired, err := token.Mint(testKey, testSecret, join, time.Hour, time.Now().Add(-3*time.Hour))
	require.NoError(t, err)
	got := ask(a, "POST", "/v1/edge", "{}", "Authorization", "Bearer "+expired)
	require.Equal(t, http.StatusUnauthorized, got.status)
	require.Contains(t, got.body, "expired")
	foreign, err := token.Mint(testKey, strings.Repeat("f", 32), join, time.Hour, time.Now())
	require.NoError(t, err)
	require.Equal(t, http.StatusUnauthorized, ask(a, "POST", "/v1/edge", "{}", "Authorization", "Bearer "+foreign).status)
}

func FuzzTokenRequest(f *testing.F) {
	f.Add([]byte(`{"room_name":"r","participantAttributes":{"k":"v"},"room_config":{"agents":[{"agent_name":"a"}]}}`))
	f.Add([]byte(`{"roomName":null}`))
	f.Add([]byte(``))
	f.Fuzz(func(t *testing.T, body []byte) {
		req, err := parseTokenRequest(body)
		if err != nil {
			return
		}
		require.LessOrEqual(t, len(req.room), mesh.MaxNameLength)
		require.LessOrEqual(t, len(req.identity), mesh.MaxNameLength)
		require.True(t, req.roomConfig == nil || json.Valid(req.roomConfig))
		claims := openClaims(req)
		require.NotEmpty(t, claims.Identity)
		require.NotEmpty(t, claims.Grant.Room)
	})
}
