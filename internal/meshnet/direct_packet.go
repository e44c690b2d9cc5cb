package meshnet

import "encoding/binary"

// A direct media packet, one per UDP datagram. Its first two bits keep it apart from QUIC (RFC 9443: 01 and 11) and
// from STUN and DTLS (00).
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+---+-----+-----+-----------------------------------------------+
//	|1 0| ver | kind|              session ID (56 bits)             |
//	+---+-----+-----+-----------------------------------------------+
//	|                          session ID                           |
//	+---------------------------------------------------------------+
//	|                   packet number (48 bits)                     |
//	+-------------------------------+-------------------------------+
//	|         packet number         |  AES-128-GCM(payload), tag 16 |
//	+-------------------------------+-------------------------------+
//
// Between two nodes that know version 2 the header is shorter, and in version 3 the tag is of 12 octets too:
//
//	+---+-----+-----+-----------------------------------------------+
//	|1 0| ver | kind|              session ID (32 bits)             |
//	+---+-----+-----+-----------------------------------------------+
//	|  session ID   |       packet number, 24 lower bits            |
//	+---------------+-----------------------------------------------+
//	|             AES-128-GCM(payload), tag 16 or 12 …              |
//
// The whole number is the one nearest to what follows the highest authentic one (RFC 9000 §17.1): half of it, eight
// million packets, is more than a session can lose in a row and live.
//
// All above the payload is authenticated with it. The nonce is the packet number, all 48 bits of it, right-aligned, XOR the salt.
// The session ID and the keys come from the TLS handshake of the session's QUIC connection, see keys in direct_keys.go.
//
// A tag of 12 octets is one of the lengths NIST SP 800-38D §5.2.1.2 allows without further conditions: a forgery is let in with a
// chance of 2⁻⁹⁶, and SRTP's usual one (RFC 3711 §5.2) has 10.
const (
	directVersion      = 1
	directVersionShort = 2
	directVersionLight = 3
	directHeader       = 14
	directHeaderShort  = 8
	directTag          = 16
	directTagLight     = 12
	// directOverhead is what a packet is longer than its payload at most, in bytes.
	directOverhead      = directHeader + directTag
	directOverheadShort = directHeaderShort + directTag
	directOverheadLight = directHeaderShort + directTagLight

	maxPacketNumber = 1<<48 - 1
	sessionMask     = 1<<56 - 1

	shortNumbers     = 1 << 24
	shortSessionMask = 1<<32 - 1
	// shortSession marks the ID of a session with short headers, lightSession one with short tags as well, so that sessions
	// of different versions are never taken for one another.
	shortSession = 1 << 63
	lightSession = shortSession | 1<<62
)

// kind says what a direct packet carries.
type kind byte

const (
	kindMedia     kind = 0 // a datagram of the user
	kindChallenge kind = 1 // pathToken bytes to be sent back to where they came from
	kindResponse  kind = 2 // the bytes of a challenge
	kinds              = 3
)

// directPacket is the header of one packet. With shortSession in the session it is a short one, of whose number parse
// knows the lower bits only.
type directPacket struct {
	kind    kind
	session uint64 // 56 bits, or 32
	number  uint64 // 48 bits
}

// isDirect tells direct media from everything else on the port by its first byte.
func isDirect(b []byte) bool { return len(b) > 0 && b[0]&0xc0 == 0x80 }

func (p *directPacket) short() bool { return p.session&shortSession != 0 }

// sessionOf marks a session ID of 56 bits as one of a version.
func sessionOf(version byte, id uint64) uint64 {
	switch version {
	case directVersionLight:
		return lightSession | id&shortSessionMask
	case directVersionShort:
		return shortSession | id&shortSessionMask
	}
	return id
}

// tagOf is the length of the tag of a session's packets.
func tagOf(session uint64) int {
	if session&lightSession == lightSession {
		return directTagLight
	}
	return directTag
}

// header is the length of the header.
func (p *directPacket) header() int {
	if p.short() {
		return directHeaderShort
	}
	return directHeader
}

// parseDirect reads the header. It is false for what no peer of these versions sends.
func parseDirect(b []byte) (directPacket, bool) {
	if len(b) < directOverheadLight {
		return directPacket{}, false
	}
	first := binary.BigEndian.Uint64(b)
	p := directPacket{kind: kind(first >> 56 & 7)}
	switch first >> 59 {
	case 0b10<<3 | directVersionLight:
		p.session, p.number = lightSession|first>>24&shortSessionMask, first%shortNumbers
	case 0b10<<3 | directVersionShort:
		if len(b) < directOverheadShort {
			return directPacket{}, false
		}
		p.session, p.number = shortSession|first>>24&shortSessionMask, first%shortNumbers
	case 0b10<<3 | directVersion:
		if len(b) < directOverhead {
			return directPacket{}, false
		}
		p.session = first & sessionMask
		p.number = uint64(binary.BigEndian.Uint16(b[8:]))<<32 | uint64(binary.BigEndian.Uint32(b[10:]))
	default:
		return directPacket{}, false
	}
	return p, p.kind < kinds
}

// complete makes the number of a short header whole, given the number expected next.
func (p *directPacket) complete(next uint64) {
	if !p.short() {
		return
	}
	n := next&^(shortNumbers-1) | p.number
	switch {
	case n+shortNumbers/2 <= next:
		n += shortNumbers
	case n > next+shortNumbers/2 && n >= shortNumbers:
		n -= shortNumbers
	}
	p.number = n
}

// appendDirect appends p's header to b.
func appendDirect(b []byte, p directPacket) []byte {
	if p.short() {
		version := byte(directVersionShort)
		if tagOf(p.session) == directTagLight {
			version = directVersionLight
		}
		first := uint64(0x80|version<<3|byte(p.kind))<<56 | p.session&shortSessionMask<<24 | p.number%shortNumbers
		return binary.BigEndian.AppendUint64(b, first)
	}
	b = binary.BigEndian.AppendUint64(b, uint64(0x80|directVersion<<3|byte(p.kind))<<56|p.session&sessionMask)
	b = binary.BigEndian.AppendUint16(b, uint16(p.number>>32))
	return binary.BigEndian.AppendUint32(b, uint32(p.number))
}
