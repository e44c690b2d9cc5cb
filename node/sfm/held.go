package sfm

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/stun/v4"
)

// heldFor is how long a path is held for a client that restarts ICE: about as long as a client's consent to it lasts
// once its checks are not answered any more.
const heldFor = 5 * time.Second

// mediaSocket is one of the UDP sockets of all clients. It keeps the path of a client that restarts ICE in use until the
// new one is found, as RFC 8445 §9 has it. Pion forgets every pair when ICE restarts and neither sends nor takes media
// until a new one answers: for a round trip and up to half a second of waiting for checks.
//
// The path is named to Pion as one more candidate, of the least priority, and Pion's first check of it is answered here,
// on behalf of the client, which cannot: its old socket knows the old credentials. From there on the pair is as good as
// any, and the first other one that answers is better. Nothing is answered for a client that did not restart.
type mediaSocket struct {
	*net.UDPConn
	waiting atomic.Int32 // number of paths whose check was not answered yet

	mu      sync.Mutex
	held    map[netip.AddrPort]heldPath // guarded by mu; by the client's address
	answers []answer                    // guarded by mu; to be read next
}

// heldPath are a client's new credentials, and until when they are answered with.
type heldPath struct {
	ufrag, password string
	until           time.Time
}

type answer struct {
	from netip.AddrPort
	raw  []byte
}

func newMediaSocket(c *net.UDPConn) *mediaSocket {
	return &mediaSocket{UDPConn: c, held: map[netip.AddrPort]heldPath{}}
}

// hold has the first check of a client's old address answered, until release at the latest.
func (s *mediaSocket) hold(client netip.AddrPort, p heldPath) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held[client] = p
	s.waiting.Store(int32(len(s.held)))
}

func (s *mediaSocket) release(client netip.AddrPort) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.held, client)
	s.waiting.Store(int32(len(s.held)))
}

// WriteToAddrPort implements ice.AddrPortReaderWriter.
func (s *mediaSocket) WriteToAddrPort(b []byte, to netip.AddrPort) (int, error) {
	if s.waiting.Load() > 0 && stun.IsMessage(b) && s.answer(b, to) {
		return len(b), nil
	}
	return s.WriteToUDPAddrPort(b, to)
}

// WriteTo implements net.PacketConn.
func (s *mediaSocket) WriteTo(b []byte, to net.Addr) (int, error) {
	if a, ok := to.(*net.UDPAddr); ok {
		return s.WriteToAddrPort(b, a.AddrPort())
	}
	return s.UDPConn.WriteTo(b, to)
}

// ReadFromAddrPort implements ice.AddrPortReaderWriter.
func (s *mediaSocket) ReadFromAddrPort(b []byte) (int, netip.AddrPort, error) {
	for {
		n, from, err := s.ReadFromUDPAddrPort(b)
		if err == nil || !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, from, err
		}
		if a, ok := s.nextAnswer(); ok {
			return copy(b, a.raw), a.from, nil
		}
	}
}

// ReadFrom implements net.PacketConn.
func (s *mediaSocket) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, err := s.ReadFromAddrPort(b)
	if err != nil {
		return n, nil, err
	}
	return n, net.UDPAddrFromAddrPort(from), nil
}

// answer answers a connectivity check of a held path, and reports whether it was one.
func (s *mediaSocket) answer(b []byte, to netip.AddrPort) bool {
	client := netip.AddrPortFrom(to.Addr().Unmap(), to.Port())
	s.mu.Lock()
	defer s.mu.Unlock()
	p, ok := s.held[client]
	if !ok {
		return false
	}
	check := stun.Message{Raw: bytes.Clone(b)}
	if check.Decode() != nil || check.Type != stun.BindingRequest || check.Contains(stun.AttrUseCandidate) {
		return false
	}
	var name stun.Username
	if name.GetFrom(&check) != nil || !bytes.HasPrefix(name, append([]byte(p.ufrag), ':')) {
		return false
	}
	delete(s.held, client) // one answer makes the pair valid
	s.waiting.Store(int32(len(s.held)))
	if time.Now().After(p.until) {
		return false
	}
	local, _ := s.LocalAddr().(*net.UDPAddr)
	m, err := stun.Build(
		stun.NewTransactionIDSetter(check.TransactionID), stun.BindingSuccess,
		&stun.XORMappedAddress{IP: local.IP, Port: local.Port},
		stun.NewShortTermIntegrity(p.password), stun.Fingerprint,
	)
	if err != nil {
		return false
	}
	s.answers = append(s.answers, answer{to, m.Raw})
	_ = s.SetReadDeadline(time.Unix(1, 0)) // wakes the reader; fails only on a closed socket
	return true
}

// nextAnswer takes the next answer, if there is one, and lets the reader sleep again after the last.
func (s *mediaSocket) nextAnswer() (a answer, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.answers) > 0 {
		a, ok = s.answers[0], true
		s.answers = s.answers[1:]
	}
	if len(s.answers) == 0 {
		_ = s.SetReadDeadline(time.Time{})
	}
	return a, ok
}
