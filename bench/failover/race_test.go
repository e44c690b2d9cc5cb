//go:build race

package failover

// longestWayBack is for the race detector, with which a flow in some thirty trials has a gap of up to 125 ms: see
// docs/roadmap.md. The same tests run without it, and hold the bound that counts.
const longestWayBack = 150.0
