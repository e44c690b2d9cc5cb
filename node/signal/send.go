package signal

import (
	"maps"

	"google.golang.org/protobuf/proto"

	"github.com/livekit/protocol/livekit"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

// maxUpdateBytes is about how large one participant update gets; a single participant may be larger.
const maxUpdateBytes = 128 << 10

// SendJoin sends what a client that joined has to know. It must be the first message.
func (c *Conn) SendJoin(r JoinResponse) {
	info := c.cfg.serverInfo()
	c.send(&livekit.SignalResponse{Message: &livekit.SignalResponse_Join{Join: &livekit.JoinResponse{
		Room:                 c.cfg.room(&r.Room, r.Counts),
		Participant:          participantInfo(&r.Participant),
		OtherParticipants:    participantInfos(r.Others),
		ServerVersion:        info.Version,
		IceServers:           iceServers(r.ICEServers),
		SubscriberPrimary:    r.SubscriberPrimary,
		ClientConfiguration:  clientConfiguration(r.ForceRelay),
		ServerRegion:         info.Region,
		PingTimeout:          int32(seconds(c.cfg.ClientPingTimeout)),
		PingInterval:         int32(seconds(c.cfg.ClientPingInterval)),
		ServerInfo:           info,
		SifTrailer:           r.SIFTrailer,
		EnabledPublishCodecs: c.cfg.codecs(),
		FastPublish:          r.FastPublish,
	}}})
}

// SendReconnect answers a resume. It must be the first message then; an update with all participants follows it.
func (c *Conn) SendReconnect(r ReconnectResponse) {
	c.send(&livekit.SignalResponse{Message: &livekit.SignalResponse_Reconnect{Reconnect: &livekit.ReconnectResponse{
		IceServers: iceServers(r.ICEServers), ClientConfiguration: clientConfiguration(r.ForceRelay),
		ServerInfo: c.cfg.serverInfo(), LastMessageSeq: r.LastMessageSequence,
	}}})
}

// SendUpdate tells what changed about participants, the client's own included. Many of them are split over several messages.
func (c *Conn) SendUpdate(ps []mesh.Participant) {
	var batch []*livekit.ParticipantInfo
	size := 0
	flush := func() {
		if len(batch) > 0 {
			c.send(&livekit.SignalResponse{Message: &livekit.SignalResponse_Update{Update: &livekit.ParticipantUpdate{Participants: batch}}})
		}
		batch, size = nil, 0
	}
	for i := range ps {
		info := participantInfo(&ps[i])
		n := proto.Size(info)
		if size+n > maxUpdateBytes {
			flush()
		}
		batch, size = append(batch, info), size+n
	}
	flush()
}

// SendOffer sends an offer of the subscriber's peer connection.
func (c *Conn) SendOffer(d SessionDescription, midToTrack map[string]string) {
	c.send(&livekit.SignalResponse{Message: &livekit.SignalResponse_Offer{Offer: sdp(d, midToTrack)}})
}

// SendAnswer answers a client's offer; d.ID is the offer's. midToTrack names the track each sending m-line carries: with a
// single peer connection clients know it by nothing else.
func (c *Conn) SendAnswer(d SessionDescription, midToTrack map[string]string) {
	c.send(&livekit.SignalResponse{Message: &livekit.SignalResponse_Answer{Answer: sdp(d, midToTrack)}})
}

// SendTrickle sends a candidate as the JSON of an RTCIceCandidateInit; final says that no more will come.
func (c *Conn) SendTrickle(t Target, candidate string, final bool) {
	c.send(&livekit.SignalResponse{Message: &livekit.SignalResponse_Trickle{Trickle: &livekit.TrickleRequest{
		CandidateInit: candidate, Target: livekit.SignalTarget(t), Final: final,
	}}})
}

// SendTrackPublished answers AddTrack: the source the client calls clientID is src.
func (c *Conn) SendTrackPublished(clientID string, src mesh.Source) {
	c.send(&livekit.SignalResponse{Message: &livekit.SignalResponse_TrackPublished{TrackPublished: &livekit.TrackPublishedResponse{
		Cid: clientID, Track: trackInfo(&src),
	}}})
}

// SendTrackUnpublished says that the client's own source was removed by the server.
func (c *Conn) SendTrackUnpublished(id mesh.SourceID) {
	c.send(&livekit.SignalResponse{Message: &livekit.SignalResponse_TrackUnpublished{TrackUnpublished: &livekit.TrackUnpublishedResponse{TrackSid: string(id)}}})
}

// SendMute makes the client mute or unmute its own source; it answers with a mute of its own.
func (c *Conn) SendMute(id mesh.SourceID, muted bool) {
	c.send(&livekit.SignalResponse{Message: &livekit.SignalResponse_Mute{Mute: &livekit.MuteTrackRequest{Sid: string(id), Muted: muted}}})
}

// SendRoomUpdate tells what changed about the room.
func (c *Conn) SendRoomUpdate(r mesh.Room, counts RoomCounts) {
	c.send(&livekit.SignalResponse{Message: &livekit.SignalResponse_RoomUpdate{RoomUpdate: &livekit.RoomUpdate{Room: c.cfg.room(&r, counts)}}})
}

// SendSpeakers tells whose level changed since the last time.
func (c *Conn) SendSpeakers(speakers []Speaker) {
	out := make([]*livekit.SpeakerInfo, len(speakers))
	for i, s := range speakers {
		out[i] = &livekit.SpeakerInfo{Sid: string(s.Participant), Level: s.Level, Active: s.Active}
	}
	c.send(&livekit.SignalResponse{Message: &livekit.SignalResponse_SpeakersChanged{SpeakersChanged: &livekit.SpeakersChanged{Speakers: out}}})
}

// SendConnectionQuality tells whose connection changed, the client's own included.
func (c *Conn) SendConnectionQuality(updates []ConnectionQuality) {
	out := make([]*livekit.ConnectionQualityInfo, len(updates))
	for i, u := range updates {
		out[i] = &livekit.ConnectionQualityInfo{ParticipantSid: string(u.Participant), Quality: livekit.ConnectionQuality(u.Level), Score: u.Score}
	}
	c.send(&livekit.SignalResponse{Message: &livekit.SignalResponse_ConnectionQuality{ConnectionQuality: &livekit.ConnectionQualityUpdate{Updates: out}}})
}

// SendStreamState tells which sources are paused for this client.
func (c *Conn) SendStreamState(states []StreamState) {
	out := make([]*livekit.StreamStateInfo, len(states))
	for i, s := range states {
		out[i] = &livekit.StreamStateInfo{ParticipantSid: string(s.Participant), TrackSid: string(s.Source)}
		if s.Paused {
			out[i].State = livekit.StreamState_PAUSED
		}
	}
	c.send(&livekit.SignalResponse{Message: &livekit.SignalResponse_StreamStateUpdate{StreamStateUpdate: &livekit.StreamStateUpdate{StreamStates: out}}})
}

// SendSubscribedQuality tells a publisher which qualities of its source somebody wants; it stops the others. A codec it lists and
// the client does not send yet makes the client start it. Clients that know no codecs obey the first entry.
//
//nolint:staticcheck // older clients know only the deprecated fields
func (c *Conn) SendSubscribedQuality(id mesh.SourceID, codecs []SubscribedCodec) {
	update := &livekit.SubscribedQualityUpdate{TrackSid: string(id)}
	for i, codec := range codecs {
		if i == 0 {
			update.SubscribedQualities = subscribedQualities(codec.Enabled)
		}
		update.SubscribedCodecs = append(update.SubscribedCodecs, &livekit.SubscribedCodec{
			Codec: codecName(codec.Codec), Qualities: subscribedQualities(codec.Enabled),
		})
	}
	c.send(&livekit.SignalResponse{Message: &livekit.SignalResponse_SubscribedQualityUpdate{SubscribedQualityUpdate: update}})
}

func subscribedQualities(enabled [3]bool) []*livekit.SubscribedQuality {
	out := make([]*livekit.SubscribedQuality, len(enabled))
	for q, on := range enabled {
		out[q] = &livekit.SubscribedQuality{Quality: livekit.VideoQuality(q), Enabled: on}
	}
	return out
}

// SendSubscriptionPermission tells whether the client may subscribe to somebody's source.
func (c *Conn) SendSubscriptionPermission(p mesh.ParticipantID, id mesh.SourceID, allowed bool) {
	c.send(&livekit.SignalResponse{Message: &livekit.SignalResponse_SubscriptionPermissionUpdate{SubscriptionPermissionUpdate: &livekit.SubscriptionPermissionUpdate{
		ParticipantSid: string(p), TrackSid: string(id), Allowed: allowed,
	}}})
}

// SendSubscriptionResponse tells why a source the client asked for will not come.
func (c *Conn) SendSubscriptionResponse(id mesh.SourceID, err SubscriptionError) {
	c.send(&livekit.SignalResponse{Message: &livekit.SignalResponse_SubscriptionResponse{SubscriptionResponse: &livekit.SubscriptionResponse{
		TrackSid: string(id), Err: livekit.SubscriptionError(err),
	}}})
}

// SendTrackSubscribed tells a publisher, once, that its source has its first subscriber.
func (c *Conn) SendTrackSubscribed(id mesh.SourceID) {
	c.send(&livekit.SignalResponse{Message: &livekit.SignalResponse_TrackSubscribed{TrackSubscribed: &livekit.TrackSubscribed{TrackSid: string(id)}}})
}

// SendMediaSections asks a client with a single peer connection to offer that many more receiving m-lines; zero of both forces
// a new offer.
func (c *Conn) SendMediaSections(audios, videos uint32) {
	c.send(&livekit.SignalResponse{Message: &livekit.SignalResponse_MediaSectionsRequirement{MediaSectionsRequirement: &livekit.MediaSectionsRequirement{
		NumAudios: audios, NumVideos: videos,
	}}})
}

// SendRefreshToken gives the client a fresh token for its next connection.
func (c *Conn) SendRefreshToken(token string) {
	c.send(&livekit.SignalResponse{Message: &livekit.SignalResponse_RefreshToken{RefreshToken: token}})
}

// SendRequestResponse tells how a request ended.
func (c *Conn) SendRequestResponse(r RequestResponse) {
	out := &livekit.RequestResponse{RequestId: r.RequestID, Reason: livekit.RequestResponse_Reason(r.Reason), Message: r.Message}
	switch {
	case r.AddTrack != nil:
		out.Request = &livekit.RequestResponse_AddTrack{AddTrack: addTrackRequest(r.AddTrack)}
	case r.Mute != nil:
		out.Request = &livekit.RequestResponse_Mute{Mute: &livekit.MuteTrackRequest{Sid: string(r.Mute.Source), Muted: r.Mute.Muted}}
	case r.UpdateMetadata != nil:
		u := r.UpdateMetadata
		out.Request = &livekit.RequestResponse_UpdateMetadata{UpdateMetadata: &livekit.UpdateParticipantMetadata{
			Metadata: u.Metadata, Name: u.Name, Attributes: u.Attributes, RequestId: u.RequestID,
		}}
	case r.UpdateAudioTrack != nil:
		u := &livekit.UpdateLocalAudioTrack{TrackSid: string(r.UpdateAudioTrack.Source)}
		for _, f := range r.UpdateAudioTrack.Features {
			u.Features = append(u.Features, livekit.AudioTrackFeature(f))
		}
		out.Request = &livekit.RequestResponse_UpdateAudioTrack{UpdateAudioTrack: u}
	case r.UpdateVideoTrack != nil:
		u := r.UpdateVideoTrack
		out.Request = &livekit.RequestResponse_UpdateVideoTrack{UpdateVideoTrack: &livekit.UpdateLocalVideoTrack{TrackSid: string(u.Source), Width: u.Width, Height: u.Height}}
	}
	c.send(&livekit.SignalResponse{Message: &livekit.SignalResponse_RequestResponse{RequestResponse: out}})
}

// addTrackRequest gives back what identifies an announcement; the layers and codecs are not repeated.
func addTrackRequest(a *AddTrack) *livekit.AddTrackRequest {
	return &livekit.AddTrackRequest{
		Cid: a.ClientID, Sid: string(a.SourceID), Name: a.Name, Type: trackType(a.Kind), Source: livekit.TrackSource(a.Type),
		Muted: a.Muted, Width: a.Width, Height: a.Height, Stream: a.StreamName, DisableRed: a.DisableRED,
		Encryption: livekit.Encryption_Type(a.Encryption),
	}
}

// SendLeave tells the client to go, and what to do then. Close has to follow it.
func (c *Conn) SendLeave(reason LeaveReason, action LeaveAction) {
	c.send(&livekit.SignalResponse{Message: &livekit.SignalResponse_Leave{Leave: &livekit.LeaveRequest{
		CanReconnect: action != ActionDisconnect, // all that clients before protocol 13 know
		Reason:       livekit.DisconnectReason(reason),
		Action:       livekit.LeaveRequest_Action(action),
	}}})
}

func sdp(d SessionDescription, midToTrack map[string]string) *livekit.SessionDescription {
	return &livekit.SessionDescription{Type: d.Type, Sdp: d.SDP, Id: d.ID, MidToTrackId: maps.Clone(midToTrack)}
}

func iceServers(servers []ICEServer) []*livekit.ICEServer {
	out := make([]*livekit.ICEServer, len(servers))
	for i, s := range servers {
		out[i] = &livekit.ICEServer{Urls: s.URLs, Username: s.Username, Credential: s.Credential}
	}
	return out
}

func clientConfiguration(forceRelay bool) *livekit.ClientConfiguration {
	out := &livekit.ClientConfiguration{}
	if forceRelay {
		out.ForceRelay = livekit.ClientConfigSetting_ENABLED
	}
	return out
}
