package mesh

import (
	"crypto/rand"
	"errors"
	"fmt"
	"unicode/utf8"
)

// NodeID names one process of the mesh. It is the common name of the node's certificate: 1 to 63 characters of
// [a-z0-9-], starting and ending with a letter or digit (a DNS label, RFC 1123 §2.1).
type NodeID string

// Region names where a node stands, by the same rules as a NodeID.
type Region string

// RoomName is what applications call a room: 1 to MaxNameLength bytes of UTF-8.
type RoomName string

// Identity is what an application calls a participant: 1 to MaxNameLength bytes of UTF-8, unique within a room.
type Identity string

// ParticipantID names one join of one identity ("PA_…"): a participant who joins again gets a new one.
type ParticipantID string

// SourceID names one published camera, microphone or screen ("TR_…"). It is unique over the whole mesh.
type SourceID string

// RoomID names one life of a room ("RM_…"): a room that ended and is opened again gets a new one.
type RoomID string

// Limits that hold on every door of a node. The figures are those LiveKit clients expect of a server.
const (
	MaxNameLength       = 256       // bytes of a room name, an identity or a participant name
	MaxMetadataBytes    = 512 << 10 // bytes of room or participant metadata
	MaxAttributesBytes  = 64 << 10  // bytes of all keys and values of a participant's attributes
	MaxSourcesPerMember = 64        // sources one participant may publish at once
)

// ErrInvalidName is wrapped by every error of the Parse functions.
var ErrInvalidName = errors.New("invalid name")

// ParseNodeID checks that s may name a node.
func ParseNodeID(s string) (NodeID, error) {
	if err := checkLabel("node ID", s); err != nil {
		return "", err
	}
	return NodeID(s), nil
}

// ParseRegion checks that s may name a region.
func ParseRegion(s string) (Region, error) {
	if err := checkLabel("region", s); err != nil {
		return "", err
	}
	return Region(s), nil
}

// ParseRoomName checks that s may name a room.
func ParseRoomName(s string) (RoomName, error) {
	if err := checkName("room name", s); err != nil {
		return "", err
	}
	return RoomName(s), nil
}

// ParseIdentity checks that s may name a participant.
func ParseIdentity(s string) (Identity, error) {
	if err := checkName("identity", s); err != nil {
		return "", err
	}
	return Identity(s), nil
}

func checkLabel(what, s string) error {
	if len(s) == 0 || len(s) > 63 {
		return fmt.Errorf("%w: %s must have 1 to 63 characters, not %d", ErrInvalidName, what, len(s))
	}
	for i := range len(s) {
		c := s[i]
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9':
		case c == '-' && i > 0 && i < len(s)-1:
		default:
			return fmt.Errorf("%w: %s %q may hold only a-z, 0-9 and inner hyphens", ErrInvalidName, what, s)
		}
	}
	return nil
}

func checkName(what, s string) error {
	switch {
	case s == "":
		return fmt.Errorf("%w: %s is empty", ErrInvalidName, what)
	case len(s) > MaxNameLength:
		return fmt.Errorf("%w: %s has %d bytes, at most %d are allowed", ErrInvalidName, what, len(s), MaxNameLength)
	case !utf8.ValidString(s):
		return fmt.Errorf("%w: %s is not valid UTF-8", ErrInvalidName, what)
	}
	return nil
}

const idAlphabet = "23456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"

// NewID returns prefix followed by 12 random characters (about 70 bits): "PA_", "RM_", "TR_AM", …
func NewID(prefix string) string {
	var b [12]byte
	if _, err := rand.Read(b[:]); err != nil {
		panic("mesh: no randomness: " + err.Error()) // crypto/rand never fails on supported systems
	}
	for i := range b {
		b[i] = idAlphabet[int(b[i])%len(idAlphabet)]
	}
	return prefix + string(b[:])
}
