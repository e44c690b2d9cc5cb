package testnet

import (
	"hash/fnv"
	"net"
	"net/netip"
)

// canonical gives IPv4 addresses that came in as IPv4-mapped IPv6 their one form.
func canonical(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

func addrPort(a net.Addr) (netip.AddrPort, bool) {
	u, ok := a.(*net.UDPAddr)
	if !ok {
		return netip.AddrPort{}, false
	}
	ap := u.AddrPort()
	return canonical(ap), ap.IsValid()
}

// hashPair gives each direction between two hosts its own stream of random numbers.
func hashPair(from, to netip.Addr) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(from.String() + ">" + to.String())) // never fails
	return h.Sum64()
}
