//nolint:staticcheck // the deprecated fields have to be right as well
package signal

import (
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/livekit/protocol/livekit"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

var dataSender = mesh.Participant{ID: "PA_1", Identity: "alice", Permission: mesh.Permission{CanPublishData: true}}

func stamp(t *testing.T, p *livekit.DataPacket, reliable bool, sender mesh.Participant) (mesh.DataMessage, *livekit.DataPacket) {
	t.Helper()
	raw, err := proto.Marshal(p)
	require.NoError(t, err)
	m, err := StampData(raw, reliable, sender)
	require.NoError(t, err)
	out := new(livekit.DataPacket)
	require.NoError(t, proto.Unmarshal(m.Payload, out))
	return m, out
}

func TestStampData(t *testing.T) {
	user := func(u *livekit.UserPacket) *livekit.DataPacket_User { return &livekit.DataPacket_User{User: u} }

	t.Run("overwrites the sender and keeps the rest", func(t *testing.T) {
		m, p := stamp(t, &livekit.DataPacket{
			ParticipantIdentity: "mallory", ParticipantSid: "PA_9", Kind: livekit.DataPacket_LOSSY, Sequence: 7,
			Value: user(&livekit.UserPacket{ParticipantIdentity: "mallory", ParticipantSid: "PA_9", Payload: []byte("hi"), Topic: proto.String("t"), Nonce: []byte{1}}),
		}, true, dataSender)
		require.True(t, proto.Equal(&livekit.DataPacket{
			ParticipantIdentity: "alice", ParticipantSid: "PA_1", Kind: livekit.DataPacket_RELIABLE, Sequence: 7,
			Value: user(&livekit.UserPacket{ParticipantIdentity: "alice", ParticipantSid: "PA_1", Payload: []byte("hi"), Topic: proto.String("t"), Nonce: []byte{1}}),
		}, p))
		require.Equal(t, mesh.ParticipantID("PA_1"), m.Sender)
		require.True(t, m.Reliable)
		require.Empty(t, m.Destinations)
	})
	t.Run("hides the hidden", func(t *testing.T) {
		hidden := dataSender
		hidden.Permission.Hidden = true
		m, p := stamp(t, &livekit.DataPacket{ParticipantIdentity: "x", ParticipantSid: "y", Value: user(&livekit.UserPacket{ParticipantIdentity: "x", ParticipantSid: "y"})}, false, hidden)
		require.Empty(t, p.GetParticipantIdentity()+p.GetParticipantSid()+p.GetUser().GetParticipantIdentity()+p.GetUser().GetParticipantSid())
		require.Equal(t, livekit.DataPacket_LOSSY, p.GetKind())
		require.Equal(t, mesh.ParticipantID("PA_1"), m.Sender, "the mesh still has to know whom not to send it back to")
	})
	t.Run("mirrors the addressees", func(t *testing.T) {
		m, p := stamp(t, &livekit.DataPacket{Value: user(&livekit.UserPacket{DestinationIdentities: []string{"c", "b", "c"}})}, true, dataSender)
		require.Equal(t, []mesh.Identity{"b", "c"}, m.Destinations)
		require.Equal(t, []string{"c", "b", "c"}, p.GetDestinationIdentities())
		m, p = stamp(t, &livekit.DataPacket{DestinationIdentities: []string{"b"}, Value: user(&livekit.UserPacket{DestinationIdentities: []string{"z"}})}, true, dataSender)
		require.Equal(t, []mesh.Identity{"b"}, m.Destinations)
		require.Equal(t, []string{"b"}, p.GetUser().GetDestinationIdentities())
	})
	t.Run("agents speak for others", func(t *testing.T) {
		chat := &livekit.DataPacket{ParticipantIdentity: "bob", Value: &livekit.DataPacket_ChatMessage{ChatMessage: &livekit.ChatMessage{Message: "hi"}}}
		_, p := stamp(t, chat, true, dataSender)
		require.Equal(t, "alice", p.GetParticipantIdentity())
		agent := dataSender
		agent.Kind = "agent"
		_, p = stamp(t, chat, true, agent)
		require.Equal(t, "bob", p.GetParticipantIdentity())
		chat.ParticipantIdentity = ""
		_, p = stamp(t, chat, true, agent)
		require.Equal(t, "alice", p.GetParticipantIdentity())
		_, p = stamp(t, &livekit.DataPacket{ParticipantIdentity: "bob", Value: user(&livekit.UserPacket{})}, true, agent)
		require.Equal(t, "alice", p.GetParticipantIdentity())
	})
	t.Run("values of the future travel", func(t *testing.T) {
		m, err := StampData([]byte{0xc2, 0x3e, 0x01, 'x'}, true, dataSender) // field 1000, one byte
		require.NoError(t, err)
		require.Contains(t, string(m.Payload), "\xc2\x3e\x01x")
	})
}

func TestStampDataRefuses(t *testing.T) {
	raw := func(p *livekit.DataPacket) []byte {
		b, err := proto.Marshal(p)
		require.NoError(t, err)
		return b
	}
	for name, tc := range map[string]struct {
		raw  []byte
		want error
	}{
		"garbage":       {[]byte{0xff, 0xff}, ErrDataMalformed},
		"empty":         {nil, ErrDataMalformed},
		"no value":      {raw(&livekit.DataPacket{Sequence: 1}), ErrDataMalformed},
		"too large":     {make([]byte, MaxDataBytes+1), ErrDataTooLarge},
		"speaker":       {raw(&livekit.DataPacket{Value: &livekit.DataPacket_Speaker{Speaker: &livekit.ActiveSpeakerUpdate{}}}), ErrDataDropped},
		"metrics":       {raw(&livekit.DataPacket{Value: &livekit.DataPacket_Metrics{Metrics: &livekit.MetricsBatch{}}}), ErrDataDropped},
		"transcription": {raw(&livekit.DataPacket{Value: &livekit.DataPacket_Transcription{Transcription: &livekit.Transcription{}}}), ErrDataDropped},
		"only IDs":      {raw(&livekit.DataPacket{Value: &livekit.DataPacket_User{User: &livekit.UserPacket{DestinationSids: []string{"PA_2"}}}}), ErrDataDropped},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := StampData(tc.raw, true, dataSender)
			require.ErrorIs(t, err, tc.want)
		})
	}
	_, err := StampData(raw(&livekit.DataPacket{Value: &livekit.DataPacket_User{User: &livekit.UserPacket{}}}), true, mesh.Participant{})
	require.ErrorIs(t, err, ErrDataNotAllowed)
}

func TestServerData(t *testing.T) {
	m, err := ServerData([]byte("hi"), "topic", false, []mesh.Identity{"b", "a"}, []byte{9})
	require.NoError(t, err)
	require.Empty(t, m.Sender)
	require.False(t, m.Reliable)
	require.Equal(t, []mesh.Identity{"a", "b"}, m.Destinations)
	p := new(livekit.DataPacket)
	require.NoError(t, proto.Unmarshal(m.Payload, p))
	require.True(t, proto.Equal(&livekit.DataPacket{
		Kind: livekit.DataPacket_LOSSY, DestinationIdentities: []string{"b", "a"},
		Value: &livekit.DataPacket_User{User: &livekit.UserPacket{Payload: []byte("hi"), Topic: proto.String("topic"), DestinationIdentities: []string{"b", "a"}, Nonce: []byte{9}}},
	}, p))
	_, err = ServerData(make([]byte, MaxDataBytes), "", true, nil, nil)
	require.ErrorIs(t, err, ErrDataTooLarge)
}
