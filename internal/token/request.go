package token

import (
	"net/http"
	"strings"
)

// FromRequest returns the bearer's token: from the Authorization header, else from the query or form value
// "access_token" (browsers cannot set headers on a WebSocket). It reports false when there is none. A form body is read
// only from a POST of type application/x-www-form-urlencoded, and not beyond MaxTokenBytes plus some room for other values.
func FromRequest(r *http.Request) (string, bool) {
	if h := r.Header.Get("Authorization"); h != "" {
		scheme, raw, ok := strings.Cut(h, " ")
		if raw = strings.TrimSpace(raw); ok && strings.EqualFold(scheme, "Bearer") && raw != "" {
			return raw, true
		}
	}
	if raw := r.URL.Query().Get("access_token"); raw != "" {
		return raw, true
	}
	if r.Method == http.MethodPost && strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") && r.Body != nil {
		r.Body = http.MaxBytesReader(nil, r.Body, 2*MaxTokenBytes)
		if raw := r.PostFormValue("access_token"); raw != "" {
			return raw, true
		}
	}
	return "", false
}
