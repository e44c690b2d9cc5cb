package signal

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/livekit/protocol/livekit"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

// MaxJoinRequestBytes is how large a join request may be, decompressed.
const MaxJoinRequestBytes = 1 << 20

const maxClientInfoBytes = 256 // of each thing a client says about itself; the rest is cut

// anyBase64 brings both alphabets, padding, and a '+' that a query turned into a space to one form.
var anyBase64 = strings.NewReplacer(" ", "+", "-", "+", "_", "/")

func decodeBase64(s string) ([]byte, error) {
	return base64.RawStdEncoding.DecodeString(strings.TrimRight(anyBase64.Replace(s), "="))
}

// decodeJoinRequest reads the join_request parameter: base64 of a wrapper that holds the request, gzipped or not.
func decodeJoinRequest(s string) (*livekit.JoinRequest, error) {
	if len(s) > 2*MaxJoinRequestBytes {
		return nil, errors.New("too large")
	}
	b, err := decodeBase64(s)
	if err != nil {
		return nil, errors.New("not base64")
	}
	wrapped := new(livekit.WrappedJoinRequest)
	if err := proto.Unmarshal(b, wrapped); err != nil {
		return nil, errors.New("not a wrapped join request")
	}
	b = wrapped.GetJoinRequest()
	switch wrapped.GetCompression() {
	case livekit.WrappedJoinRequest_NONE:
	case livekit.WrappedJoinRequest_GZIP:
		z, err := gzip.NewReader(bytes.NewReader(b))
		if err != nil {
			return nil, errors.New("not gzip")
		}
		if b, err = io.ReadAll(io.LimitReader(z, MaxJoinRequestBytes+1)); err != nil {
			return nil, errors.New("broken gzip")
		}
	default:
		return nil, errors.New("unknown compression")
	}
	if len(b) > MaxJoinRequestBytes {
		return nil, fmt.Errorf("larger than %d bytes", MaxJoinRequestBytes)
	}
	req := new(livekit.JoinRequest)
	if err := proto.Unmarshal(b, req); err != nil {
		return nil, errors.New("not a join request")
	}
	return req, nil
}

// fromJoinRequest fills in what a join_request says. Absent settings are false: proto3 has no other default, and clients that
// use it send all of them.
func (j *JoinRequest) fromJoinRequest(r *livekit.JoinRequest) error {
	s := r.GetConnectionSettings()
	j.SinglePC = true
	j.AutoSubscribe, j.AdaptiveStream, j.DisableICELite = s.GetAutoSubscribe(), s.GetAdaptiveStream(), s.GetDisableIceLite()
	allowPause, autoData := s.GetSubscriberAllowPause(), s.GetAutoSubscribeDataTrack()
	j.SubscriberAllowPause, j.AutoSubscribeData = &allowPause, &autoData
	j.Reconnect, j.ReconnectReason = r.GetReconnect(), int32(r.GetReconnectReason())
	j.ParticipantID = mesh.ParticipantID(r.GetParticipantSid())
	j.Metadata, j.Attributes = r.GetMetadata(), r.GetParticipantAttributes()

	c := r.GetClientInfo()
	j.Client = ClientInfo{
		SDK: sdkName(c.GetSdk()), Version: c.GetVersion(), Protocol: int(c.GetProtocol()), OS: c.GetOs(), OSVersion: c.GetOsVersion(),
		DeviceModel: c.GetDeviceModel(), Browser: c.GetBrowser(), BrowserVersion: c.GetBrowserVersion(), Network: c.GetNetwork(),
		ClientProtocol: c.GetClientProtocol(),
	}
	for _, capability := range c.GetCapabilities() {
		j.Client.addCapability(int32(capability))
	}

	if n := len(r.GetAddTrackRequests()); n > mesh.MaxSourcesPerMember {
		return fmt.Errorf("%d tracks, at most %d are allowed", n, mesh.MaxSourcesPerMember)
	}
	for _, t := range r.GetAddTrackRequests() {
		a, err := addTrack(t)
		if err != nil {
			return err
		}
		j.AddTracks = append(j.AddTracks, a)
	}
	j.Offer = sessionDescription(r.GetPublisherOffer())
	if r.GetSyncState() != nil {
		state, err := syncState(r.GetSyncState())
		if err != nil {
			return err
		}
		j.SyncState = &state
	}
	return nil
}

// fromQuery fills in what the parameters of /rtc say.
func (j *JoinRequest) fromQuery(q url.Values) error {
	on := func(name string) bool { return q.Get(name) == "1" || q.Get(name) == "true" }
	optional := func(name string) *bool {
		if !q.Has(name) {
			return nil
		}
		v := on(name)
		return &v
	}
	number := func(name string) int {
		n, _ := strconv.ParseInt(q.Get(name), 10, 32) // what is no number is 0, as what is absent
		return int(n)
	}
	j.AutoSubscribe = !q.Has("auto_subscribe") || on("auto_subscribe")
	j.AdaptiveStream, j.DisableICELite = on("adaptive_stream"), on("disable_ice_lite")
	j.SubscriberAllowPause, j.AutoSubscribeData = optional("subscriber_allow_pause"), optional("auto_subscribe_data_track")
	j.Reconnect, j.ReconnectReason = on("reconnect"), int32(number("reconnect_reason"))
	j.ParticipantID = mesh.ParticipantID(q.Get("sid"))
	j.PublishSuffix = q.Get("publish")

	j.Client = ClientInfo{
		SDK: q.Get("sdk"), Version: q.Get("version"), Protocol: number("protocol"), OS: q.Get("os"), OSVersion: q.Get("os_version"),
		DeviceModel: q.Get("device_model"), Browser: q.Get("browser"), BrowserVersion: q.Get("browser_version"),
		Network: q.Get("network"), ClientProtocol: int32(number("client_protocol")),
	}
	for _, name := range strings.Split(q.Get("capabilities"), ",") {
		if capability, ok := livekit.ClientInfo_Capability_value[strings.TrimSpace(name)]; ok {
			j.Client.addCapability(capability)
		}
	}
	if s := q.Get("attributes"); s != "" {
		b, err := decodeBase64(s)
		if err != nil {
			return errors.New("attributes are not base64")
		}
		if err := json.Unmarshal(b, &j.Attributes); err != nil {
			return errors.New("attributes are not a JSON object of strings")
		}
	}
	return nil
}

func (c *ClientInfo) addCapability(n int32) {
	const maxCapabilities = 64
	if n != int32(livekit.ClientInfo_CAP_UNUSED) && len(c.Capabilities) < maxCapabilities {
		c.Capabilities = append(c.Capabilities, n)
	}
}

// settle cuts what is too long and adds what the User-Agent tells.
func (c *ClientInfo) settle(userAgent string) {
	browser, os := guessBrowser(userAgent)
	if c.Browser == "" {
		c.Browser = browser
	}
	if c.OS == "" {
		c.OS = os
	}
	for _, s := range []*string{&c.SDK, &c.Version, &c.OS, &c.OSVersion, &c.DeviceModel, &c.Browser, &c.BrowserVersion, &c.Network} {
		*s = strings.ToValidUTF8((*s)[:min(len(*s), maxClientInfoBytes)], "")
	}
}

// guessBrowser knows the engines that need different treatment. More telling marks come first: each browser also claims to be
// its ancestors.
func guessBrowser(userAgent string) (browser, os string) {
	pick := func(marks [][2]string) string {
		for _, m := range marks {
			if strings.Contains(userAgent, m[0]) {
				return m[1]
			}
		}
		return ""
	}
	return pick([][2]string{{"Firefox/", "firefox"}, {"FxiOS/", "safari"}, {"CriOS/", "safari"}, {"Edg/", "edge"}, {"Chrome/", "chrome"}, {"Safari/", "safari"}}),
		pick([][2]string{{"Android", "android"}, {"iPhone", "ios"}, {"iPad", "ios"}, {"Windows", "windows"}, {"Mac OS X", "mac os x"}, {"Linux", "linux"}})
}

// sdkName is what the v0 parameter calls an SDK.
func sdkName(sdk livekit.ClientInfo_SDK) string {
	switch sdk {
	case livekit.ClientInfo_UNKNOWN:
		return ""
	case livekit.ClientInfo_REACT_NATIVE:
		return "reactnative"
	case livekit.ClientInfo_UNITY_WEB:
		return "unityweb"
	default:
		return strings.ToLower(sdk.String())
	}
}
