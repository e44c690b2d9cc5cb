package api

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/livekit/protocol/livekit"
	"google.golang.org/protobuf/proto"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/token"
)

// roomService is the table of livekit.RoomService.
var roomService = map[string]method{
	"CreateRoom":         rpc(mayCreate[*livekit.CreateRoomRequest], createRoom),
	"ListRooms":          rpc(func(g *token.Grant, _ *livekit.ListRoomsRequest) bool { return g.RoomList }, listRooms),
	"DeleteRoom":         rpc(mayCreate[*livekit.DeleteRoomRequest], deleteRoom),
	"UpdateRoomMetadata": rpc(isAdmin[*livekit.UpdateRoomMetadataRequest], updateRoomMetadata),
	"ListParticipants":   rpc(isAdmin[*livekit.ListParticipantsRequest], listParticipants),
	"GetParticipant":     rpc(isAdmin[*livekit.RoomParticipantIdentity], getParticipant),
	"RemoveParticipant":  rpc(isAdmin[*livekit.RoomParticipantIdentity], removeParticipant),
	"UpdateParticipant":  rpc(isAdmin[*livekit.UpdateParticipantRequest], updateParticipant),
	"MutePublishedTrack": rpc(isAdmin[*livekit.MuteRoomTrackRequest], mutePublishedTrack),
	"SendData":           rpc(isAdmin[*livekit.SendDataRequest], sendData),
}

func mayCreate[M proto.Message](g *token.Grant, _ M) bool { return g.RoomCreate }

// isAdmin asks for roomAdmin of exactly the room of the request.
func isAdmin[M interface{ GetRoom() string }](g *token.Grant, m M) bool {
	return g.RoomAdmin && g.Room != "" && g.Room == m.GetRoom()
}

func createRoom(ctx context.Context, rooms Rooms, m *livekit.CreateRoomRequest) (*livekit.Room, error) {
	name, err := mesh.ParseRoomName(m.Name)
	if err != nil {
		return nil, invalidArgument(err)
	}
	if err := checkLimits("", m.Metadata, nil); err != nil {
		return nil, invalidArgument(err)
	}
	info, err := rooms.CreateRoom(ctx, CreateRoom{
		Name: name, Metadata: m.Metadata, MaxParticipants: m.MaxParticipants,
		EmptyTimeout:     time.Duration(m.EmptyTimeout) * time.Second,
		DepartureTimeout: time.Duration(m.DepartureTimeout) * time.Second,
	})
	if err != nil {
		return nil, err
	}
	return roomProto(info), nil
}

const maxListedNames = 1000

func listRooms(ctx context.Context, rooms Rooms, m *livekit.ListRoomsRequest) (*livekit.ListRoomsResponse, error) {
	if len(m.Names) > maxListedNames {
		return nil, invalidArgument(fmt.Errorf("%d names are too many, at most %d are allowed", len(m.Names), maxListedNames))
	}
	names := make([]mesh.RoomName, 0, len(m.Names))
	for _, s := range m.Names {
		if name, err := mesh.ParseRoomName(s); err == nil { // a name no room can have is not open
			names = append(names, name)
		}
	}
	out := &livekit.ListRoomsResponse{}
	if len(m.Names) > 0 && len(names) == 0 {
		return out, nil
	}
	infos, err := rooms.ListRooms(ctx, names)
	if err != nil {
		return nil, err
	}
	for _, info := range infos {
		out.Rooms = append(out.Rooms, roomProto(info))
	}
	return out, nil
}

func deleteRoom(ctx context.Context, rooms Rooms, m *livekit.DeleteRoomRequest) (*livekit.DeleteRoomResponse, error) {
	name, err := mesh.ParseRoomName(m.Room)
	if err != nil {
		return nil, invalidArgument(err)
	}
	return &livekit.DeleteRoomResponse{}, rooms.DeleteRoom(ctx, name)
}

func updateRoomMetadata(ctx context.Context, rooms Rooms, m *livekit.UpdateRoomMetadataRequest) (*livekit.Room, error) {
	name, err := mesh.ParseRoomName(m.Room)
	if err != nil {
		return nil, invalidArgument(err)
	}
	if err := checkLimits("", m.Metadata, nil); err != nil {
		return nil, invalidArgument(err)
	}
	info, err := rooms.UpdateRoomMetadata(ctx, name, m.Metadata)
	if err != nil {
		return nil, err
	}
	return roomProto(info), nil
}

func listParticipants(ctx context.Context, rooms Rooms, m *livekit.ListParticipantsRequest) (*livekit.ListParticipantsResponse, error) {
	name, err := mesh.ParseRoomName(m.Room)
	if err != nil {
		return nil, invalidArgument(err)
	}
	list, err := rooms.ListParticipants(ctx, name)
	if err != nil {
		return nil, err
	}
	out := &livekit.ListParticipantsResponse{}
	for i := range list {
		out.Participants = append(out.Participants, participantProto(&list[i]))
	}
	return out, nil
}

// roomAndIdentity reads the two names most requests carry.
func roomAndIdentity(m interface {
	GetRoom() string
	GetIdentity() string
},
) (room mesh.RoomName, id mesh.Identity, err error) {
	room, errRoom := mesh.ParseRoomName(m.GetRoom())
	id, errIdentity := mesh.ParseIdentity(m.GetIdentity())
	if err := errors.Join(errRoom, errIdentity); err != nil {
		return "", "", invalidArgument(err)
	}
	return room, id, nil
}

func getParticipant(ctx context.Context, rooms Rooms, m *livekit.RoomParticipantIdentity) (*livekit.ParticipantInfo, error) {
	room, id, err := roomAndIdentity(m)
	if err != nil {
		return nil, err
	}
	p, err := rooms.GetParticipant(ctx, room, id)
	if err != nil {
		return nil, err
	}
	return participantProto(&p), nil
}

func removeParticipant(ctx context.Context, rooms Rooms, m *livekit.RoomParticipantIdentity) (*livekit.RemoveParticipantResponse, error) {
	room, id, err := roomAndIdentity(m)
	if err != nil {
		return nil, err
	}
	return &livekit.RemoveParticipantResponse{}, rooms.RemoveParticipant(ctx, room, id)
}

func updateParticipant(ctx context.Context, rooms Rooms, m *livekit.UpdateParticipantRequest) (*livekit.ParticipantInfo, error) {
	room, id, err := roomAndIdentity(m)
	if err != nil {
		return nil, err
	}
	if err := checkLimits(m.Name, m.Metadata, m.Attributes); err != nil {
		return nil, invalidArgument(err)
	}
	p, err := rooms.UpdateParticipant(ctx, room, id, ParticipantUpdate{
		Name: m.Name, Metadata: m.Metadata, Attributes: m.Attributes, Permission: permissionOf(m.Permission),
	})
	if err != nil {
		return nil, err
	}
	return participantProto(&p), nil
}

func mutePublishedTrack(ctx context.Context, rooms Rooms, m *livekit.MuteRoomTrackRequest) (*livekit.MuteRoomTrackResponse, error) {
	room, id, err := roomAndIdentity(m)
	if err != nil {
		return nil, err
	}
	if m.TrackSid == "" || len(m.TrackSid) > mesh.MaxNameLength {
		return nil, invalidArgument(errors.New("track_sid is missing or too long"))
	}
	s, err := rooms.MuteSource(ctx, room, id, mesh.SourceID(m.TrackSid), m.Muted)
	if err != nil {
		return nil, err
	}
	return &livekit.MuteRoomTrackResponse{Track: trackProto(&s)}, nil
}

const maxDestinations = 1000

func sendData(ctx context.Context, rooms Rooms, m *livekit.SendDataRequest) (*livekit.SendDataResponse, error) {
	room, err := mesh.ParseRoomName(m.Room)
	if err != nil {
		return nil, invalidArgument(err)
	}
	//nolint:staticcheck // older server SDKs address by SID
	sids := m.DestinationSids
	if len(m.DestinationIdentities)+len(sids) > maxDestinations {
		return nil, invalidArgument(fmt.Errorf("more than %d destinations", maxDestinations))
	}
	if n := len(m.Nonce); n != 0 && n != 16 {
		return nil, invalidArgument(fmt.Errorf("the nonce has %d bytes, it must have 16", n))
	}
	var to []mesh.Identity
	for _, s := range m.DestinationIdentities {
		id, err := mesh.ParseIdentity(s)
		if err != nil {
			return nil, invalidArgument(err)
		}
		to = append(to, id)
	}
	if len(sids) > 0 {
		found, err := identitiesOf(ctx, rooms, room, sids)
		if err != nil {
			return nil, err
		}
		if to = append(to, found...); len(to) == 0 { // no destination would mean everyone
			return nil, fmt.Errorf("the destinations are %w", ErrNotFound)
		}
	}
	payload, err := proto.Marshal(dataPacket(m, to))
	if err != nil {
		return nil, invalidArgument(err)
	}
	return &livekit.SendDataResponse{}, rooms.SendData(ctx, room, mesh.DataMessage{
		Reliable: m.Kind == livekit.DataPacket_RELIABLE, Destinations: to, Payload: payload,
	})
}

func identitiesOf(ctx context.Context, rooms Rooms, room mesh.RoomName, sids []string) (ids []mesh.Identity, err error) {
	list, err := rooms.ListParticipants(ctx, room)
	if err != nil {
		return nil, err
	}
	wanted := make(map[mesh.ParticipantID]bool, len(sids))
	for _, sid := range sids {
		wanted[mesh.ParticipantID(sid)] = true
	}
	for i := range list {
		if wanted[list[i].ID] {
			ids = append(ids, list[i].Identity)
		}
	}
	return ids, nil
}
