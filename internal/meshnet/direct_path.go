package meshnet

import (
	"crypto/rand"
	"crypto/subtle"
	"net/netip"
	"time"
)

// A peer's address changes when a NAT forgets it. The session ID finds the session all the same, but an authentic
// packet from elsewhere proves little: somebody on the way may have passed on a copy to turn our media against a third
// party. So media follows only once the new address sent back a token that went there (RFC 9000 §8.2, §9.3).
const (
	pathToken = 8
	// pathPause is the least time between two challenges of a session, whatever addresses appear.
	pathPause = 50 * time.Millisecond
)

// pathCheck is the challenge under way. Only the goroutine that reads the socket uses it.
type pathCheck struct {
	to    netip.AddrPort // invalid when there is none
	token [pathToken]byte
	sent  time.Time
}

// challenge asks from, where an authentic packet came from, to prove itself.
func (d *Direct) challenge(from netip.AddrPort) {
	c := &d.in.path
	now := time.Now()
	if !c.sent.IsZero() && now.Sub(c.sent) < pathPause {
		return
	}
	if c.to != from {
		_, _ = rand.Read(c.token[:]) // never fails
	}
	c.to, c.sent = from, now
	d.sendAlone(kindChallenge, c.token[:], from)
}

// answer sends a challenge back to where it came from. It is authentic and no replay, so there is one answer to each.
func (d *Direct) answer(token []byte, from netip.AddrPort) {
	if len(token) == pathToken {
		d.sendAlone(kindResponse, token, from)
	}
}

// proven makes media follow to the address that was challenged.
func (d *Direct) proven(token []byte, from netip.AddrPort) {
	c := &d.in.path
	if !c.to.IsValid() || from != c.to || subtle.ConstantTimeCompare(token, c.token[:]) != 1 {
		return
	}
	d.in.from = from
	*c = pathCheck{}
	d.stats.moved.Add(1)
	d.mu.Lock()
	d.to = from
	d.mu.Unlock()
}

// sendAlone sends one packet to an address that media may not go to.
func (d *Direct) sendAlone(k kind, payload []byte, to netip.AddrPort) {
	d.mu.Lock()
	defer d.mu.Unlock()
	_ = d.flushLocked() // counted; what waits goes where it should
	if d.sealLocked(k, payload) != nil {
		return
	}
	proven := d.to
	d.to = to
	_ = d.flushLocked() // counted
	d.to = proven
}
