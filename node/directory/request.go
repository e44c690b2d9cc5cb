package directory

import (
	"context"
	"fmt"
	"time"

	"github.com/meridian-sfu/meridian/internal/mesh"
	pb "github.com/meridian-sfu/meridian/internal/meshpb/directorypb"
)

const (
	maxWaiters  = 4096
	answerAfter = time.Second            // a request without answer is asked again after
	askAgain    = 100 * time.Millisecond // pause after "not the owner"
)

// answer is what the owner says to a request.
type answer struct {
	status       pb.Status
	room         mesh.Room
	participants []mesh.Participant
}

// waiter is a request on its way.
type waiter struct {
	peer mesh.NodeID // who is asked: nobody else may answer
	got  answer
	done chan answer
}

// call asks the owner of a room, wherever it is, until it answers or ctx ends.
func (d *Directory) call(ctx context.Context, name mesh.RoomName, req *pb.Request) (answer, error) {
	if _, err := mesh.ParseRoomName(string(name)); err != nil {
		return answer{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if err := checkFrame(&pb.Frame{Version: wireVersion, Room: string(name), Body: &pb.Frame_Request{Request: req}}, d.self); err != nil {
		return answer{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	ctx, cancel := context.WithTimeout(ctx, d.cfg.CallTimeout)
	defer cancel()
	for {
		a, err := d.callOnce(ctx, name, req)
		switch {
		case err != nil:
			return answer{}, err
		case a.status == pb.Status_STATUS_OK:
			return a, nil
		case a.status == pb.Status_STATUS_NO_PARTICIPANT:
			return answer{}, ErrNoParticipant
		case a.status == pb.Status_STATUS_INVALID:
			return answer{}, ErrInvalid
		}
		if wait(ctx, askAgain); ctx.Err() != nil {
			return answer{}, fmt.Errorf("%w: %w", ErrUnavailable, context.Cause(ctx))
		}
	}
}

// callOnce returns STATUS_NOT_OWNER if it pays to ask again.
func (d *Directory) callOnce(ctx context.Context, name mesh.RoomName, req *pb.Request) (answer, error) {
	again := answer{status: pb.Status_STATUS_NOT_OWNER}
	o, ok := d.deps.Owners.Lookup(name)
	r := d.find(name)
	if !ok && r == nil {
		return answer{}, ErrNoRoom
	}
	if ok && o.Node != d.self {
		return d.callPeer(ctx, o, name, req)
	}
	if r == nil {
		r, _ = d.enterRoom(name, mesh.Room{}, false)
	}
	got := make(chan answer, 1)
	if r == nil || !r.post(ctx, func() { got <- r.perform(req) }) {
		return again, nil
	}
	select {
	case a := <-got:
		return a, nil
	case <-r.done:
	case <-ctx.Done():
	}
	return again, nil
}

func (d *Directory) callPeer(ctx context.Context, o Ownership, name mesh.RoomName, req *pb.Request) (answer, error) {
	w := &waiter{peer: o.Node, done: make(chan answer, 1)}
	d.mu.Lock()
	if len(d.waiters) >= maxWaiters {
		d.mu.Unlock()
		return answer{}, fmt.Errorf("%w: too many requests", ErrUnavailable)
	}
	d.nextID++
	id := d.nextID
	d.waiters[id] = w
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		delete(d.waiters, id)
		d.mu.Unlock()
	}()
	d.tell(o.Node, &pb.Frame{Room: string(name), Epoch: o.Epoch, Body: &pb.Frame_Request{Request: &pb.Request{Id: id, Ask: req.GetAsk()}}})
	t := time.NewTimer(answerAfter)
	defer t.Stop()
	select {
	case a := <-w.done:
		return a, nil
	case <-t.C:
	case <-ctx.Done():
	}
	return answer{status: pb.Status_STATUS_NOT_OWNER}, nil
}

// answered takes a response of a peer.
func (d *Directory) answered(peer mesh.NodeID, w *pb.Response) {
	d.mu.Lock()
	defer d.mu.Unlock()
	q := d.waiters[w.GetId()]
	if q == nil || q.peer != peer || len(q.got.participants) > d.cfg.MaxParticipants*maxNodes {
		return
	}
	for _, p := range w.GetParticipants() {
		q.got.participants = append(q.got.participants, participantFromWire(p))
	}
	if w.GetMore() {
		return
	}
	q.got.status, q.got.room = w.GetStatus(), roomFromWire(w.GetRoom())
	delete(d.waiters, w.GetId())
	q.done <- q.got
}

func (d *Directory) respond(peer mesh.NodeID, id uint64, a answer) {
	batches(a.participants, func(batch []*pb.Participant, _, more bool) {
		d.tell(peer, &pb.Frame{Body: &pb.Frame_Response{Response: &pb.Response{
			Id: id, Status: a.status, Room: roomToWire(a.room), Participants: batch, More: more,
		}}})
	})
}

func (r *room) receiveRequest(peer mesh.NodeID, req *pb.Request) {
	r.d.respond(peer, req.GetId(), r.perform(req))
}

// perform does what a request asks, if this node may: as the owner, or alone in a provisional room.
func (r *room) perform(req *pb.Request) answer {
	if r.currentRole() == RoleEdge || r.releasing || r.over() {
		return answer{status: pb.Status_STATUS_NOT_OWNER}
	}
	a := answer{status: pb.Status_STATUS_OK}
	switch ask := req.GetAsk().(type) {
	case *pb.Request_Moderate:
		a.status = r.moderate(mesh.Identity(ask.Moderate.GetIdentity()), orderFromWire(ask.Moderate.GetOrder()))
	case *pb.Request_SetMetadata:
		meta := r.meta
		meta.Metadata = ask.SetMetadata.GetMetadata()
		meta.Version++
		r.setMeta(meta)
	case *pb.Request_EndRoom:
		r.dissolve()
	case *pb.Request_List:
		a.participants = r.all("")
	case *pb.Request_Send:
		m := dataFromWire(ask.Send)
		r.send(m)
		if addressed(r.records[r.d.self], m.Destinations) {
			r.d.deps.Handler.Data(r.name, m)
		}
	default:
		a.status = pb.Status_STATUS_INVALID
	}
	a.room = r.meta
	return a
}

func (r *room) moderate(who mesh.Identity, c Command) pb.Status {
	if c == nil {
		return pb.Status_STATUS_INVALID
	}
	for _, p := range r.all("") {
		if p.Identity == who {
			r.command(p.Node, p.ID, c)
			return pb.Status_STATUS_OK
		}
	}
	return pb.Status_STATUS_NO_PARTICIPANT
}
