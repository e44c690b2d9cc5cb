//go:build !race

package failover

// longestWayBack is the longest gap on the way back in any trial, in milliseconds: 33 of it are between two frames.
const longestWayBack = 60.0
