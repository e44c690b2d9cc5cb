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
// All above the payload is authenticated with it. The nonce is the packet number, right-aligned, XOR the salt. The
// session ID and the keys come from the TLS handshake of the session's QUIC connection, see keys in direct_keys.go.
const (
	directVersion = 1
	directHeader  = 14
	directTag     = 16
	// directOverhead is what a packet is longer than its payload, in bytes.
	directOverhead = directHeader + directTag

	maxPacketNumber = 1<<48 - 1
	sessionMask     = 1<<56 - 1
)

// kind says what a direct packet carries.
type kind byte

const (
	kindMedia     kind = 0 // a datagram of the user
	kindChallenge kind = 1 // pathToken bytes to be sent back to where they came from
	kindResponse  kind = 2 // the bytes of a challenge
	kinds              = 3
)

// directPacket is the header of one packet.
type directPacket struct {
	kind    kind
	session uint64 // 56 bits
	number  uint64 // 48 bits
}

// isDirect tells direct media from everything else on the port by its first byte.
func isDirect(b []byte) bool { return len(b) > 0 && b[0]&0xc0 == 0x80 }

// parseDirect reads the header. It is false for what no peer of this version sends.
func parseDirect(b []byte) (directPacket, bool) {
	if len(b) < directOverhead {
		return directPacket{}, false
	}
	first := binary.BigEndian.Uint64(b)
	p := directPacket{
		kind:    kind(first >> 56 & 7),
		session: first & sessionMask,
		number:  uint64(binary.BigEndian.Uint16(b[8:]))<<32 | uint64(binary.BigEndian.Uint32(b[10:])),
	}
	return p, first>>59 == 0b10<<3|directVersion && p.kind < kinds
}

// appendDirect appends p's header to b.
func appendDirect(b []byte, p directPacket) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(0x80|directVersion<<3|byte(p.kind))<<56|p.session&sessionMask)
	b = binary.BigEndian.AppendUint16(b, uint16(p.number>>32))
	return binary.BigEndian.AppendUint32(b, uint32(p.number))
}
