// Package meridian is the root of the Meridian module. It holds no code: see cmd/meridian for the program and
// ARCHITECTURE.md for the house.
package meridian
