package directory

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/meridian-sfu/meridian/internal/mesh"
	pb "github.com/meridian-sfu/meridian/internal/meshpb/directorypb"
)

// Bounds of what a frame may hold, beside those of package mesh. What exceeds them is refused with its stream.
const (
	wireVersion     = 1
	maxFrameBytes   = 4 << 20
	maxBatch        = 4096 // participants in one frame
	maxShort        = 256  // bytes of an ID, a codec name, a reason
	maxLong         = 4096 // bytes of format parameters
	maxList         = 64   // encodings, extensions, capabilities
	maxACL          = 4096 // identities an access list names
	maxDestinations = 4096
	maxNodes        = 4096
	maxPayload      = 1 << 20 // bytes of one data message
	maxScore        = 5       // mean opinion score
)

var errFrame = errors.New("directory: malformed frame")

// checkFrame validates what came from a node: a record in a report must be of that node's own participant.
func checkFrame(f *pb.Frame, from mesh.NodeID) error {
	if f.GetVersion() < wireVersion {
		return fmt.Errorf("%w: version %d", errFrame, f.GetVersion())
	}
	switch f.GetBody().(type) {
	case *pb.Frame_Hello, *pb.Frame_Response:
	case nil:
		return nil // a body of a later release: skipped
	default:
		if _, err := mesh.ParseRoomName(f.GetRoom()); err != nil {
			return fmt.Errorf("%w: %w", errFrame, err)
		}
	}
	switch b := f.GetBody().(type) {
	case *pb.Frame_Report:
		return errors.Join(checkBatch(b.Report.GetParticipants(), from), checkRoom(b.Report.GetKnown()))
	case *pb.Frame_Update:
		if len(b.Update.GetReported()) > maxNodes {
			return fmt.Errorf("%w: %d nodes", errFrame, len(b.Update.GetReported()))
		}
		return errors.Join(checkBatch(b.Update.GetParticipants(), ""), checkRoom(b.Update.GetRoom()))
	case *pb.Frame_Command:
		return errors.Join(short("participant", b.Command.GetParticipant()), checkOrder(b.Command.GetOrder()))
	case *pb.Frame_Data:
		return checkData(b.Data)
	case *pb.Frame_Request:
		switch ask := b.Request.GetAsk().(type) {
		case *pb.Request_Moderate:
			return errors.Join(short("identity", ask.Moderate.GetIdentity()), checkOrder(ask.Moderate.GetOrder()))
		case *pb.Request_SetMetadata:
			return atMost("metadata", len(ask.SetMetadata.GetMetadata()), mesh.MaxMetadataBytes)
		case *pb.Request_Send:
			return checkData(ask.Send)
		}
	case *pb.Frame_Response:
		return errors.Join(checkBatch(b.Response.GetParticipants(), ""), checkRoom(b.Response.GetRoom()))
	}
	return nil
}

// checkBatch validates records; from, unless empty, is the only node they may be of.
func checkBatch(records []*pb.Participant, from mesh.NodeID) error {
	if err := atMost("participants", len(records), maxBatch); err != nil {
		return err
	}
	for _, p := range records {
		if from != "" && p.GetNode() != string(from) {
			return fmt.Errorf("%w: node %s speaks for node %.64q", errFrame, from, p.GetNode())
		}
		if err := checkParticipant(p); err != nil {
			return err
		}
	}
	return nil
}

func checkParticipant(p *pb.Participant) error {
	if p.GetId() == "" {
		return fmt.Errorf("%w: participant without ID", errFrame)
	}
	if _, err := mesh.ParseIdentity(p.GetIdentity()); err != nil {
		return fmt.Errorf("%w: %w", errFrame, err)
	}
	if _, err := mesh.ParseNodeID(p.GetNode()); err != nil {
		return fmt.Errorf("%w: %w", errFrame, err)
	}
	if p.GetState() > uint32(mesh.StateDisconnected) {
		return fmt.Errorf("%w: participant state %d", errFrame, p.GetState())
	}
	if score := p.GetQuality().GetScore(); !(score >= 0 && score <= maxScore) { // NaN is neither
		return fmt.Errorf("%w: quality %v", errFrame, score)
	}
	errs := []error{
		short("participant", p.GetId()), short("name", p.GetName()), short("kind", p.GetKind()), short("region", p.GetRegion()),
		atMost("metadata", len(p.GetMetadata()), mesh.MaxMetadataBytes), checkAttributes(p.GetAttributes()),
		checkPermission(p.GetPermission()), atMost("capabilities", len(p.GetCapabilities()), maxList),
		atMost("sources", len(p.GetSources()), mesh.MaxSourcesPerMember),
		atMost("access list", len(p.GetSubscribers().GetIdentities()), maxACL),
	}
	for identity, list := range p.GetSubscribers().GetIdentities() {
		errs = append(errs, short("identity", identity), atMost("sources", len(list.GetSources()), mesh.MaxSourcesPerMember), shorts("source", list.GetSources()))
	}
	for _, s := range p.GetSources() {
		errs = append(errs, checkSource(s))
	}
	return errors.Join(errs...)
}

func checkSource(s *pb.Source) error {
	if s.GetId() == "" || s.GetKind() > uint32(mesh.Video) || s.GetType() > 255 || s.GetEncryption() > 255 {
		return fmt.Errorf("%w: source %.64q", errFrame, s.GetId())
	}
	errs := []error{
		shorts("source", []string{s.GetId(), s.GetClientId(), s.GetName(), s.GetMimeType(), s.GetMid(), s.GetStreamName()}),
		atMost("format parameters", len(s.GetFmtp()), maxLong),
		atMost("encodings", len(s.GetEncodings()), maxList), atMost("extensions", len(s.GetExtensions()), maxList),
	}
	for _, e := range s.GetEncodings() {
		errs = append(errs, short("rid", e.GetRid()))
	}
	for _, x := range s.GetExtensions() {
		errs = append(errs, short("extension", x.GetUri()), atMost("extension ID", int(x.GetId()), 255))
	}
	return errors.Join(errs...)
}

func checkRoom(r *pb.Room) error {
	if r == nil {
		return nil
	}
	if r.GetEmptyTimeout() < 0 || r.GetDepartureTimeout() < 0 {
		return fmt.Errorf("%w: negative timeout", errFrame)
	}
	return errors.Join(short("room ID", r.GetId()), short("owner", r.GetOwner()), short("room", r.GetName()),
		atMost("metadata", len(r.GetMetadata()), mesh.MaxMetadataBytes))
}

func checkOrder(o *pb.Order) error {
	switch k := o.GetKind().(type) {
	case *pb.Order_Mute:
		return short("source", k.Mute.GetSource())
	case *pb.Order_Change:
		return errors.Join(short("name", k.Change.GetName()), atMost("metadata", len(k.Change.GetMetadata()), mesh.MaxMetadataBytes),
			checkAttributes(k.Change.GetAttributes()), checkPermission(k.Change.GetPermission()))
	case *pb.Order_Subscribe:
		return errors.Join(atMost("sources", len(k.Subscribe.GetSources()), maxBatch), shorts("source", k.Subscribe.GetSources()))
	}
	return nil
}

func checkData(d *pb.Data) error {
	return errors.Join(short("sender", d.GetSender()), atMost("payload", len(d.GetPayload()), maxPayload),
		atMost("destinations", len(d.GetDestinations()), maxDestinations), shorts("destination", d.GetDestinations()))
}

func checkPermission(p *pb.Permission) error {
	for _, t := range p.GetCanPublishSources() {
		if t > 255 {
			return fmt.Errorf("%w: source type %d", errFrame, t)
		}
	}
	return atMost("source types", len(p.GetCanPublishSources()), maxList)
}

func checkAttributes(a map[string]string) error {
	n := 0
	for k, v := range a {
		n += len(k) + len(v)
	}
	return atMost("attributes", n, mesh.MaxAttributesBytes)
}

// checkOwn refuses a record of our own that other nodes would refuse, together with the stream.
func checkOwn(p mesh.Participant, self mesh.NodeID) error {
	w := participantToWire(p)
	if err := checkBatch([]*pb.Participant{w}, self); err != nil {
		return err
	}
	_, err := proto.Marshal(w) // strings that are not UTF-8
	return err
}

func short(what, s string) error { return atMost(what, len(s), maxShort) }

func shorts(what string, list []string) error {
	for _, s := range list {
		if err := short(what, s); err != nil {
			return err
		}
	}
	return nil
}

func atMost(what string, n, most int) error {
	if n > most {
		return fmt.Errorf("%w: %s: %d, at most %d", errFrame, what, n, most)
	}
	return nil
}
