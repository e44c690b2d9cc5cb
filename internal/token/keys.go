package token

import (
	"errors"
	"fmt"
)

// MinSecretLength is the least number of bytes an API secret must have: the output size of SHA-256 (RFC 7518 §3.2).
const MinSecretLength = 32

// Keys maps API keys to their secrets.
type Keys map[string]string

// Validate returns all problems of the keys: there must be at least one, none may be empty, and every secret must have
// MinSecretLength bytes or more. Secrets never appear in the error.
func (k Keys) Validate() error {
	if len(k) == 0 {
		return errors.New("token: no API key is configured")
	}
	var problems []error
	for key, secret := range k {
		if key == "" {
			problems = append(problems, errors.New("token: an API key is empty"))
		}
		if len(secret) < MinSecretLength {
			problems = append(problems, fmt.Errorf("token: the secret of API key %q has %d bytes, at least %d are needed", key, len(secret), MinSecretLength))
		}
	}
	return errors.Join(problems...)
}
