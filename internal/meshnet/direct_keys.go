package meshnet

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"fmt"
)

// exporterLabel asks TLS for the secrets of a direct session (RFC 8446 §7.5).
const exporterLabel = "EXPORTER-meridian-media-1"

const (
	secretBytes = 32
	saltBytes   = 12
	// epochBits: a key encrypts 2^24 packets, then the next takes its place on both sides. This stays well below 2^28, the
	// bound for packets of up to 2 KiB (RFC 9001 appendix B.1.1), and needs no message: the number tells the epoch.
	epochBits = 24
)

// directKeys is what both ends of a connection derive from its handshake, named by who sends.
type directKeys struct {
	client, server     [secretBytes]byte
	clientID, serverID uint64 // session IDs in packets of the client and of the server, of 56 bits
}

func exportKeys(cs *tls.ConnectionState) (directKeys, error) {
	var k directKeys
	b, err := cs.ExportKeyingMaterial(exporterLabel, nil, 2*secretBytes+16)
	if err != nil {
		return k, fmt.Errorf("meshnet: export media keys: %w", err)
	}
	copy(k.client[:], b)
	copy(k.server[:], b[secretBytes:])
	k.clientID = binary.BigEndian.Uint64(b[2*secretBytes:]) & sessionMask
	k.serverID = binary.BigEndian.Uint64(b[2*secretBytes+8:]) & sessionMask
	return k, nil
}

// epochCipher seals or opens the packets of one epoch. Not safe for concurrent use: the nonce is built in place.
type epochCipher struct {
	aead  cipher.AEAD
	salt  [saltBytes]byte
	nonce [saltBytes]byte
}

func newEpochCipher(secret *[secretBytes]byte, epoch uint64, tag int) (*epochCipher, error) {
	info := binary.BigEndian.AppendUint64([]byte("meridian media epoch"), epoch)
	okm, err := hkdf.Expand(sha256.New, secret[:], string(info), 16+saltBytes)
	if err != nil {
		return nil, fmt.Errorf("meshnet: derive media key: %w", err)
	}
	block, err := aes.NewCipher(okm[:16])
	if err != nil {
		return nil, fmt.Errorf("meshnet: media key: %w", err)
	}
	c := new(epochCipher)
	if c.aead, err = cipher.NewGCMWithTagSize(block, tag); err != nil {
		return nil, fmt.Errorf("meshnet: media key: %w", err)
	}
	copy(c.salt[:], okm[16:])
	return c, nil
}

func (c *epochCipher) nonceFor(number uint64) []byte {
	c.nonce = c.salt
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], number)
	for i := range n {
		c.nonce[saltBytes-8+i] ^= n[i]
	}
	return c.nonce[:]
}

// seal appends the packet to b.
func (c *epochCipher) seal(b []byte, p directPacket, payload []byte) []byte {
	start := len(b)
	b = appendDirect(b, p)
	return c.aead.Seal(b, c.nonceFor(p.number), payload, b[start:])
}

// open decrypts packet b in place and returns the payload, a part of b.
func (c *epochCipher) open(b []byte, p directPacket) ([]byte, error) {
	n := p.header()
	return c.aead.Open(b[n:n], c.nonceFor(p.number), b[n:], b[:n])
}

// epochCiphers are the ciphers of the epochs around one packet number. Not safe for concurrent use.
type epochCiphers struct {
	secret [secretBytes]byte
	tag    int             // length of the authentication tag, octets
	slots  [3]*epochCipher // of the epoch before, this one and the next, by epoch modulo 3
	epochs [3]uint64
}

// at returns the cipher for number; it derives a key only when an epoch is asked for the first time. nil when number is
// further than one epoch away from highest: no peer sends that, and garbage must not make work.
func (c *epochCiphers) at(number, highest uint64) *epochCipher {
	e, base := number>>epochBits, highest>>epochBits
	if e > base+1 || base > e+1 {
		return nil
	}
	i := e % 3
	if c.slots[i] == nil || c.epochs[i] != e {
		ec, err := newEpochCipher(&c.secret, e, c.tag)
		if err != nil {
			return nil
		}
		c.slots[i], c.epochs[i] = ec, e
	}
	return c.slots[i]
}
