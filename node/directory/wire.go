package directory

import (
	"maps"
	"math"
	"slices"
	"time"

	"github.com/meridian-sfu/meridian/internal/mesh"
	pb "github.com/meridian-sfu/meridian/internal/meshpb/directorypb"
)

// The conversions below are complete: TestWireKeepsEveryField fills every field of a record by reflection and fails for
// one that does not come back.

func participantToWire(p mesh.Participant) *pb.Participant {
	w := &pb.Participant{
		Id: string(p.ID), Identity: string(p.Identity), Name: p.Name, Metadata: p.Metadata, Attributes: maps.Clone(p.Attributes),
		Kind: p.Kind, State: uint32(p.State), Permission: permissionToWire(p.Permission), JoinedAt: timeToWire(p.JoinedAt),
		Version: p.Version, Node: string(p.Node), Region: string(p.Region), ClientProtocol: p.ClientProtocol,
		Capabilities: slices.Clone(p.Capabilities), Publisher: p.Publisher, DisconnectReason: p.DisconnectReason,
	}
	if p.Quality != (mesh.Quality{}) {
		w.Quality = &pb.Quality{Level: uint32(p.Quality.Level), Score: p.Quality.Score}
	}
	for i := range p.Sources {
		w.Sources = append(w.Sources, sourceToWire(&p.Sources[i]))
	}
	if p.Subscribers != nil {
		w.Subscribers = &pb.SubscriberACL{Identities: make(map[string]*pb.SourceList, len(p.Subscribers.Identities))}
		for identity, sources := range p.Subscribers.Identities {
			w.Subscribers.Identities[string(identity)] = &pb.SourceList{Sources: convert[string](sources)}
		}
	}
	return w
}

func participantFromWire(w *pb.Participant) mesh.Participant {
	p := mesh.Participant{
		ID: mesh.ParticipantID(w.GetId()), Identity: mesh.Identity(w.GetIdentity()), Name: w.GetName(), Metadata: w.GetMetadata(),
		Attributes: w.GetAttributes(), Kind: w.GetKind(), State: mesh.ParticipantState(w.GetState()),
		Permission: permissionFromWire(w.GetPermission()), JoinedAt: timeFromWire(w.GetJoinedAt()), Version: w.GetVersion(),
		Node: mesh.NodeID(w.GetNode()), Region: mesh.Region(w.GetRegion()), ClientProtocol: w.GetClientProtocol(),
		Capabilities: w.GetCapabilities(), Publisher: w.GetPublisher(), DisconnectReason: w.GetDisconnectReason(),
	}
	p.Quality = mesh.Quality{Level: uint8(min(w.GetQuality().GetLevel(), math.MaxUint8)), Score: w.GetQuality().GetScore()}
	for _, s := range w.GetSources() {
		p.Sources = append(p.Sources, sourceFromWire(s))
	}
	if acl := w.GetSubscribers(); acl != nil {
		p.Subscribers = &mesh.SubscriberACL{Identities: make(map[mesh.Identity][]mesh.SourceID, len(acl.GetIdentities()))}
		for identity, list := range acl.GetIdentities() {
			p.Subscribers.Identities[mesh.Identity(identity)] = convert[mesh.SourceID](list.GetSources())
		}
	}
	return p
}

func sourceToWire(s *mesh.Source) *pb.Source {
	w := &pb.Source{
		Id: string(s.ID), ClientId: s.ClientID, Kind: uint32(s.Kind), Type: uint32(s.Type), Name: s.Name, Muted: s.Muted,
		Width: s.Width, Height: s.Height, MimeType: s.MIMEType, ClockRate: s.ClockRate, Fmtp: s.FMTP, Mid: s.MID,
		StreamName: s.StreamName, Encryption: uint32(s.Encryption), Stereo: s.Stereo, DisableDtx: s.DisableDTX, DisableRed: s.DisableRED,
	}
	for _, e := range s.Encodings {
		w.Encodings = append(w.Encodings, &pb.Encoding{Rid: e.RID, Width: e.Width, Height: e.Height, Bitrate: e.Bitrate, Ssrc: e.SSRC})
	}
	for _, x := range s.Extensions {
		w.Extensions = append(w.Extensions, &pb.HeaderExtension{Id: uint32(x.ID), Uri: x.URI})
	}
	return w
}

func sourceFromWire(w *pb.Source) mesh.Source {
	s := mesh.Source{
		ID: mesh.SourceID(w.GetId()), ClientID: w.GetClientId(), Kind: mesh.MediaKind(w.GetKind()), Type: mesh.SourceType(w.GetType()),
		Name: w.GetName(), Muted: w.GetMuted(), Width: w.GetWidth(), Height: w.GetHeight(), MIMEType: w.GetMimeType(),
		ClockRate: w.GetClockRate(), FMTP: w.GetFmtp(), MID: w.GetMid(), StreamName: w.GetStreamName(),
		Encryption: mesh.Encryption(w.GetEncryption()), Stereo: w.GetStereo(), DisableDTX: w.GetDisableDtx(), DisableRED: w.GetDisableRed(),
	}
	for _, e := range w.GetEncodings() {
		s.Encodings = append(s.Encodings, mesh.Encoding{
			RID: e.GetRid(), Width: e.GetWidth(), Height: e.GetHeight(), Bitrate: e.GetBitrate(), SSRC: e.GetSsrc(),
		})
	}
	for _, x := range w.GetExtensions() {
		s.Extensions = append(s.Extensions, mesh.HeaderExtension{ID: uint8(x.GetId()), URI: x.GetUri()})
	}
	return s
}

func permissionToWire(p mesh.Permission) *pb.Permission {
	return &pb.Permission{
		CanSubscribe: p.CanSubscribe, CanPublish: p.CanPublish, CanPublishData: p.CanPublishData,
		CanPublishSources: convertNumbers[uint32](p.CanPublishSources), CanUpdateMetadata: p.CanUpdateMetadata,
		CanSubscribeMetrics: p.CanSubscribeMetrics, Hidden: p.Hidden, Recorder: p.Recorder, Agent: p.Agent,
	}
}

func permissionFromWire(w *pb.Permission) mesh.Permission {
	return mesh.Permission{
		CanSubscribe: w.GetCanSubscribe(), CanPublish: w.GetCanPublish(), CanPublishData: w.GetCanPublishData(),
		CanPublishSources: convertNumbers[mesh.SourceType](w.GetCanPublishSources()), CanUpdateMetadata: w.GetCanUpdateMetadata(),
		CanSubscribeMetrics: w.GetCanSubscribeMetrics(), Hidden: w.GetHidden(), Recorder: w.GetRecorder(), Agent: w.GetAgent(),
	}
}

func roomToWire(r mesh.Room) *pb.Room {
	return &pb.Room{
		Name: string(r.Name), Id: string(r.ID), Metadata: r.Metadata, CreatedAt: timeToWire(r.CreatedAt),
		EmptyTimeout: int64(r.EmptyTimeout), DepartureTimeout: int64(r.DepartureTimeout), MaxParticipants: r.MaxParticipants,
		Owner: string(r.Owner), Epoch: r.Epoch, Version: r.Version,
	}
}

func roomFromWire(w *pb.Room) mesh.Room {
	return mesh.Room{
		Name: mesh.RoomName(w.GetName()), ID: mesh.RoomID(w.GetId()), Metadata: w.GetMetadata(), CreatedAt: timeFromWire(w.GetCreatedAt()),
		EmptyTimeout: time.Duration(w.GetEmptyTimeout()), DepartureTimeout: time.Duration(w.GetDepartureTimeout()),
		MaxParticipants: w.GetMaxParticipants(), Owner: mesh.NodeID(w.GetOwner()), Epoch: w.GetEpoch(), Version: w.GetVersion(),
	}
}

func orderToWire(c Command) *pb.Order {
	switch c := c.(type) {
	case Evict:
		return &pb.Order{Kind: &pb.Order_Evict{Evict: &pb.Evict{Reason: c.Reason}}}
	case Mute:
		return &pb.Order{Kind: &pb.Order_Mute{Mute: &pb.Mute{Source: string(c.Source), Muted: c.Muted}}}
	case Change:
		w := &pb.Change{Name: c.Name, Metadata: c.Metadata, Attributes: maps.Clone(c.Attributes)}
		if c.Permission != nil {
			w.Permission = permissionToWire(*c.Permission)
		}
		return &pb.Order{Kind: &pb.Order_Change{Change: w}}
	case Subscribe:
		return &pb.Order{Kind: &pb.Order_Subscribe{Subscribe: &pb.Subscribe{Sources: convert[string](c.Sources), Want: c.Want}}}
	}
	return nil
}

// orderFromWire returns nil for an order this release does not know.
func orderFromWire(w *pb.Order) Command {
	switch k := w.GetKind().(type) {
	case *pb.Order_Evict:
		return Evict{Reason: k.Evict.GetReason()}
	case *pb.Order_Mute:
		return Mute{Source: mesh.SourceID(k.Mute.GetSource()), Muted: k.Mute.GetMuted()}
	case *pb.Order_Change:
		if k.Change == nil {
			return nil
		}
		c := Change{Name: k.Change.Name, Metadata: k.Change.Metadata, Attributes: k.Change.GetAttributes()}
		if p := k.Change.GetPermission(); p != nil {
			permission := permissionFromWire(p)
			c.Permission = &permission
		}
		return c
	case *pb.Order_Subscribe:
		return Subscribe{Sources: convert[mesh.SourceID](k.Subscribe.GetSources()), Want: k.Subscribe.GetWant()}
	}
	return nil
}

func dataToWire(m mesh.DataMessage) *pb.Data {
	return &pb.Data{Sender: string(m.Sender), Reliable: m.Reliable, Destinations: convert[string](m.Destinations), Payload: m.Payload}
}

func dataFromWire(w *pb.Data) mesh.DataMessage {
	return mesh.DataMessage{
		Sender: mesh.ParticipantID(w.GetSender()), Reliable: w.GetReliable(),
		Destinations: convert[mesh.Identity](w.GetDestinations()), Payload: w.GetPayload(),
	}
}

func timeToWire(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func timeFromWire(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns).UTC()
}

func convert[To, From ~string](in []From) []To {
	if in == nil {
		return nil
	}
	out := make([]To, len(in))
	for i, s := range in {
		out[i] = To(s)
	}
	return out
}

func convertNumbers[To, From ~uint8 | ~uint32](in []From) []To {
	if in == nil {
		return nil
	}
	out := make([]To, len(in))
	for i, n := range in {
		out[i] = To(n)
	}
	return out
}
