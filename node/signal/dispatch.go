package signal

import (
	"errors"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/livekit/protocol/livekit"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

var jsonDecoder = protojson.UnmarshalOptions{DiscardUnknown: true}

// decodeRequest reads one frame of a client.
func decodeRequest(frame []byte, text bool) (*livekit.SignalRequest, error) {
	req := new(livekit.SignalRequest)
	if text {
		return req, jsonDecoder.Unmarshal(frame, req)
	}
	return req, proto.Unmarshal(frame, req)
}

// replier is what dispatch needs of a Conn.
type replier interface {
	SendRequestResponse(RequestResponse)
	send(*livekit.SignalResponse)
}

// dispatch hands one message to the session, or answers it where the session has no part in it. It reports whether the client
// leaves. An error is a limitError and ends the connection; messages it does not know are ignored.
func dispatch(req *livekit.SignalRequest, s Session, out replier, now func() time.Time) (leaves bool, err error) {
	switch m := req.GetMessage().(type) {
	case *livekit.SignalRequest_Offer:
		s.Offer(*sessionDescription(m.Offer))
	case *livekit.SignalRequest_Answer:
		s.Answer(*sessionDescription(m.Answer))
	case *livekit.SignalRequest_Trickle:
		if len(m.Trickle.GetCandidateInit()) > maxCandidateBytes {
			return false, &limitError{"ICE candidate"}
		}
		s.Trickle(target(m.Trickle.GetTarget()), m.Trickle.GetCandidateInit(), m.Trickle.GetFinal())
	case *livekit.SignalRequest_AddTrack:
		dispatchAddTrack(m.AddTrack, s, out)
	case *livekit.SignalRequest_Mute:
		if len(m.Mute.GetSid()) > maxIDBytes {
			return false, &limitError{"track ID"}
		}
		s.Mute(mesh.SourceID(m.Mute.GetSid()), m.Mute.GetMuted())
	case *livekit.SignalRequest_Subscription:
		return false, pass(s.Subscription, subscription, m.Subscription)
	case *livekit.SignalRequest_TrackSetting:
		return false, pass(s.TrackSettings, trackSettings, m.TrackSetting)
	case *livekit.SignalRequest_SubscriptionPermission:
		return false, pass(s.SubscriptionPermission, subscriptionPermission, m.SubscriptionPermission)
	case *livekit.SignalRequest_SyncState:
		return false, pass(s.SyncState, syncState, m.SyncState)
	case *livekit.SignalRequest_UpdateAudioTrack:
		return false, pass(s.UpdateAudioTrack, updateAudioTrack, m.UpdateAudioTrack)
	case *livekit.SignalRequest_UpdateVideoTrack:
		if len(m.UpdateVideoTrack.GetTrackSid()) > maxIDBytes {
			return false, &limitError{"track ID"}
		}
		s.UpdateVideoTrack(UpdateVideoTrack{mesh.SourceID(m.UpdateVideoTrack.GetTrackSid()), m.UpdateVideoTrack.GetWidth(), m.UpdateVideoTrack.GetHeight()})
	case *livekit.SignalRequest_UpdateMetadata:
		dispatchUpdateMetadata(m.UpdateMetadata, s, out)
	case *livekit.SignalRequest_Simulate:
		if sc, ok := scenario(m.Simulate); ok {
			s.Simulate(sc)
		}
	case *livekit.SignalRequest_Leave:
		s.Leave(LeaveReason(m.Leave.GetReason()))
		return true, nil
	default:
		answer(req, out, now)
	}
	return false, nil
}

// pass converts a message and hands it on.
func pass[In, Out any](to func(Out), convert func(In) (Out, error), m In) error {
	v, err := convert(m)
	if err != nil {
		return err
	}
	to(v)
	return nil
}

func dispatchAddTrack(r *livekit.AddTrackRequest, s Session, out replier) {
	a, err := addTrack(r)
	if err == nil {
		s.AddTrack(a)
		return
	}
	reason := RequestUnsupportedType
	if limit := (*limitError)(nil); errors.As(err, &limit) {
		reason = RequestLimitExceeded
	}
	// The client finds its pending request by its own ID of the track alone.
	out.SendRequestResponse(RequestResponse{Reason: reason, Message: err.Error(), AddTrack: &AddTrack{ClientID: a.ClientID, Kind: a.Kind}})
}

func dispatchUpdateMetadata(r *livekit.UpdateParticipantMetadata, s Session, out replier) {
	u, err := updateMetadata(r)
	if err == nil {
		s.UpdateMetadata(u)
		return
	}
	u.Name, u.Metadata, u.Attributes = "", "", nil // no need to send the excess back
	out.SendRequestResponse(RequestResponse{RequestID: u.RequestID, Reason: RequestLimitExceeded, Message: err.Error(), UpdateMetadata: &u})
}

// answer serves what needs no session: pings, and requests for what this server does not offer.
func answer(req *livekit.SignalRequest, out replier, now func() time.Time) {
	switch m := req.GetMessage().(type) {
	case *livekit.SignalRequest_Ping:
		out.send(&livekit.SignalResponse{Message: &livekit.SignalResponse_Pong{Pong: now().UnixMilli()}})
	case *livekit.SignalRequest_PingReq:
		out.send(&livekit.SignalResponse{Message: &livekit.SignalResponse_PongResp{PongResp: &livekit.Pong{
			LastPingTimestamp: m.PingReq.GetTimestamp(), Timestamp: now().UnixMilli(),
		}}})
	case *livekit.SignalRequest_PublishDataTrackRequest:
		out.send(unsupported(&livekit.RequestResponse{Request: &livekit.RequestResponse_PublishDataTrack{PublishDataTrack: m.PublishDataTrackRequest}}))
	case *livekit.SignalRequest_UnpublishDataTrackRequest:
		out.send(unsupported(&livekit.RequestResponse{Request: &livekit.RequestResponse_UnpublishDataTrack{UnpublishDataTrack: m.UnpublishDataTrackRequest}}))
	case *livekit.SignalRequest_StoreDataBlobRequest:
		out.send(unsupported(&livekit.RequestResponse{RequestId: m.StoreDataBlobRequest.GetRequestId()}))
	case *livekit.SignalRequest_GetDataBlobRequest:
		out.send(unsupported(&livekit.RequestResponse{RequestId: m.GetDataBlobRequest.GetRequestId()}))
	}
}

func unsupported(r *livekit.RequestResponse) *livekit.SignalResponse {
	r.Reason, r.Message = livekit.RequestResponse_UNSUPPORTED_TYPE, "not offered by this server"
	return &livekit.SignalResponse{Message: &livekit.SignalResponse_RequestResponse{RequestResponse: r}}
}
