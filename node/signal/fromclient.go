package signal

import (
	"fmt"

	"github.com/livekit/protocol/livekit"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

// Limits of what one message may list. A message over them breaks the connection unless the request can be answered.
const (
	maxListed         = 4096    // IDs in one message
	maxIDBytes        = 256     // of a client's own name of a track and the like
	maxCandidateBytes = 8 << 10 // of one ICE candidate
	maxCodecs         = 16
	maxLayers         = 16
)

// limitError says that a message breaks a limit.
type limitError struct{ what string }

func (e *limitError) Error() string { return "message over limits: " + e.what }

func sourceIDs(sids []string) ([]mesh.SourceID, error) {
	if len(sids) > maxListed {
		return nil, &limitError{fmt.Sprintf("%d tracks", len(sids))}
	}
	ids := make([]mesh.SourceID, 0, len(sids))
	for _, sid := range sids {
		if len(sid) > maxIDBytes {
			return nil, &limitError{"track ID"}
		}
		ids = append(ids, mesh.SourceID(sid))
	}
	return ids, nil
}

func sessionDescription(d *livekit.SessionDescription) *SessionDescription {
	if d == nil {
		return nil
	}
	return &SessionDescription{Type: d.GetType(), SDP: d.GetSdp(), ID: d.GetId()}
}

// addTrack converts an announcement. It fails for what can never be published.
//
//nolint:staticcheck // older clients know only the deprecated fields
func addTrack(r *livekit.AddTrackRequest) (AddTrack, error) {
	a := AddTrack{
		ClientID: r.GetCid(), SourceID: mesh.SourceID(r.GetSid()), Name: r.GetName(), Muted: r.GetMuted(),
		Width: r.GetWidth(), Height: r.GetHeight(), StreamName: r.GetStream(), Stereo: r.GetStereo(),
		DisableDTX: r.GetDisableDtx(), DisableRED: r.GetDisableRed(), BackupCodecPolicy: int32(r.GetBackupCodecPolicy()),
	}
	switch r.GetType() {
	case livekit.TrackType_AUDIO:
		a.Kind = mesh.Audio
	case livekit.TrackType_VIDEO:
		a.Kind = mesh.Video
	default:
		return a, fmt.Errorf("signal: track type %d cannot be published", r.GetType())
	}
	if len(a.ClientID) > maxIDBytes || len(a.SourceID) > maxIDBytes || len(a.Name) > mesh.MaxNameLength || len(a.StreamName) > maxIDBytes ||
		len(r.GetLayers()) > maxLayers || len(r.GetSimulcastCodecs()) > maxCodecs || len(r.GetAudioFeatures()) > maxListed {
		return a, &limitError{"track announcement"}
	}
	if s := r.GetSource(); s > livekit.TrackSource_UNKNOWN && s <= livekit.TrackSource_SCREEN_SHARE_AUDIO {
		a.Type = mesh.SourceType(s)
	}
	if a.StreamName == "" {
		a.StreamName = streamName(a.Type)
	}
	switch r.GetEncryption() {
	case livekit.Encryption_NONE:
	case livekit.Encryption_GCM:
		a.Encryption = mesh.EncryptionGCM
	default:
		a.Encryption = mesh.EncryptionCustom
	}
	for _, f := range r.GetAudioFeatures() {
		a.AudioFeatures = append(a.AudioFeatures, int32(f))
		a.Stereo = a.Stereo || f == livekit.AudioTrackFeature_TF_STEREO
		a.DisableDTX = a.DisableDTX || f == livekit.AudioTrackFeature_TF_NO_DTX
	}
	for _, c := range r.GetSimulcastCodecs() {
		if len(c.GetLayers()) > maxLayers || len(c.GetCid()) > maxIDBytes || len(c.GetCodec()) > maxIDBytes {
			return a, &limitError{"codec announcement"}
		}
		a.Codecs = append(a.Codecs, AddTrackCodec{
			Codec: codecName(c.GetCodec()), ClientID: c.GetCid(), Mode: int32(c.GetVideoLayerMode()),
			Encodings: encodingsFromLayers(c.GetLayers(), c.GetVideoLayerMode()),
		})
	}
	if a.Kind == mesh.Video {
		a.videoLayers(r.GetLayers())
	}
	return a, nil
}

// videoLayers settles the encodings and the size: the preferred codec's say counts, older clients speak for all codecs at once.
func (a *AddTrack) videoLayers(layers []*livekit.VideoLayer) {
	mode := livekit.VideoLayer_MODE_UNUSED
	if len(a.Codecs) > 0 {
		mode = livekit.VideoLayer_Mode(a.Codecs[0].Mode)
		a.Encodings = append(a.Encodings, a.Codecs[0].Encodings...)
	}
	if len(a.Encodings) == 0 {
		a.Encodings = encodingsFromLayers(layers, mode)
	}
	if n := len(a.Encodings); n > 0 && a.Width == 0 && a.Height == 0 {
		a.Width, a.Height = a.Encodings[n-1].Width, a.Encodings[n-1].Height
	}
}

func subscription(r *livekit.UpdateSubscription) (Subscription, error) {
	sids := r.GetTrackSids()
	for _, pt := range r.GetParticipantTracks() {
		if sids = append(sids[:len(sids):len(sids)], pt.GetTrackSids()...); len(sids) > maxListed {
			break
		}
	}
	ids, err := sourceIDs(sids)
	return Subscription{Sources: ids, Subscribe: r.GetSubscribe()}, err
}

func trackSettings(r *livekit.UpdateTrackSettings) (TrackSettings, error) {
	ids, err := sourceIDs(r.GetTrackSids())
	q := r.GetQuality()
	if q < livekit.VideoQuality_LOW || q > livekit.VideoQuality_OFF {
		q = livekit.VideoQuality_HIGH
	}
	return TrackSettings{
		Sources: ids, Disabled: r.GetDisabled(), Quality: Quality(q), Width: r.GetWidth(), Height: r.GetHeight(),
		FPS: r.GetFps(), Priority: r.GetPriority(),
	}, err
}

func subscriptionPermission(r *livekit.SubscriptionPermission) (SubscriptionPermission, error) {
	p := SubscriptionPermission{All: r.GetAllParticipants()}
	if len(r.GetTrackPermissions()) > maxListed {
		return p, &limitError{"subscription permissions"}
	}
	total := 0
	for _, tp := range r.GetTrackPermissions() {
		total += len(tp.GetTrackSids())
		ids, err := sourceIDs(tp.GetTrackSids())
		if err != nil {
			return p, err
		}
		if len(tp.GetParticipantIdentity()) > mesh.MaxNameLength || len(tp.GetParticipantSid()) > maxIDBytes || total > maxListed*4 {
			return p, &limitError{"subscription permission"}
		}
		p.Grants = append(p.Grants, SubscriptionGrant{
			Participant: mesh.ParticipantID(tp.GetParticipantSid()), Identity: mesh.Identity(tp.GetParticipantIdentity()),
			AllSources: tp.GetAllTracks(), Sources: ids,
		})
	}
	return p, nil
}

func updateMetadata(r *livekit.UpdateParticipantMetadata) (UpdateMetadata, error) {
	u := UpdateMetadata{Name: r.GetName(), Metadata: r.GetMetadata(), Attributes: r.GetAttributes(), RequestID: r.GetRequestId()}
	return u, checkProfile(u.Name, u.Metadata, u.Attributes)
}

// checkProfile holds what a participant says of itself against the limits of package mesh.
func checkProfile(name, metadata string, attributes map[string]string) error {
	size := 0
	for k, v := range attributes {
		size += len(k) + len(v)
	}
	switch {
	case len(name) > mesh.MaxNameLength:
		return &limitError{"name"}
	case len(metadata) > mesh.MaxMetadataBytes:
		return &limitError{"metadata"}
	case size > mesh.MaxAttributesBytes:
		return &limitError{"attributes"}
	}
	return nil
}

func updateAudioTrack(r *livekit.UpdateLocalAudioTrack) (UpdateAudioTrack, error) {
	u := UpdateAudioTrack{Source: mesh.SourceID(r.GetTrackSid())}
	if len(r.GetFeatures()) > maxListed || len(u.Source) > maxIDBytes {
		return u, &limitError{"audio features"}
	}
	for _, f := range r.GetFeatures() {
		u.Features = append(u.Features, int32(f))
		u.Stereo = u.Stereo || f == livekit.AudioTrackFeature_TF_STEREO
		u.NoDTX = u.NoDTX || f == livekit.AudioTrackFeature_TF_NO_DTX
	}
	return u, nil
}

func syncState(r *livekit.SyncState) (SyncState, error) {
	s := SyncState{Offer: sessionDescription(r.GetOffer()), Answer: sessionDescription(r.GetAnswer())}
	var err error
	if s.Subscription, err = subscription(r.GetSubscription()); err != nil {
		return s, err
	}
	if s.Disabled, err = sourceIDs(r.GetTrackSidsDisabled()); err != nil {
		return s, err
	}
	if len(r.GetPublishTracks()) > maxListed || len(r.GetDataChannels()) > maxListed || len(r.GetDatachannelReceiveStates()) > maxListed {
		return s, &limitError{"sync state"}
	}
	for _, t := range r.GetPublishTracks() {
		s.Published = append(s.Published, PublishedSource{ClientID: t.GetCid(), ID: mesh.SourceID(t.GetTrack().GetSid())})
	}
	for _, d := range r.GetDataChannels() {
		s.DataChannels = append(s.DataChannels, DataChannel{Label: d.GetLabel(), ID: d.GetId(), Target: target(d.GetTarget())})
	}
	for _, d := range r.GetDatachannelReceiveStates() {
		s.ReceiveStates = append(s.ReceiveStates, DataReceiveState{Sender: mesh.ParticipantID(d.GetPublisherSid()), LastSequence: d.GetLastSeq()})
	}
	return s, nil
}

func target(t livekit.SignalTarget) Target {
	if t == livekit.SignalTarget_SUBSCRIBER {
		return TargetSubscriber
	}
	return TargetPublisher
}

func scenario(r *livekit.SimulateScenario) (Scenario, bool) {
	switch s := r.GetScenario().(type) {
	case *livekit.SimulateScenario_SpeakerUpdate:
		return Scenario{SimulateSpeakerUpdate, int64(s.SpeakerUpdate)}, true
	case *livekit.SimulateScenario_NodeFailure:
		return Scenario{Kind: SimulateNodeFailure}, s.NodeFailure
	case *livekit.SimulateScenario_Migration:
		return Scenario{Kind: SimulateMigration}, s.Migration
	case *livekit.SimulateScenario_ServerLeave:
		return Scenario{Kind: SimulateServerLeave}, s.ServerLeave
	case *livekit.SimulateScenario_SwitchCandidateProtocol:
		return Scenario{SimulateCandidateProtocol, int64(s.SwitchCandidateProtocol)}, true
	case *livekit.SimulateScenario_SubscriberBandwidth:
		return Scenario{SimulateSubscriberBandwidth, s.SubscriberBandwidth}, s.SubscriberBandwidth >= 0
	case *livekit.SimulateScenario_DisconnectSignalOnResume:
		return Scenario{Kind: SimulateDisconnectOnResume}, s.DisconnectSignalOnResume
	case *livekit.SimulateScenario_DisconnectSignalOnResumeNoMessages:
		return Scenario{Kind: SimulateDisconnectOnResumeSilent}, s.DisconnectSignalOnResumeNoMessages
	case *livekit.SimulateScenario_LeaveRequestFullReconnect:
		return Scenario{Kind: SimulateLeaveFullReconnect}, s.LeaveRequestFullReconnect
	}
	return Scenario{}, false
}
