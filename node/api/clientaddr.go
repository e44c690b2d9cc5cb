package api

import (
	"net/http"
	"net/netip"
	"strings"
)

const maxForwardedHops = 32

// ClientAddr returns the address a request came from. X-Forwarded-For is believed only as far as trusted proxies wrote
// it: read from the right, the first address that is no trusted proxy is the client. An entry that is no address ends
// the reading at the hop before. The result is invalid when the connection's own address is unknown.
func ClientAddr(r *http.Request, trusted []netip.Prefix) netip.Addr {
	addr := parseHop(r.RemoteAddr)
	if !addr.IsValid() || !contains(trusted, addr) {
		return addr
	}
	rest := strings.Join(r.Header.Values("X-Forwarded-For"), ",")
	for range maxForwardedHops {
		if rest == "" {
			break
		}
		hop := rest
		if i := strings.LastIndexByte(rest, ','); i >= 0 {
			rest, hop = rest[:i], rest[i+1:]
		} else {
			rest = ""
		}
		next := parseHop(strings.TrimSpace(hop))
		if !next.IsValid() {
			break
		}
		addr = next
		if !contains(trusted, addr) {
			break
		}
	}
	return addr
}

// parseHop reads "192.0.2.1", "192.0.2.1:80", "2001:db8::1", "[2001:db8::1]" and "[2001:db8::1]:80".
func parseHop(s string) netip.Addr {
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap.Addr().Unmap().WithZone("")
	}
	if len(s) > 1 && s[0] == '[' && s[len(s)-1] == ']' {
		s = s[1 : len(s)-1]
	}
	addr, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Addr{}
	}
	return addr.Unmap().WithZone("")
}

func contains(prefixes []netip.Prefix, addr netip.Addr) bool {
	for _, p := range prefixes {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}
