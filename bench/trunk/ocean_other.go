//go:build !linux

package trunk

import (
	"errors"
	"net/netip"
)

// side is a socket of the ocean: only where many datagrams pass in a system call and tell when they came.
type side struct {
	addr, peer netip.AddrPort
	refused    uint64
}

func openSide() (*side, error) { return nil, errors.New("trunk: the emulated ocean needs Linux") }

func (s *side) close()                                       {}
func (s *side) give(*parcel)                                 {}
func (s *side) receive(func(*parcel, netip.AddrPort, int64)) {}
func (s *side) send([]*parcel)                               {}
