// Package token reads and makes access tokens: JSON Web Tokens (RFC 7519) signed with HMAC-SHA256 by an API secret, with
// the claims LiveKit client and server SDKs write and read.
//
//	Authorization: Bearer eyJ…  ─FromRequest→ raw ─Verify(keys, now)→ *Claims ─Permission→ mesh.Permission
//
// Doors: Keys (API key → secret), FromRequest, Verify, Mint, Claims.
//
// Goroutines: none; nothing here reads a clock, every function that needs the time is told it. All functions are safe for
// concurrent use.
//
// Units and limits: a token has at most MaxTokenBytes; clocks may differ by Leeway; an expiry is required; only HS256 is
// accepted. The lengths of names and metadata inside a token are not checked here but where they are used.
//
// References: RFC 7519, RFC 7515 §4 (alg), RFC 6750 §2 (where a bearer token may stand in a request).
package token
