package directory

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/meshnet"
	pb "github.com/meridian-sfu/meridian/internal/meshpb/directorypb"
)

const helloTimeout = 5 * time.Second

// incoming is a stream a peer speaks on. A later one of the same service replaces it.
type incoming struct {
	stream io.Closer
	done   chan struct{}
}

type incomingKey struct {
	peer    mesh.NodeID
	service string
}

// serve reads what a peer says until the stream ends. It runs in the network's goroutine; Run waits for it.
func (d *Directory) serve(peer mesh.NodeID, service string, s io.ReadWriteCloser) {
	defer func() { _ = s.Close() }()
	ctx, leave, ok := d.enter()
	if !ok {
		return
	}
	defer leave()
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stop()
	timer := time.AfterFunc(helloTimeout, func() { _ = s.Close() })
	incarnation, err := hearHello(s)
	if err == nil {
		err = sayHello(s, d.incarnation)
	}
	if !timer.Stop() || err != nil {
		return
	}
	self := &incoming{stream: s, done: make(chan struct{})}
	defer close(self.done)
	key := incomingKey{peer, service}
	d.mu.Lock()
	before := d.incoming[key]
	d.incoming[key] = self
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		if d.incoming[key] == self {
			delete(d.incoming, key)
		}
		d.mu.Unlock()
	}()
	if before != nil { // what the old stream still held comes before the new one's snapshots
		_ = before.stream.Close()
		select {
		case <-before.done:
		case <-ctx.Done():
			return
		}
	}
	d.met(peer, incarnation)
	for {
		f := new(pb.Frame)
		err := meshnet.ReadMessage(s, maxFrameBytes, f)
		if err == nil {
			err = checkFrame(f, peer)
		}
		switch {
		case err == nil:
			d.dispatch(ctx, peer, f)
		case errors.Is(err, errFrame) || errors.Is(err, meshnet.ErrMessageTooLarge):
			d.metrics.refused.Inc()
			d.log.Warn("malformed frame, closing the stream", "node", string(peer), "err", err)
			return
		default:
			return
		}
	}
}

// dispatch hands a frame to its room.
func (d *Directory) dispatch(ctx context.Context, peer mesh.NodeID, f *pb.Frame) {
	switch b := f.GetBody().(type) {
	case nil, *pb.Frame_Hello:
		return
	case *pb.Frame_Response:
		d.answered(peer, b.Response)
		return
	}
	name := mesh.RoomName(f.GetRoom())
	r := d.find(name)
	if r == nil {
		r = d.adopt(name, f)
	}
	if r != nil && r.post(ctx, func() { r.receive(peer, f) }) {
		return
	}
	defer func() { // whoever came in since: what we say here must not be the last word
		if late := d.find(name); late != nil && late != r {
			late.post(ctx, func() { late.reconnected(peer) })
		}
	}()
	switch b := f.GetBody().(type) {
	case *pb.Frame_EndProposal: // nobody is here
		d.tell(peer, &pb.Frame{Room: f.GetRoom(), Epoch: f.GetEpoch(), Body: &pb.Frame_EndAnswer{EndAnswer: &pb.EndAnswer{Empty: true}}})
	case *pb.Frame_Solicit:
		d.tell(peer, &pb.Frame{Room: f.GetRoom(), Epoch: f.GetEpoch(), Body: &pb.Frame_Detach{Detach: &pb.Detach{}}})
	case *pb.Frame_Update: // it thinks we are attached
		d.tell(peer, &pb.Frame{Room: f.GetRoom(), Epoch: f.GetEpoch(), Body: &pb.Frame_Detach{Detach: &pb.Detach{}}})
	case *pb.Frame_Request:
		d.respond(peer, b.Request.GetId(), answer{status: pb.Status_STATUS_NOT_OWNER})
	default:
		d.metrics.dropped.WithLabelValues(dropNoRoom).Inc()
	}
}

// adopt begins a room of which this node is the owner without knowing it: it restarted, or was made the owner.
func (d *Directory) adopt(name mesh.RoomName, f *pb.Frame) *room {
	switch f.GetBody().(type) {
	case *pb.Frame_Report, *pb.Frame_Request:
	default:
		return nil
	}
	if o, ok := d.deps.Owners.Lookup(name); !ok || o.Node != d.self {
		return nil
	}
	r, _ := d.enterRoom(name, mesh.Room{}, false)
	return r
}
