package token

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

const secret = "0123456789abcdef0123456789abcdef"

var (
	keys = Keys{"key": secret}
	now  = time.Unix(1_800_000_000, 0)
)

func ptr[T any](v T) *T { return &v }

func TestMintVerifyRoundTrip(t *testing.T) {
	in := Claims{
		Identity: "alice", Name: "Alice", Metadata: "m", Attributes: map[string]string{"a": "b"}, Kind: "agent",
		KindDetails: []string{"cloud_agent"},
		Grant: Grant{
			RoomJoin: true, Room: "r", CanPublish: ptr(true), CanSubscribe: ptr(false),
			CanPublishSources: []string{"camera", "screen_share_audio"}, Hidden: true,
		},
		SIP: json.RawMessage(`{"admin":true}`), RoomConfig: json.RawMessage(`{"emptyTimeout":3}`), RoomPreset: "p", SHA256: "x",
	}
	raw, err := Mint("key", secret, in, time.Hour, now)
	require.NoError(t, err)
	out, err := Verify(keys, raw, now)
	require.NoError(t, err)
	in.APIKey, in.NotBefore, in.Expires = "key", now, now.Add(time.Hour)
	require.Equal(t, in, *out)
	require.Equal(t, in, *out.Clone())

	p := out.Permission()
	require.True(t, p.CanPublish && p.CanPublishData && p.Hidden)
	require.False(t, p.CanSubscribe || p.CanUpdateMetadata)
	require.Equal(t, []mesh.SourceType{mesh.SourceCamera, mesh.SourceScreenShareAudio}, p.CanPublishSources)
}

func TestVerifyRefuses(t *testing.T) {
	mint := func(key, secret string, ttl time.Duration) string {
		raw, err := Mint(key, secret, Claims{Identity: "a"}, ttl, now)
		require.NoError(t, err)
		return raw
	}
	sign := func(m jwt.SigningMethod, key any, c jwt.MapClaims) string {
		raw, err := jwt.NewWithClaims(m, c).SignedString(key)
		require.NoError(t, err)
		return raw
	}
	good := mint("key", secret, time.Hour)
	for name, tc := range map[string]struct {
		raw  string
		at   time.Time
		want error
		text string
	}{
		"within leeway":   {good, now.Add(time.Hour + 59*time.Second), nil, ""},
		"expired":         {good, now.Add(time.Hour + 61*time.Second), ErrExpired, "invalid token"},
		"clock behind":    {good, now.Add(-59 * time.Second), nil, ""},
		"not yet":         {good, now.Add(-2 * time.Minute), ErrInvalid, "not valid yet"},
		"other secret":    {mint("key", secret+"x", time.Hour), now, ErrInvalid, "signature"},
		"unknown key":     {mint("other", secret, time.Hour), now, ErrUnknownKey, `invalid API key: "other"`},
		"empty":           {"", now, ErrInvalid, "invalid authorization token"},
		"garbage":         {"a.b.c", now, ErrInvalid, "malformed"},
		"many periods":    {strings.Repeat(".", 1000), now, ErrInvalid, "malformed"},
		"oversized":       {strings.Repeat("a", MaxTokenBytes+1), now, ErrInvalid, "at most"},
		"no expiry":       {sign(jwt.SigningMethodHS256, []byte(secret), jwt.MapClaims{"iss": "key"}), now, ErrInvalid, "expiry"},
		"other algorithm": {sign(jwt.SigningMethodHS512, []byte(secret), jwt.MapClaims{"iss": "key", "exp": now.Add(time.Hour).Unix()}), now, ErrInvalid, ""},
		"no algorithm":    {sign(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, jwt.MapClaims{"iss": "key", "exp": now.Add(time.Hour).Unix()}), now, ErrInvalid, ""},
		"long key":        {mint(strings.Repeat("k", 1000), secret, time.Hour), now, ErrUnknownKey, "invalid API key"},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := Verify(keys, tc.raw, tc.at)
			if tc.want == nil {
				require.NoError(t, err)
				return
			}
			require.Nil(t, c)
			require.ErrorIs(t, err, tc.want)
			require.ErrorContains(t, err, tc.text)
			require.Less(t, len(err.Error()), 200)
			require.NotContains(t, err.Error(), secret)
		})
	}
}

func TestVerifyFallsBackToTokenID(t *testing.T) {
	raw, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"iss": "key", "jti": "bob", "exp": now.Add(time.Hour).Unix()}).SignedString([]byte(secret))
	require.NoError(t, err)
	c, err := Verify(keys, raw, now)
	require.NoError(t, err)
	require.Equal(t, mesh.Identity("bob"), c.Identity)
	require.Zero(t, c.Grant)
	require.True(t, c.NotBefore.IsZero())
}

func TestMintRefuses(t *testing.T) {
	_, err := Mint("", secret, Claims{}, 0, now)
	require.Error(t, err)
	_, err = Mint("key", secret, Claims{Metadata: strings.Repeat("m", MaxTokenBytes)}, 0, now)
	require.ErrorContains(t, err, "at most")
	_, err = Mint("key", secret, Claims{RoomConfig: json.RawMessage("{")}, 0, now)
	require.Error(t, err)
}

func TestPermissionDefaults(t *testing.T) {
	p := (&Claims{}).Permission()
	require.Equal(t, mesh.Permission{CanSubscribe: true, CanPublish: true, CanPublishData: true}, p)
	p = (&Claims{Grant: Grant{CanPublish: ptr(false)}}).Permission()
	require.Equal(t, mesh.Permission{CanSubscribe: true}, p)
	p = (&Claims{Grant: Grant{CanPublish: ptr(false), CanPublishData: ptr(true), CanUpdateOwnMetadata: ptr(true), CanSubscribeMetrics: ptr(true)}}).Permission()
	require.Equal(t, mesh.Permission{CanSubscribe: true, CanPublishData: true, CanUpdateMetadata: true, CanSubscribeMetrics: true}, p)
	p = (&Claims{Grant: Grant{CanPublishSources: []string{"hologram"}}}).Permission()
	require.False(t, p.CanPublish)
	require.False(t, (&Grant{}).MayManageAgentSession())
}

func TestKeysValidate(t *testing.T) {
	require.NoError(t, keys.Validate())
	require.Error(t, Keys{}.Validate())
	err := Keys{"": secret, "short": "hunter2"}.Validate()
	require.ErrorContains(t, err, "empty")
	require.ErrorContains(t, err, "short")
	require.NotContains(t, err.Error(), "hunter2")
}

func TestFromRequest(t *testing.T) {
	get := func(target string, h ...string) *http.Request {
		r := httptest.NewRequest(http.MethodGet, target, nil)
		for i := 0; i+1 < len(h); i += 2 {
			r.Header.Set(h[i], h[i+1])
		}
		return r
	}
	form := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(url.Values{"access_token": {"f"}}.Encode()))
	form.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	big := httptest.NewRequest(http.MethodPost, "/", strings.NewReader("x="+strings.Repeat("y", 1<<20)+"&access_token=f"))
	big.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for name, tc := range map[string]struct {
		r    *http.Request
		want string
	}{
		"header":       {get("/", "Authorization", "Bearer abc"), "abc"},
		"header first": {get("/?access_token=q", "Authorization", "bearer abc"), "abc"},
		"query":        {get("/?access_token=q"), "q"},
		"other scheme": {get("/?access_token=q", "Authorization", "Basic abc"), "q"},
		"form":         {form, "f"},
		"big form":     {big, ""},
		"none":         {get("/"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			raw, ok := FromRequest(tc.r)
			require.Equal(t, tc.want, raw)
			require.Equal(t, tc.want != "", ok)
		})
	}
}

func FuzzVerify(f *testing.F) {
	raw, err := Mint("key", secret, Claims{Identity: "a", Grant: Grant{RoomJoin: true, Room: "r"}}, time.Hour, now)
	require.NoError(f, err)
	f.Add(raw)
	f.Add("")
	f.Add("..")
	f.Add("eyJhbGciOiJub25lIn0.eyJpc3MiOiJrZXkifQ.")
	f.Fuzz(func(t *testing.T, s string) {
		c, err := Verify(keys, s, now)
		if (c == nil) == (err == nil) {
			t.Fatal("neither or both of claims and error")
		}
		if c != nil {
			c.Permission()
		}
	})
}
