package directory

import (
	"context"
	"errors"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

const maxFrameBytes = 4 << 20

var (
	ErrNoRoom        = errors.New("directory: no such room")
	ErrNoParticipant = errors.New("directory: no such participant")
	ErrUnavailable   = errors.New("directory: the room's owner does not answer")
	ErrInvalid       = errors.New("directory: invalid request")
)

type Role string

type RoomStatus struct {
	Room   mesh.Room
	Role   Role
	Local  int
	Remote int
	Nodes  []mesh.NodeID
}

type Directory struct{}

func New(cfg Config, deps Deps, log *slog.Logger, reg prometheus.Registerer) (*Directory, error) {
	return &Directory{}, cfg.Validate()
}
func (d *Directory) Run(ctx context.Context) error { <-ctx.Done(); return nil }
func (d *Directory) Open(room mesh.RoomName, meta mesh.Room) (*Handle, mesh.Room) {
	return &Handle{}, meta
}
func (d *Directory) Moderate(ctx context.Context, room mesh.RoomName, who mesh.Identity, c Command) error {
	return ErrUnavailable
}
func (d *Directory) SendData(ctx context.Context, room mesh.RoomName, m mesh.DataMessage) error {
	return ErrUnavailable
}
func (d *Directory) UpdateRoom(ctx context.Context, room mesh.RoomName, metadata string) (mesh.Room, error) {
	return mesh.Room{}, ErrUnavailable
}
func (d *Directory) EndRoom(ctx context.Context, room mesh.RoomName) error { return ErrUnavailable }
func (d *Directory) Rooms() []RoomStatus                                   { return nil }
func (d *Directory) Participants(ctx context.Context, room mesh.RoomName) ([]mesh.Participant, error) {
	return nil, ErrUnavailable
}
func (d *Directory) Create(ctx context.Context, meta mesh.Room) (mesh.Room, error) {
	return meta, ErrUnavailable
}

type Handle struct{}

func (h *Handle) Put(p mesh.Participant)                     {}
func (h *Handle) Remove(id mesh.ParticipantID, reason int32) {}
func (h *Handle) Data(m mesh.DataMessage)                    {}
func (h *Handle) Snapshot() (mesh.Room, []mesh.Participant)  { return mesh.Room{}, nil }
func (h *Handle) Close()                                     {}
