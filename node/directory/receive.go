package directory

import (
	"github.com/meridian-sfu/meridian/internal/mesh"
	pb "github.com/meridian-sfu/meridian/internal/meshpb/directorypb"
)

// reconnected is told when frames to a peer may have been lost.
func (r *room) reconnected(peer mesh.NodeID) {
	switch {
	case r.known && r.owner.Node == peer, r.direct:
		if r.wantsOwner() {
			r.report(peer, r.owner.Epoch, true, r.own())
		}
	case r.currentRole() == RoleOwner:
		if e := r.edges[peer]; e != nil && e.attached {
			r.snapshotTo(peer, e)
		} else if e != nil && !e.reported {
			r.solicit(peer)
		}
	}
}

// restarted is told when a peer has forgotten everything: its participants' sessions are gone.
func (r *room) restarted(peer mesh.NodeID) {
	if r.currentRole() == RoleOwner || r.direct || r.owner.Node == peer {
		r.dropNode(peer)
	} else {
		r.doubt(peer) // the owner may have told of its new participants already
	}
}

// receive takes a frame of a peer. Data is no decision and passes with any epoch.
func (r *room) receive(peer mesh.NodeID, f *pb.Frame) {
	if data := f.GetData(); data != nil {
		r.receiveData(peer, data)
		return
	}
	if f.GetEnded() != nil && r.released.Epoch != 0 && peer == r.released.Node && f.GetEpoch() == r.released.Epoch {
		// The table said that the entry is gone before its owner's last word came. We may have claimed the room anew.
		r.endLate(f.GetEnded().GetReason())
		return
	}
	if r.known && f.GetEpoch() < r.owner.Epoch && f.GetRequest() == nil {
		r.d.metrics.stale.Inc()
		return
	}
	fromOwner := r.known && peer == r.owner.Node && f.GetEpoch() == r.owner.Epoch
	switch b := f.GetBody().(type) {
	case *pb.Frame_Report:
		r.receiveReport(peer, f.GetEpoch(), b.Report)
	case *pb.Frame_Update:
		if fromOwner && r.currentRole() == RoleEdge {
			r.receiveUpdate(b.Update)
		}
	case *pb.Frame_Solicit:
		r.receiveSolicit(peer, f.GetEpoch())
	case *pb.Frame_Detach:
		r.dropNode(peer)
		delete(r.edges, peer)
	case *pb.Frame_Command:
		if fromOwner || !r.known || f.GetEpoch() > r.owner.Epoch { // a newer owner may speak before the table does
			r.receiveCommand(b.Command)
		}
	case *pb.Frame_EndProposal:
		r.receiveEndProposal(peer, f.GetEpoch())
	case *pb.Frame_EndAnswer:
		r.receiveEndAnswer(peer, b.EndAnswer.GetEmpty())
	case *pb.Frame_Ended:
		if fromOwner {
			r.end(b.Ended.GetReason())
		}
	case *pb.Frame_Request:
		r.receiveRequest(peer, b.Request)
	}
}

func (r *room) receiveData(peer mesh.NodeID, w *pb.Data) {
	m := dataFromWire(w)
	for node, records := range r.records {
		if _, here := records[m.Sender]; here && node != peer {
			r.d.metrics.dropped.WithLabelValues(dropForeign).Inc()
			return
		}
	}
	r.d.metrics.data.WithLabelValues("in").Inc()
	r.d.deps.Handler.Data(r.name, m)
}
