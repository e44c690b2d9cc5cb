package api

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/meridian-sfu/meridian/internal/token"
)

// TokenPolicy says who gets an access token from POST /v1/edge.
type TokenPolicy string

// The token policies.
const (
	// TokensClosed asks for an access token that allows joining the room, signed by one of Config.Keys. The answer
	// carries the same grants for the same participant.
	TokensClosed TokenPolicy = "closed"
	// TokensOpen gives anyone a token for any room. For development.
	TokensOpen TokenPolicy = "open"
)

// Config is what the API is told.
type Config struct {
	// Keys are the API keys and secrets that sign and verify access tokens. Required.
	Keys token.Keys
	// SigningKey is the one of Keys that signs new tokens. Default: the alphabetically first.
	SigningKey string
	// TokenTTL is how long tokens of POST /v1/edge are valid. Default: 6 h.
	TokenTTL time.Duration
	// TokenPolicy says who gets them. Default: closed.
	TokenPolicy TokenPolicy
	// TrustedProxies may say for whom they forward, by X-Forwarded-For. Default: none.
	TrustedProxies []netip.Prefix
	// AllowFakeAddress lets callers say where they stand, by client_ip= or X-Meridian-Client-IP. For development.
	AllowFakeAddress bool
	// OpenStatus lets anyone read /v1/status and /debug. For development.
	OpenStatus bool
	// AdminToken opens /v1/status and /debug. Empty keeps them shut, unless OpenStatus.
	AdminToken string
	// ServeMetrics serves /metrics.
	ServeMetrics bool
	// RequestTimeout bounds what a request may wait for the mesh. Default: 10 s.
	RequestTimeout time.Duration
}

// DefaultConfig returns what holds for everything a configuration leaves out.
func DefaultConfig() Config {
	return Config{
		TokenTTL: token.DefaultTTL, TokenPolicy: TokensClosed, ServeMetrics: true, RequestTimeout: 10 * time.Second,
	}
}

const minAdminToken = 16 // bytes

// Validate returns all problems of the configuration, joined.
func (c Config) Validate() error {
	var errs []error
	if err := c.Keys.Validate(); err != nil {
		errs = append(errs, err)
	}
	if _, ok := c.Keys[c.SigningKey]; c.SigningKey != "" && !ok {
		errs = append(errs, fmt.Errorf("api: signing key %q is none of the keys", c.SigningKey))
	}
	if c.TokenTTL <= 0 {
		errs = append(errs, fmt.Errorf("api: token TTL %v must be positive", c.TokenTTL))
	}
	if c.TokenPolicy != TokensClosed && c.TokenPolicy != TokensOpen {
		errs = append(errs, fmt.Errorf("api: token policy %q must be %q or %q", c.TokenPolicy, TokensClosed, TokensOpen))
	}
	for _, p := range c.TrustedProxies {
		if !p.IsValid() {
			errs = append(errs, errors.New("api: a trusted proxy is no valid address range (10.0.0.0/8)"))
		}
	}
	if c.AdminToken != "" && len(c.AdminToken) < minAdminToken {
		errs = append(errs, fmt.Errorf("api: the admin token has %d bytes, at least %d are needed", len(c.AdminToken), minAdminToken))
	}
	if c.RequestTimeout <= 0 {
		errs = append(errs, fmt.Errorf("api: request timeout %v must be positive", c.RequestTimeout))
	}
	return errors.Join(errs...)
}
