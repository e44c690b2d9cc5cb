package node

import (
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/meridian-sfu/meridian/cascade"
	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/rtpstream"
	"github.com/meridian-sfu/meridian/node/api"
)

// status is the mesh as this node sees it.
func (n *Node) status(context.Context) api.Status {
	o := n.ownership.Status()
	s := api.Status{
		Node: n.cfg.ID, Region: n.cfg.Region, Version: n.cfg.Version,
		Time: time.Now(), UptimeSec: time.Since(n.started).Seconds(), Draining: n.draining.Load(),
		Ownership: api.OwnershipStatus{State: string(o.Role), Leader: o.Leader, Term: o.Term, Applied: o.Applied, Voters: o.Voters},
	}
	links := n.cascade.Links()
	rtt := map[mesh.NodeID]time.Duration{}
	for _, l := range links {
		rtt[l.Peer] = l.RTT
		s.Links = append(s.Links, n.linkStatus(l))
	}
	for _, m := range n.gossip.Members() {
		state := "alive"
		if !n.alive(m.ID) {
			state = "suspect"
		}
		r := rtt[m.ID]
		if r == 0 {
			r, _ = n.gossip.RTT(m.ID)
		}
		s.Nodes = append(s.Nodes, api.NodeStatus{
			ID: m.ID, Region: m.Region, Zone: m.Zone, URL: m.ClientURL, MeshAddr: m.MeshAddr.String(), Version: m.Version,
			Latitude: m.Latitude, Longitude: m.Longitude, State: state, Draining: m.Draining, CPU: m.Load.CPU,
			EgressBitrate: m.Load.EgressBitrate, Participants: m.Load.Participants, Capacity: m.Load.Capacity, RTTMs: milliseconds(r),
		})
	}
	s.Rooms = n.roomStatuses()
	return s
}

func (n *Node) linkStatus(l cascade.LinkStatus) api.LinkStatus {
	rates := n.rates.link(l.Peer)
	out := api.LinkStatus{
		Peer: l.Peer, State: "down", RTTMs: milliseconds(l.RTT), Loss: l.LossIn, ResidualLoss: l.LossRepaired, Lanes: l.Lanes,
		PacketsSent: l.Out.AudioPackets + l.Out.VideoPackets, PacketsReceived: l.In.AudioPackets + l.In.VideoPackets,
		VideoBytesSent: l.Out.VideoBytes, VideoBytesReceived: l.In.VideoBytes,
		SendBitrate: rates.out, ReceiveBitrate: rates.in, Flows: []api.FlowStatus{},
		RateState: l.Rate.State, Estimate: uint64(l.Rate.Estimate), QueueMs: milliseconds(l.Rate.Queue), Withheld: l.Withheld,
	}
	if l.Up {
		out.State = "up"
	} else if _, wasUp := n.cascade.Alive(l.Peer); !wasUp {
		out.State = "connecting"
	}
	for _, dropped := range l.Drops {
		out.PacketsDropped += dropped
	}
	for _, f := range l.Flows {
		flow := api.FlowStatus{Room: f.Room, Source: f.Source, Direction: "send", Kind: kindName(f.Kind)}
		if f.Direction == "in" {
			flow.Direction = "receive"
		}
		flow.Origin = n.originOf(f.Room, f.Source)
		for e := range uint8(rtpstream.MaxEncodings) {
			if f.Encodings.Has(e) {
				flow.Encodings = append(flow.Encodings, strconv.Itoa(int(e)))
			}
		}
		out.Flows = append(out.Flows, flow)
	}
	return out
}

// originOf is the node a source is published at, if this node knows.
func (n *Node) originOf(name mesh.RoomName, id mesh.SourceID) (origin mesh.NodeID) {
	if r := n.findRoom(name); r != nil {
		r.call(func() {
			if p, _, ok := r.state.Publisher(id); ok {
				origin = p.Node
			}
		})
	}
	return origin
}

// roomStatuses are the rooms with participants here, and those this node only sequences.
func (n *Node) roomStatuses() []api.RoomStatus {
	var rooms []api.RoomStatus
	here := map[mesh.RoomName]bool{}
	for _, r := range n.allRooms() {
		r.call(func() {
			here[r.name] = true
			meta := r.state.Meta()
			status := roomStatus(meta)
			for _, p := range r.state.All() {
				ps := participantStatus(p)
				for i := range ps.Sources {
					ps.Sources[i].Watchers = len(r.state.Subscribers(ps.Sources[i].ID))
				}
				status.Participants = append(status.Participants, ps)
			}
			rooms = append(rooms, status)
		})
	}
	for _, r := range n.directory.Rooms() {
		if !here[r.Room.Name] {
			rooms = append(rooms, roomStatus(r.Room))
		}
	}
	slices.SortFunc(rooms, func(a, b api.RoomStatus) int {
		switch {
		case a.Name < b.Name:
			return -1
		case a.Name > b.Name:
			return 1
		}
		return 0
	})
	return rooms
}

func roomStatus(m mesh.Room) api.RoomStatus {
	return api.RoomStatus{
		Name: m.Name, ID: m.ID, Owner: m.Owner, Epoch: m.Epoch, Version: m.Version, Provisional: m.Owner == "", CreatedAt: m.CreatedAt,
	}
}

func participantStatus(p mesh.Participant) api.ParticipantStatus {
	s := api.ParticipantStatus{
		ID: p.ID, Identity: p.Identity, Name: p.Name, Node: p.Node, Region: p.Region,
		State: stateNames[p.State], JoinedAt: p.JoinedAt,
	}
	for _, source := range p.Sources {
		s.Sources = append(s.Sources, api.SourceStatus{
			ID: source.ID, Kind: kindName(source.Kind), Type: sourceTypeNames[source.Type], MIMEType: source.MIMEType, Muted: source.Muted,
		})
	}
	return s
}

func kindName(k mesh.MediaKind) string {
	if k == mesh.Audio {
		return "audio"
	}
	return "video"
}

var stateNames = map[mesh.ParticipantState]string{
	mesh.StateJoining: "joining", mesh.StateJoined: "joined", mesh.StateActive: "active", mesh.StateDisconnected: "disconnected",
}

var sourceTypeNames = map[mesh.SourceType]string{
	mesh.SourceUnknown: "unknown", mesh.SourceCamera: "camera", mesh.SourceMicrophone: "microphone",
	mesh.SourceScreenShare: "screen_share", mesh.SourceScreenShareAudio: "screen_share_audio",
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
