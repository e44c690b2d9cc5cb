package directory

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/meridian-sfu/meridian/internal/mesh"
	pb "github.com/meridian-sfu/meridian/internal/meshpb/directorypb"
)

// RoomStatus is what this node knows of one room it takes part in.
type RoomStatus struct {
	Room   mesh.Room
	Role   Role
	Local  int           // participants attached here
	Remote int           // participants on other nodes
	Nodes  []mesh.NodeID // other nodes with participants, sorted
}

// Moderate asks the edge of a participant to carry out c. It returns when the owner has passed it on. Errors: ErrNoRoom,
// ErrNoParticipant, ErrInvalid, ErrUnavailable.
func (d *Directory) Moderate(ctx context.Context, room mesh.RoomName, who mesh.Identity, c Command) error {
	_, err := d.call(ctx, room, &pb.Request{Ask: &pb.Request_Moderate{Moderate: &pb.Moderate{Identity: string(who), Order: orderToWire(c)}}})
	return err
}

// SendData sends a message of no participant to the room. Errors: as Moderate.
func (d *Directory) SendData(ctx context.Context, room mesh.RoomName, m mesh.DataMessage) error {
	m.Sender = ""
	_, err := d.call(ctx, room, &pb.Request{Ask: &pb.Request_Send{Send: dataToWire(m)}})
	return err
}

// UpdateRoom changes the room's metadata. Errors: as Moderate.
func (d *Directory) UpdateRoom(ctx context.Context, room mesh.RoomName, metadata string) (mesh.Room, error) {
	a, err := d.call(ctx, room, &pb.Request{Ask: &pb.Request_SetMetadata{SetMetadata: &pb.SetMetadata{Metadata: metadata}}})
	return a.room, err
}

// EndRoom ends the room for everyone at once (Handler.Ended with ReasonRoomDeleted). Errors: as Moderate.
func (d *Directory) EndRoom(ctx context.Context, room mesh.RoomName) error {
	_, err := d.call(ctx, room, &pb.Request{Ask: &pb.Request_EndRoom{EndRoom: &pb.EndRoom{}}})
	return err
}

// Participants returns everybody in the room, earliest join first, from the owner or, where it does not answer, from
// what this node mirrors. Errors: as Moderate.
func (d *Directory) Participants(ctx context.Context, room mesh.RoomName) ([]mesh.Participant, error) {
	if all, ok := d.mirrored(room); ok {
		return all, nil
	}
	a, err := d.call(ctx, room, &pb.Request{Ask: &pb.Request_List{List: &pb.List{}}})
	return a.participants, err
}

// mirrored returns the participants if the room is open here: the mirror is as good as the owner's word.
func (d *Directory) mirrored(name mesh.RoomName) ([]mesh.Participant, bool) {
	r := d.find(name)
	if r == nil {
		return nil, false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended || (r.role == RoleEdge && r.desk.handles == 0) {
		return nil, false
	}
	return r.all(""), true
}

// Create opens a room that nobody has joined yet and waits until it has an owner. A room that exists is returned as it
// is. Errors: ErrInvalid, ErrUnavailable.
func (d *Directory) Create(ctx context.Context, meta mesh.Room) (mesh.Room, error) {
	if _, err := mesh.ParseRoomName(string(meta.Name)); err != nil {
		return mesh.Room{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if err := checkRoom(roomToWire(meta)); err != nil {
		return mesh.Room{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	ctx, cancel := context.WithTimeout(ctx, d.cfg.CallTimeout)
	defer cancel()
	if o, ok := d.deps.Owners.Lookup(meta.Name); ok && o.Node != d.self {
		a, err := d.call(ctx, meta.Name, &pb.Request{Ask: &pb.Request_List{List: &pb.List{}}})
		return a.room, err
	}
	r, _ := d.enterRoom(meta.Name, meta, false)
	if r == nil {
		return mesh.Room{}, fmt.Errorf("%w: too many rooms", ErrUnavailable)
	}
	r.mu.Lock()
	r.desk.pinned = true
	r.mu.Unlock()
	for {
		owned := make(chan mesh.Room, 1)
		if !r.post(ctx, func() { owned <- r.pinned() }) {
			return mesh.Room{}, fmt.Errorf("%w: %s ended meanwhile", ErrUnavailable, meta.Name)
		}
		select {
		case m := <-owned:
			if m.Epoch > 0 {
				return m, nil
			}
		case <-r.done:
		case <-ctx.Done():
		}
		if wait(ctx, askAgain); ctx.Err() != nil {
			return mesh.Room{}, fmt.Errorf("%w: %w", ErrUnavailable, context.Cause(ctx))
		}
	}
}

// pinned claims the room and returns its record; the epoch is 0 until it is owned.
func (r *room) pinned() mesh.Room {
	switch r.currentRole() {
	case RoleProvisional:
		r.tryClaim(time.Now())
	case RoleEdge: // somebody else was first
		r.mu.Lock()
		r.desk.pinned = false
		r.mu.Unlock()
	}
	return r.meta
}

// Rooms returns the rooms this node takes part in, by name.
func (d *Directory) Rooms() []RoomStatus {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := make([]RoomStatus, 0, len(d.rooms))
	for _, r := range d.rooms {
		out = append(out, r.status())
	}
	slices.SortFunc(out, func(a, b RoomStatus) int { return strings.Compare(string(a.Room.Name), string(b.Room.Name)) })
	return out
}

func (r *room) status() RoomStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := RoomStatus{Room: r.meta, Role: r.role, Local: len(r.records[r.d.self]), Nodes: r.remoteNodes()}
	for _, n := range s.Nodes {
		s.Remote += len(r.records[n])
	}
	return s
}
