package token

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

// Limits of a token.
const (
	MaxTokenBytes = 64 << 10    // bytes of the compact form
	Leeway        = time.Minute // by how much the signer's clock may differ from ours
	DefaultTTL    = 6 * time.Hour
)

// What Verify may find wrong. The texts are those client SDKs show to their users.
var (
	ErrInvalid    = errors.New("invalid authorization token")
	ErrUnknownKey = errors.New("invalid API key")
	ErrExpired    = errors.New("invalid token: token is expired")
)

// wire is the payload of a token as it is written.
type wire struct {
	jwt.RegisteredClaims
	Identity    string            `json:"identity,omitempty"`
	Name        string            `json:"name,omitempty"`
	Kind        string            `json:"kind,omitempty"`
	KindDetails []string          `json:"kindDetails,omitempty"`
	Video       *Grant            `json:"video,omitempty"`
	SIP         json.RawMessage   `json:"sip,omitempty"`
	Agent       json.RawMessage   `json:"agent,omitempty"`
	RoomConfig  json.RawMessage   `json:"roomConfig,omitempty"`
	RoomPreset  string            `json:"roomPreset,omitempty"`
	SHA256      string            `json:"sha256,omitempty"`
	Metadata    string            `json:"metadata,omitempty"`
	Attributes  map[string]string `json:"attributes,omitempty"`
}

// Verify checks the signature and the times of raw and returns what it says. now is the time it is checked against.
// The error wraps ErrUnknownKey when no secret is known for the signer, ErrExpired when the token was good once, and
// ErrInvalid in every other case. It never holds the token or a secret.
func Verify(keys Keys, raw string, now time.Time) (*Claims, error) {
	if len(raw) > MaxTokenBytes {
		return nil, fmt.Errorf("%w: it has %d bytes, at most %d are allowed", ErrInvalid, len(raw), MaxTokenBytes)
	}
	var w wire
	_, err := jwt.ParseWithClaims(raw, &w, func(*jwt.Token) (any, error) {
		secret, ok := keys[w.Issuer]
		if !ok || secret == "" {
			return nil, ErrUnknownKey
		}
		return []byte(secret), nil
	},
		jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Alg()}),
		jwt.WithExpirationRequired(),
		jwt.WithLeeway(Leeway),
		jwt.WithTimeFunc(func() time.Time { return now }),
	)
	switch {
	case err == nil:
		return w.claims(), nil
	case errors.Is(err, ErrUnknownKey):
		return nil, fmt.Errorf("%w: %.64q", ErrUnknownKey, w.Issuer)
	case errors.Is(err, jwt.ErrTokenExpired):
		return nil, ErrExpired
	default:
		return nil, fmt.Errorf("%w: %s", ErrInvalid, reason(err))
	}
}

// reason names what is wrong without repeating what the token holds.
func reason(err error) string {
	switch {
	case errors.Is(err, jwt.ErrTokenSignatureInvalid):
		return "signature is invalid"
	case errors.Is(err, jwt.ErrTokenNotValidYet):
		return "token is not valid yet"
	case errors.Is(err, jwt.ErrTokenRequiredClaimMissing):
		return "expiry is missing"
	default:
		return "token is malformed"
	}
}

// Mint signs c with an API key's secret. The token is valid from now for ttl (DefaultTTL when it is not positive);
// APIKey, NotBefore and Expires of c are not used. It fails when the key or the secret is empty, when the grants of c are not
// valid JSON, or when the token would be larger than MaxTokenBytes.
func Mint(key, secret string, c Claims, ttl time.Duration, now time.Time) (string, error) {
	if key == "" || secret == "" {
		return "", errors.New("token: an API key and its secret are needed to sign")
	}
	if ttl <= 0 {
		ttl = DefaultTTL
	}
	w := wire{
		RegisteredClaims: jwt.RegisteredClaims{
			Issuer:    key,
			Subject:   string(c.Identity),
			IssuedAt:  jwt.NewNumericDate(now),
			NotBefore: jwt.NewNumericDate(now),
			ExpiresAt: jwt.NewNumericDate(now.Add(ttl)),
		},
		Identity:    string(c.Identity),
		Name:        c.Name,
		Kind:        c.Kind,
		KindDetails: c.KindDetails,
		Video:       &c.Grant,
		SIP:         c.SIP,
		Agent:       c.Agent,
		RoomConfig:  c.RoomConfig,
		RoomPreset:  c.RoomPreset,
		SHA256:      c.SHA256,
		Metadata:    c.Metadata,
		Attributes:  c.Attributes,
	}
	raw, err := jwt.NewWithClaims(jwt.SigningMethodHS256, w).SignedString([]byte(secret))
	if err != nil {
		return "", fmt.Errorf("token: sign: %w", err)
	}
	if len(raw) > MaxTokenBytes {
		return "", fmt.Errorf("token: it would have %d bytes, at most %d are allowed", len(raw), MaxTokenBytes)
	}
	return raw, nil
}

func (w *wire) claims() *Claims {
	c := &Claims{
		APIKey:      w.Issuer,
		Identity:    mesh.Identity(w.Subject),
		Name:        w.Name,
		Metadata:    w.Metadata,
		Attributes:  w.Attributes,
		Kind:        w.Kind,
		KindDetails: w.KindDetails,
		SIP:         w.SIP,
		Agent:       w.Agent,
		RoomConfig:  w.RoomConfig,
		RoomPreset:  w.RoomPreset,
		SHA256:      w.SHA256,
	}
	if c.Identity == "" {
		c.Identity = mesh.Identity(w.ID)
	}
	if w.Video != nil {
		c.Grant = *w.Video
	}
	if w.NotBefore != nil {
		c.NotBefore = w.NotBefore.Time
	}
	if w.ExpiresAt != nil {
		c.Expires = w.ExpiresAt.Time
	}
	return c
}
