package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/livekit/protocol/livekit"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/token"
)

// fakeRooms has one room "r" with one participant "ada".
type fakeRooms struct {
	calls []string
	sent  mesh.DataMessage
	fail  error
}

func (f *fakeRooms) call(format string, args ...any) error {
	f.calls = append(f.calls, fmt.Sprintf(format, args...))
	return f.fail
}

var room = RoomInfo{
	Room:         mesh.Room{Name: "r", ID: "RM_1", Metadata: "m", CreatedAt: time.Unix(1000, 0), EmptyTimeout: 300 * time.Second, MaxParticipants: 7},
	Participants: 1, Publishers: 1,
}

var ada = mesh.Participant{
	ID: "PA_1", Identity: "ada", Name: "Ada", Kind: "agent", State: mesh.StateActive, JoinedAt: time.Unix(2000, 0), Version: 4, Region: "eu-west",
	Permission:   mesh.Permission{CanSubscribe: true, CanPublishSources: []mesh.SourceType{mesh.SourceCamera}},
	Capabilities: []int32{1}, Publisher: true, Attributes: map[string]string{"k": "v"},
	Sources: []mesh.Source{
		{ID: "TR_V", Kind: mesh.Video, Type: mesh.SourceScreenShare, MIMEType: "video/VP8", Encodings: []mesh.Encoding{{RID: "q", Width: 320}, {RID: "h"}, {RID: "f"}}},
		{ID: "TR_A", Kind: mesh.Audio, Type: mesh.SourceMicrophone, MIMEType: "audio/opus", Muted: true},
	},
}

func (f *fakeRooms) ListRooms(_ context.Context, names []mesh.RoomName) ([]RoomInfo, error) {
	return []RoomInfo{room}, f.call("list %v", names)
}

func (f *fakeRooms) CreateRoom(_ context.Context, c CreateRoom) (RoomInfo, error) {
	return room, f.call("create %s %v %v %d", c.Name, c.EmptyTimeout, c.DepartureTimeout, c.MaxParticipants)
}

func (f *fakeRooms) DeleteRoom(_ context.Context, r mesh.RoomName) error {
	return f.call("delete %s", r)
}

func (f *fakeRooms) UpdateRoomMetadata(_ context.Context, r mesh.RoomName, metadata string) (RoomInfo, error) {
	return room, f.call("metadata %s %s", r, metadata)
}

func (f *fakeRooms) ListParticipants(_ context.Context, r mesh.RoomName) ([]mesh.Participant, error) {
	return []mesh.Participant{ada}, f.call("participants %s", r)
}

func (f *fakeRooms) GetParticipant(_ context.Context, r mesh.RoomName, id mesh.Identity) (mesh.Participant, error) {
	return ada, f.call("get %s %s", r, id)
}

func (f *fakeRooms) RemoveParticipant(_ context.Context, r mesh.RoomName, id mesh.Identity) error {
	return f.call("remove %s %s", r, id)
}

func (f *fakeRooms) UpdateParticipant(_ context.Context, r mesh.RoomName, id mesh.Identity, u ParticipantUpdate) (mesh.Participant, error) {
	return ada, f.call("update %s %s %s %s %v %+v", r, id, u.Name, u.Metadata, u.Attributes, u.Permission)
}

func (f *fakeRooms) MuteSource(_ context.Context, r mesh.RoomName, id mesh.Identity, s mesh.SourceID, muted bool) (mesh.Source, error) {
	return ada.Sources[1], f.call("mute %s %s %s %v", r, id, s, muted)
}

func (f *fakeRooms) SendData(_ context.Context, r mesh.RoomName, m mesh.DataMessage) error {
	f.sent = m
	return f.call("data %s", r)
}

var adminGrant = token.Grant{RoomAdmin: true, RoomCreate: true, RoomList: true, Room: "r"}

func twirpAPI(t testing.TB) (*API, *fakeRooms) {
	f := &fakeRooms{}
	s := newStub()
	s.rooms = f
	a, _ := newTestAPI(t, s, nil)
	return a, f
}

// authorized adds a token to every request.
type authorized struct {
	client *http.Client
	bearer string
}

func (a authorized) Do(r *http.Request) (*http.Response, error) {
	r.Header.Set("Authorization", a.bearer)
	return a.client.Do(r)
}

// The official generated client must understand what the handlers say, in both encodings.
func TestRoomServiceWithGeneratedClients(t *testing.T) {
	a, f := twirpAPI(t)
	srv := httptest.NewServer(a.Handler())
	defer srv.Close()
	ctx, client := t.Context(), authorized{srv.Client(), "Bearer " + mint(t, token.Claims{Grant: adminGrant})}
	for name, c := range map[string]livekit.RoomService{
		"protobuf": livekit.NewRoomServiceProtobufClient(srv.URL, client),
		"JSON":     livekit.NewRoomServiceJSONClient(srv.URL, client),
	} {
		t.Run(name, func(t *testing.T) {
			f.calls = nil
			r, err := c.CreateRoom(ctx, &livekit.CreateRoomRequest{Name: "r", EmptyTimeout: 60, DepartureTimeout: 5, MaxParticipants: 3})
			require.NoError(t, err)
			require.True(t, proto.Equal(&livekit.Room{
				Sid: "RM_1", Name: "r", Metadata: "m", EmptyTimeout: 300, MaxParticipants: 7,
				CreationTime: 1000, CreationTimeMs: 1_000_000, NumParticipants: 1, NumPublishers: 1,
			}, r), r)
			rooms, err := c.ListRooms(ctx, &livekit.ListRoomsRequest{Names: []string{"r", ""}})
			require.NoError(t, err)
			require.Len(t, rooms.Rooms, 1)
			_, err = c.UpdateRoomMetadata(ctx, &livekit.UpdateRoomMetadataRequest{Room: "r", Metadata: "new"})
			require.NoError(t, err)
			list, err := c.ListParticipants(ctx, &livekit.ListParticipantsRequest{Room: "r"})
			require.NoError(t, err)
			require.Len(t, list.Participants, 1)
			p, err := c.GetParticipant(ctx, &livekit.RoomParticipantIdentity{Room: "r", Identity: "ada"})
			require.NoError(t, err)
			require.Equal(t, livekit.ParticipantInfo_AGENT, p.Kind)
			require.Equal(t, livekit.ParticipantInfo_ACTIVE, p.State)
			require.Equal(t, []livekit.TrackSource{livekit.TrackSource_CAMERA}, p.Permission.CanPublishSources)
			require.Equal(t, livekit.TrackType_VIDEO, p.Tracks[0].Type)
			require.Equal(t, livekit.TrackSource_SCREEN_SHARE, p.Tracks[0].Source)
			require.Len(t, p.Tracks[0].Codecs, 1)
			require.Equal(t, livekit.VideoQuality_HIGH, p.Tracks[0].Codecs[0].Layers[2].Quality)
			require.Equal(t, livekit.TrackType_AUDIO, p.Tracks[1].Type)
			m, err := c.MutePublishedTrack(ctx, &livekit.MuteRoomTrackRequest{Room: "r", Identity: "ada", TrackSid: "TR_A", Muted: true})
			require.NoError(t, err)
			require.True(t, m.Track.Muted)
			_, err = c.UpdateParticipant(ctx, &livekit.UpdateParticipantRequest{
				Room: "r", Identity: "ada", Name: "A", Metadata: "n", Attributes: map[string]string{"x": ""},
				Permission: &livekit.ParticipantPermission{CanPublish: true, CanPublishSources: []livekit.TrackSource{99}},
			})
			require.NoError(t, err)
			_, err = c.RemoveParticipant(ctx, &livekit.RoomParticipantIdentity{Room: "r", Identity: "ada"})
			require.NoError(t, err)
			_, err = c.DeleteRoom(ctx, &livekit.DeleteRoomRequest{Room: "r"})
			require.NoError(t, err)
			require.Equal(t, []string{
				"create r 1m0s 5s 3", "list [r]", "metadata r new", "participants r", "get r ada", "mute r ada TR_A true",
				"update r ada A n map[x:] &{CanSubscribe:false CanPublish:false CanPublishData:false CanPublishSources:[] CanUpdateMetadata:false CanSubscribeMetrics:false Hidden:false Recorder:false Agent:false}",
				"remove r ada", "delete r",
			}, f.calls)
			_, err = c.PerformRpc(ctx, &livekit.PerformRpcRequest{Room: "r"})
			require.ErrorContains(t, err, "unimplemented")
		})
	}
}

func TestSendData(t *testing.T) {
	a, f := twirpAPI(t)
	auth := []string{"Authorization", "Bearer " + mint(t, token.Claims{Grant: adminGrant}), "Content-Type", "application/json"}
	const path = "/twirp/livekit.RoomService/SendData"
	got := ask(a, "POST", path, `{"room":"r","data":"aGk=","kind":"LOSSY","topic":"t","destination_identities":["bob"],"destinationSids":["PA_1","PA_gone"]}`, auth...)
	require.Equal(t, http.StatusOK, got.status, got.body)
	require.Equal(t, []mesh.Identity{"bob", "ada"}, f.sent.Destinations)
	require.False(t, f.sent.Reliable)
	require.Empty(t, f.sent.Sender)
	var packet livekit.DataPacket
	require.NoError(t, proto.Unmarshal(f.sent.Payload, &packet))
	require.Equal(t, "hi", string(packet.GetUser().GetPayload()))
	require.Equal(t, "t", packet.GetUser().GetTopic())
	require.Empty(t, packet.GetParticipantIdentity())

	got = ask(a, "POST", path, `{"room":"r","data":"aGk="}`, auth...)
	require.Equal(t, http.StatusOK, got.status)
	require.True(t, f.sent.Reliable)
	require.Empty(t, f.sent.Destinations)

	f.sent = mesh.DataMessage{}
	got = ask(a, "POST", path, `{"room":"r","destination_sids":["PA_gone"]}`, auth...)
	require.Equal(t, http.StatusNotFound, got.status, "must not reach everyone")
	require.Empty(t, f.sent.Payload)
	require.Equal(t, http.StatusBadRequest, ask(a, "POST", path, `{"room":"r","nonce":"aGk="}`, auth...).status)
	require.Equal(t, http.StatusBadRequest, ask(a, "POST", path, `{"room":"r","destination_identities":[""]}`, auth...).status)
	many := strings.Repeat(`"x",`, maxDestinations) + `"x"`
	require.Equal(t, http.StatusBadRequest, ask(a, "POST", path, `{"room":"r","destination_identities":[`+many+`]}`, auth...).status)
}

func TestTwirpErrors(t *testing.T) {
	a, f := twirpAPI(t)
	bearerOf := func(g token.Grant) string { return "Bearer " + mint(t, token.Claims{Grant: g}) }
	admin := bearerOf(adminGrant)
	const service = "/twirp/livekit.RoomService/"
	for name, tc := range map[string]struct {
		method, path, contentType, auth, body string
		fail                                  error
		code                                  string
		status                                int
	}{
		"GET":                  {"GET", service + "ListRooms", "application/json", admin, "", nil, "bad_route", 404},
		"unknown service":      {"POST", "/twirp/livekit.Nothing/X", "application/json", admin, "{}", nil, "bad_route", 404},
		"no method":            {"POST", "/twirp/livekit.RoomService", "application/json", admin, "{}", nil, "bad_route", 404},
		"content type":         {"POST", service + "ListRooms", "text/plain", admin, "{}", nil, "bad_route", 404},
		"unknown method":       {"POST", service + "Nothing", "application/json", admin, "{}", nil, "unimplemented", 501},
		"egress":               {"POST", "/twirp/livekit.Egress/StartEgress", "application/json", admin, "{}", nil, "unimplemented", 501},
		"no token":             {"POST", service + "ListRooms", "application/json", "", "{}", nil, "unauthenticated", 401},
		"bad token":            {"POST", service + "ListRooms", "application/json", "Bearer x.y.z", "{}", nil, "unauthenticated", 401},
		"no roomList":          {"POST", service + "ListRooms", "application/json", bearerOf(token.Grant{RoomAdmin: true, Room: "r"}), "{}", nil, "unauthenticated", 401},
		"no roomCreate":        {"POST", service + "CreateRoom", "application/json", bearerOf(token.Grant{RoomAdmin: true, Room: "r"}), `{"name":"r"}`, nil, "unauthenticated", 401},
		"admin of another":     {"POST", service + "ListParticipants", "application/json", bearerOf(token.Grant{RoomAdmin: true, Room: "x"}), `{"room":"r"}`, nil, "unauthenticated", 401},
		"admin of nothing":     {"POST", service + "ListParticipants", "application/json", bearerOf(token.Grant{RoomAdmin: true}), `{}`, nil, "unauthenticated", 401},
		"joiner":               {"POST", service + "SendData", "application/json", bearerOf(token.Grant{RoomJoin: true, Room: "r"}), `{"room":"r"}`, nil, "unauthenticated", 401},
		"malformed JSON":       {"POST", service + "ListRooms", "application/json", admin, "{", nil, "malformed", 400},
		"malformed protobuf":   {"POST", service + "ListRooms", "application/protobuf", admin, "\xff\xff", nil, "malformed", 400},
		"too large":            {"POST", service + "ListRooms", "application/json", admin, strings.Repeat(" ", maxTwirpRequest+1), nil, "malformed", 400},
		"no room name":         {"POST", service + "CreateRoom", "application/json", admin, "{}", nil, "invalid_argument", 400},
		"10 kB room name":      {"POST", service + "CreateRoom", "application/json", admin, `{"name":"` + strings.Repeat("x", 10_000) + `"}`, nil, "invalid_argument", 400},
		"large metadata":       {"POST", service + "UpdateRoomMetadata", "application/json", admin, `{"room":"r","metadata":"` + strings.Repeat("x", mesh.MaxMetadataBytes+1) + `"}`, nil, "invalid_argument", 400},
		"large attributes":     {"POST", service + "UpdateParticipant", "application/json", admin, `{"room":"r","identity":"i","attributes":{"k":"` + strings.Repeat("x", mesh.MaxAttributesBytes) + `"}}`, nil, "invalid_argument", 400},
		"no identity":          {"POST", service + "RemoveParticipant", "application/json", admin, `{"room":"r"}`, nil, "invalid_argument", 400},
		"no track":             {"POST", service + "MutePublishedTrack", "application/json", admin, `{"room":"r","identity":"ada"}`, nil, "invalid_argument", 400},
		"not found":            {"POST", service + "GetParticipant", "application/json; charset=utf-8", admin, `{"room":"r","identity":"eve"}`, fmt.Errorf("participant %w", ErrNotFound), "not_found", 404},
		"conflict":             {"POST", service + "CreateRoom", "application/json", admin, `{"name":"r"}`, ErrConflict, "failed_precondition", 412},
		"unavailable":          {"POST", service + "DeleteRoom", "application/json", admin, `{"room":"r"}`, ErrUnavailable, "unavailable", 503},
		"too slow":             {"POST", service + "ListRooms", "application/json", admin, "{}", context.DeadlineExceeded, "deadline_exceeded", 408},
		"caller gone":          {"POST", service + "ListRooms", "application/json", admin, "{}", context.Canceled, "canceled", 408},
		"internal is not told": {"POST", service + "ListRooms", "application/json", admin, "{}", errors.New("secret detail"), "internal", 500},
	} {
		t.Run(name, func(t *testing.T) {
			f.fail = tc.fail
			got := ask(a, tc.method, tc.path, tc.body, "Content-Type", tc.contentType, "Authorization", tc.auth)
			require.Equal(t, tc.status, got.status, got.body)
			var e twirpError
			got.decode(t, &e)
			require.Equal(t, tc.code, e.Code)
			require.NotEmpty(t, e.Msg)
			require.NotContains(t, got.body, "secret")
		})
	}
	got := ask(a, "POST", service+"ListRooms", "{}", "Content-Type", "application/json")
	require.JSONEq(t, `{"code":"unauthenticated","msg":"permissions denied"}`, got.body)
}

func TestTwirpWithoutRooms(t *testing.T) {
	a, _ := newTestAPI(t, newStub(), nil)
	got := ask(a, "POST", "/twirp/livekit.RoomService/ListRooms", "{}",
		"Content-Type", "application/json", "Authorization", "Bearer "+mint(t, token.Claims{Grant: adminGrant}))
	require.Equal(t, http.StatusNotImplemented, got.status)
}

// Twirp's JSON has snake-case names, 64-bit numbers as strings, and shows defaults.
func TestTwirpJSONForm(t *testing.T) {
	a, _ := twirpAPI(t)
	got := ask(a, "POST", "/twirp/livekit.RoomService/ListRooms", "{}",
		"Content-Type", "application/json", "Authorization", "Bearer "+mint(t, token.Claims{Grant: adminGrant}))
	require.Equal(t, "application/json", got.header.Get("Content-Type"))
	var body struct {
		Rooms []map[string]any `json:"rooms"`
	}
	require.NoError(t, json.Unmarshal([]byte(got.body), &body))
	require.Equal(t, "1000", body.Rooms[0]["creation_time"])
	require.Equal(t, false, body.Rooms[0]["active_recording"])
}

func FuzzTwirp(f *testing.F) {
	a, _ := twirpAPI(f)
	auth := "Bearer " + mint(f, token.Claims{Grant: adminGrant})
	f.Add("SendData", `{"room":"r","data":"aGk="}`, true)
	f.Add("UpdateParticipant", `{"room":"r","identity":"ada","permission":{"can_publish_sources":["CAMERA"]}}`, true)
	f.Add("CreateRoom", "\x0a\x01r", false)
	f.Fuzz(func(t *testing.T, method, body string, isJSON bool) {
		contentType := "application/protobuf"
		if isJSON {
			contentType = "application/json"
		}
		r := httptest.NewRequest("POST", "/twirp/livekit.RoomService/X", strings.NewReader(body))
		r.SetPathValue("service", "livekit.RoomService")
		r.SetPathValue("method", method)
		r.Header.Set("Authorization", auth)
		r.Header.Set("Content-Type", contentType)
		w := httptest.NewRecorder()
		a.twirp(w, r)
		require.NotEqual(t, http.StatusInternalServerError, w.Code, w.Body.String())
	})
}
