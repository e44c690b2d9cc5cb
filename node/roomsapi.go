package node

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/node/api"
	"github.com/meridian-sfu/meridian/node/directory"
)

// roomsAPI is the server API's view of a node: it asks the directory, which asks the rooms' owners.
type roomsAPI Node

var _ api.Rooms = (*roomsAPI)(nil)

// apiError puts the directory's errors into the API's words.
func apiError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, directory.ErrNoRoom), errors.Is(err, directory.ErrNoParticipant):
		return errors.Join(api.ErrNotFound, err)
	case errors.Is(err, directory.ErrInvalid):
		return errors.Join(api.ErrConflict, err)
	case errors.Is(err, directory.ErrUnavailable):
		return errors.Join(api.ErrUnavailable, err)
	}
	return err
}

// ListRooms implements api.Rooms. It lists every room the mesh has an owner for.
func (n *roomsAPI) ListRooms(ctx context.Context, names []mesh.RoomName) ([]api.RoomInfo, error) {
	var out []api.RoomInfo
	for _, e := range n.ownership.Entries() {
		if len(names) > 0 && !slices.Contains(names, e.Room) {
			continue
		}
		info, err := n.info(ctx, mesh.Room{Name: e.Room, ID: e.ID, CreatedAt: e.Created, Owner: e.Owner, Epoch: e.Epoch})
		if err != nil && !errors.Is(err, api.ErrNotFound) {
			return nil, err
		}
		out = append(out, info)
	}
	return out, nil
}

// info adds the figures of a room. The record itself comes from this node when it takes part in the room.
func (n *roomsAPI) info(ctx context.Context, meta mesh.Room) (api.RoomInfo, error) {
	for _, r := range n.directory.Rooms() {
		if r.Room.Name == meta.Name {
			meta = r.Room
		}
	}
	info := api.RoomInfo{Room: meta}
	people, err := n.directory.Participants(ctx, meta.Name)
	for _, p := range people {
		if p.Permission.Hidden {
			continue
		}
		info.Participants++
		if p.Publisher {
			info.Publishers++
		}
	}
	return info, apiError(err)
}

// CreateRoom implements api.Rooms.
func (n *roomsAPI) CreateRoom(ctx context.Context, c api.CreateRoom) (api.RoomInfo, error) {
	meta := mesh.Room{
		Name: c.Name, Metadata: c.Metadata, CreatedAt: time.Now(),
		EmptyTimeout: c.EmptyTimeout, DepartureTimeout: c.DepartureTimeout, MaxParticipants: c.MaxParticipants,
	}
	if meta.EmptyTimeout == 0 {
		meta.EmptyTimeout = n.cfg.Rooms.EmptyTimeout
	}
	if meta.DepartureTimeout == 0 {
		meta.DepartureTimeout = n.cfg.Rooms.DepartureTimeout
	}
	if meta.MaxParticipants == 0 {
		meta.MaxParticipants = n.cfg.Rooms.MaxParticipants
	}
	created, err := n.directory.Create(ctx, meta)
	if err != nil {
		return api.RoomInfo{}, apiError(err)
	}
	return n.info(ctx, created)
}

// DeleteRoom implements api.Rooms.
func (n *roomsAPI) DeleteRoom(ctx context.Context, room mesh.RoomName) error {
	return apiError(n.directory.EndRoom(ctx, room))
}

// UpdateRoomMetadata implements api.Rooms.
func (n *roomsAPI) UpdateRoomMetadata(ctx context.Context, room mesh.RoomName, metadata string) (api.RoomInfo, error) {
	meta, err := n.directory.UpdateRoom(ctx, room, metadata)
	if err != nil {
		return api.RoomInfo{}, apiError(err)
	}
	info, err := n.info(ctx, meta)
	info.Room = meta
	return info, err
}

// ListParticipants implements api.Rooms.
func (n *roomsAPI) ListParticipants(ctx context.Context, room mesh.RoomName) ([]mesh.Participant, error) {
	people, err := n.directory.Participants(ctx, room)
	return people, apiError(err)
}

// GetParticipant implements api.Rooms.
func (n *roomsAPI) GetParticipant(ctx context.Context, room mesh.RoomName, id mesh.Identity) (mesh.Participant, error) {
	people, err := n.directory.Participants(ctx, room)
	if err != nil {
		return mesh.Participant{}, apiError(err)
	}
	for _, p := range people {
		if p.Identity == id {
			return p, nil
		}
	}
	return mesh.Participant{}, api.ErrNotFound
}

// RemoveParticipant implements api.Rooms.
func (n *roomsAPI) RemoveParticipant(ctx context.Context, room mesh.RoomName, id mesh.Identity) error {
	return apiError(n.directory.Moderate(ctx, room, id, directory.Evict{Reason: directory.ReasonRemoved}))
}

// UpdateParticipant implements api.Rooms. The answer is the record as it will be once its edge has taken the change.
func (n *roomsAPI) UpdateParticipant(ctx context.Context, room mesh.RoomName, id mesh.Identity, u api.ParticipantUpdate) (mesh.Participant, error) {
	p, err := n.GetParticipant(ctx, room, id)
	if err != nil {
		return p, err
	}
	p = p.Clone()
	change := directory.Change{Attributes: u.Attributes, Permission: u.Permission}
	if u.Name != "" {
		change.Name, p.Name = &u.Name, u.Name
	}
	if u.Metadata != "" {
		change.Metadata, p.Metadata = &u.Metadata, u.Metadata
	}
	if u.Permission != nil {
		p.Permission = *u.Permission
	}
	for k, v := range u.Attributes {
		if p.Attributes == nil {
			p.Attributes = map[string]string{}
		}
		if v == "" {
			delete(p.Attributes, k)
		} else {
			p.Attributes[k] = v
		}
	}
	return p, apiError(n.directory.Moderate(ctx, room, id, change))
}

// MuteSource implements api.Rooms.
func (n *roomsAPI) MuteSource(ctx context.Context, room mesh.RoomName, id mesh.Identity, source mesh.SourceID, muted bool) (mesh.Source, error) {
	p, err := n.GetParticipant(ctx, room, id)
	if err != nil {
		return mesh.Source{}, err
	}
	s, ok := p.Source(source)
	if !ok {
		return mesh.Source{}, api.ErrNotFound
	}
	out := *s
	out.Muted = muted
	return out, apiError(n.directory.Moderate(ctx, room, id, directory.Mute{Source: source, Muted: muted}))
}

// SendData implements api.Rooms.
func (n *roomsAPI) SendData(ctx context.Context, room mesh.RoomName, m mesh.DataMessage) error {
	return apiError(n.directory.SendData(ctx, room, m))
}
