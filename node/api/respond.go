package api

import (
	"encoding/json"
	"net/http"
	"strings"
)

// errorBody is how every route but the server API says no.
type errorBody struct {
	Error string `json:"error"`
	Hint  string `json:"hint"` // what to do about it
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil { // a number that JSON has no form for
		status, b = http.StatusInternalServerError, []byte(`{"error":"the answer cannot be written as JSON","hint":"report this"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n')) // the client is gone: nobody left to tell
}

func writeError(w http.ResponseWriter, status int, text, hint string) {
	writeJSON(w, status, errorBody{Error: text, Hint: hint})
}

func writeUnauthorized(w http.ResponseWriter, text, hint string) {
	w.Header().Set("WWW-Authenticate", "Bearer")
	writeError(w, http.StatusUnauthorized, text, hint)
}

// bearer returns the token of the Authorization header.
func bearer(r *http.Request) (string, bool) {
	scheme, raw, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	raw = strings.TrimSpace(raw)
	return raw, ok && raw != "" && strings.EqualFold(scheme, "Bearer")
}
