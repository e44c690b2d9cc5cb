package signal

import (
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/livekit/protocol/livekit"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

// MaxDataBytes is how large a message on a data channel may be, in either direction of a client: what our descriptions say in
// a=max-message-size (RFC 8841 §6).
const MaxDataBytes = 65535

// Why StampData takes no message.
var (
	ErrDataTooLarge   = errors.New("signal: data message is too large")
	ErrDataMalformed  = errors.New("signal: data message cannot be decoded")
	ErrDataNotAllowed = errors.New("signal: participant may not send data")
	ErrDataDropped    = errors.New("signal: data message of this kind is not forwarded")
)

// StampData turns what a client sent on a data channel into what others get: the sender is written over whatever the client
// claimed (left blank for a hidden one), the kind is that of the channel, and the addressees stand in both places clients of
// different age look for them. The sequence number of a reliable message stays. What is not understood travels untouched.
//
// The error is one of the ErrData values, wrapped.
//
//nolint:staticcheck // older clients know only the deprecated fields
func StampData(raw []byte, reliable bool, sender mesh.Participant) (mesh.DataMessage, error) {
	if !sender.Permission.CanPublishData {
		return mesh.DataMessage{}, ErrDataNotAllowed
	}
	if len(raw) > MaxDataBytes {
		return mesh.DataMessage{}, fmt.Errorf("%w: %d bytes", ErrDataTooLarge, len(raw))
	}
	p := new(livekit.DataPacket)
	if err := proto.Unmarshal(raw, p); err != nil {
		return mesh.DataMessage{}, ErrDataMalformed
	}
	// A value newer than this code stands among the unknown fields; without any there is nothing to forward.
	if p.GetValue() == nil && len(p.ProtoReflect().GetUnknown()) == 0 {
		return mesh.DataMessage{}, fmt.Errorf("%w: it is empty", ErrDataMalformed)
	}
	identity, sid := string(sender.Identity), string(sender.ID)
	if sender.Permission.Hidden {
		identity, sid = "", ""
	}
	agent := sender.Permission.Agent || sender.Kind == "agent"
	if !speaksForOther(p, agent) {
		p.ParticipantIdentity = identity
	}
	p.ParticipantSid = sid
	p.Kind = livekit.DataPacket_LOSSY
	if reliable {
		p.Kind = livekit.DataPacket_RELIABLE
	}
	switch v := p.GetValue().(type) {
	case *livekit.DataPacket_User:
		if err := stampUser(p, v.User, identity, sid); err != nil {
			return mesh.DataMessage{}, err
		}
	case *livekit.DataPacket_Transcription:
		if !agent {
			return mesh.DataMessage{}, fmt.Errorf("%w: transcription of a participant that is no agent", ErrDataDropped)
		}
	case *livekit.DataPacket_Speaker, *livekit.DataPacket_Metrics:
		// Speakers come from the server alone. Metrics may go only to those permitted, and a message cannot say so on its way.
		return mesh.DataMessage{}, ErrDataDropped
	}
	return dataMessage(p, reliable, sender.ID)
}

// speaksForOther reports whether an agent names somebody else as the author of what it says.
func speaksForOther(p *livekit.DataPacket, agent bool) bool {
	if !agent || p.GetParticipantIdentity() == "" {
		return false
	}
	switch p.GetValue().(type) {
	case *livekit.DataPacket_ChatMessage, *livekit.DataPacket_Transcription:
		return true
	}
	return false
}

// stampUser keeps the fields older clients read in step with those of the packet.
//
//nolint:staticcheck // older clients know only the deprecated fields
func stampUser(p *livekit.DataPacket, u *livekit.UserPacket, identity, sid string) error {
	u.ParticipantIdentity, u.ParticipantSid = identity, sid
	if len(p.DestinationIdentities) == 0 {
		p.DestinationIdentities = u.DestinationIdentities
	}
	u.DestinationIdentities = p.DestinationIdentities
	if len(u.DestinationSids) > 0 && len(p.DestinationIdentities) == 0 {
		// Forwarding it to everyone would publish what was meant for one.
		return fmt.Errorf("%w: addressees are named by ID alone", ErrDataDropped)
	}
	u.DestinationSids = nil
	return nil
}

// ServerData builds a message of the server itself: topic and payload for the given participants, or for everyone when there
// are none. Receivers drop a second message with the same nonce. The error wraps ErrDataTooLarge.
//
//nolint:staticcheck // older clients know only the deprecated fields
func ServerData(payload []byte, topic string, reliable bool, destinations []mesh.Identity, nonce []byte) (mesh.DataMessage, error) {
	to := make([]string, len(destinations))
	for i, d := range destinations {
		to[i] = string(d)
	}
	u := &livekit.UserPacket{Payload: payload, DestinationIdentities: to, Nonce: nonce}
	if topic != "" {
		u.Topic = &topic
	}
	p := &livekit.DataPacket{DestinationIdentities: to, Value: &livekit.DataPacket_User{User: u}}
	if !reliable {
		p.Kind = livekit.DataPacket_LOSSY
	}
	m, err := dataMessage(p, reliable, "")
	if err == nil && len(m.Payload) > MaxDataBytes {
		return mesh.DataMessage{}, fmt.Errorf("%w: %d bytes", ErrDataTooLarge, len(m.Payload))
	}
	return m, err
}

func dataMessage(p *livekit.DataPacket, reliable bool, sender mesh.ParticipantID) (mesh.DataMessage, error) {
	b, err := proto.Marshal(p)
	if err != nil {
		return mesh.DataMessage{}, fmt.Errorf("signal: encode data message: %w", err)
	}
	m := mesh.DataMessage{Sender: sender, Reliable: reliable, Payload: b}
	for _, d := range p.DestinationIdentities {
		m.Destinations = append(m.Destinations, mesh.Identity(d))
	}
	slices.Sort(m.Destinations)
	m.Destinations = slices.Compact(m.Destinations) // naming somebody twice must not deliver twice
	return m, nil
}
