package ownership

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/hashicorp/raft"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/meshnet"
	"github.com/meridian-sfu/meridian/internal/meshpb/ownershippb"
)

// serviceName is the control service nodes ask each other over. A stream carries one Request; a Command or a Probe is
// answered by one Response, a Watch by WatchFrames until either side ends the stream.
const serviceName = "ownership"

const (
	maxServiceStreams  = 2048
	maxRequestBytes    = 8 << 10
	maxResponseBytes   = 8 << 10
	maxFrameBytes      = 128 << 10
	entriesPerFrame    = 100
	requestReadTimeout = 5 * time.Second
	frameWriteTimeout  = 5 * time.Second // a watcher that takes nothing for so long is dropped
)

// serve takes one stream of the service. The peer's ID is proven.
func (o *Ownership) serve(peer mesh.NodeID, s net.Conn) {
	defer func() { _ = s.Close() }()
	o.mu.Lock()
	r, ctx := o.raft, o.ctx
	if r == nil || o.stopping {
		o.mu.Unlock()
		o.refuse(refusedClosed)
		return
	}
	o.wg.Add(1)
	o.mu.Unlock()
	defer o.wg.Done()
	select {
	case o.slots <- struct{}{}:
		defer func() { <-o.slots }()
	default:
		o.refuse(refusedBusy)
		return
	}
	defer context.AfterFunc(ctx, func() { _ = s.Close() })() // unblocks reads and writes

	req := &ownershippb.Request{}
	err := errors.Join(
		s.SetReadDeadline(time.Now().Add(requestReadTimeout)),
		meshnet.ReadMessage(s, maxRequestBytes, req))
	if err != nil || req.GetVersion() == 0 {
		o.refuse(refusedBad)
		return
	}
	if watch := req.GetWatch(); watch != nil {
		err = o.serveWatch(ctx, r, req.GetClusterId(), s)
	} else {
		err = o.writeFrame(s, o.respond(ctx, r, peer, req))
	}
	if err != nil && ctx.Err() == nil {
		o.log.Debug("control stream ended", "node", peer, "err", err)
	}
}

// respond answers a Command or a Probe.
func (o *Ownership) respond(ctx context.Context, r *raft.Raft, peer mesh.NodeID, req *ownershippb.Request) *ownershippb.Response {
	resp := &ownershippb.Response{Version: wireVersion, Code: ownershippb.Code_CODE_INVALID}
	switch body := req.GetBody().(type) {
	case *ownershippb.Request_Probe:
		resp.Code = ownershippb.Code_CODE_OK
	case *ownershippb.Request_Command:
		if o.foreign(req.GetClusterId()) {
			resp.Code = ownershippb.Code_CODE_FOREIGN_CLUSTER
			break
		}
		cmd, err := commandFromProto(body.Command)
		if err != nil {
			o.refuse(refusedBad)
			break
		}
		a, err := o.submit(ctx, peer, cmd)
		if err != nil {
			resp.Code = ownershippb.Code_CODE_UNAVAILABLE
			break
		}
		resp.Code, resp.Existing, resp.Index = a.code, a.existing, a.index
		if a.entry.Epoch != 0 {
			resp.Entry = entryToProto(a.entry)
		}
	default:
		o.refuse(refusedBad)
	}
	resp.Group = o.groupProto(r)
	return resp
}

// foreign reports, and counts, that a request means another group.
func (o *Ownership) foreign(id string) bool {
	if mine := o.clusterID(); id == mine && mine != "" {
		return false
	}
	o.refuse(refusedForeign)
	return true
}

// serveWatch sends the table and then its changes, with a heartbeat each StatusInterval, while this node's own table is
// kept by Raft.
func (o *Ownership) serveWatch(ctx context.Context, r *raft.Raft, cluster string, s net.Conn) error {
	refuse := func(code ownershippb.Code) error {
		return o.writeFrame(s, &ownershippb.WatchFrame{
			Version: wireVersion,
			Refusal: &ownershippb.Response{Version: wireVersion, Code: code, Group: o.groupProto(r)},
		})
	}
	switch {
	case o.foreign(cluster):
		return refuse(ownershippb.Code_CODE_FOREIGN_CLUSTER)
	case !o.isAttached():
		return refuse(ownershippb.Code_CODE_NOT_VOTER)
	}
	sub := o.fsm.subscribe()
	defer sub.close()
	tick := time.NewTicker(o.cfg.StatusInterval)
	defer tick.Stop()
	for {
		for b, ok := sub.take(); ok; b, ok = sub.take() {
			if err := o.sendBatch(s, b); err != nil {
				return err
			}
		}
		if !o.isAttached() {
			return nil
		}
		select {
		case <-sub.wake:
		case <-tick.C:
			beat := &ownershippb.WatchFrame{Version: wireVersion, Group: o.groupProto(r)}
			if err := o.writeFrame(s, beat); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// sendBatch sends b, a whole table in frames of entriesPerFrame.
func (o *Ownership) sendBatch(s net.Conn, b batch) error {
	for _, c := range b.changes {
		f := &ownershippb.WatchFrame{Version: wireVersion, Index: c.index}
		if c.removed {
			f.Removed = []string{string(c.room)}
		} else {
			f.Set = []*ownershippb.Entry{entryToProto(c.entry)}
		}
		if err := o.writeFrame(s, f); err != nil {
			return err
		}
	}
	for rest := b.entries; b.reset; {
		n := min(entriesPerFrame, len(rest))
		f := &ownershippb.WatchFrame{Version: wireVersion, Reset_: true, Index: b.index, More: n < len(rest)}
		for _, e := range rest[:n] {
			f.Set = append(f.Set, entryToProto(e))
		}
		if err := o.writeFrame(s, f); err != nil {
			return err
		}
		if rest = rest[n:]; len(rest) == 0 {
			break
		}
	}
	return nil
}
