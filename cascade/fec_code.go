package cascade

import "github.com/klauspost/reedsolomon"

// Limits of a block of forward error correction (FEC).
const (
	fecMaxPackets = 192
	fecMaxParity  = 64
	fecSymbolMax  = 1490 // bytes of a symbol that may be protected
)

// The code is systematic Reed–Solomon with a Cauchy matrix over GF(2⁸), polynomial 0x11d: the parity symbol r of a
// block is Σ symbol[c] / (x(r) + y(c)) with x(r) = packets + r and y(c) = c. Every square part of a Cauchy matrix can be
// inverted, so any m parity symbols make up for any m packets, whatever the block's size and number of parity symbols:
// neither has to be known when the sums begin. Shorter symbols count as padded with zeros, which add nothing.
//
// In a graded code parity symbols are cut to different lengths: the far ends of the longest packets, which few packets
// reach, have fewer symbols to make up for them than the first bytes, which all packets have.
type fecCode struct {
	packets, parity int // of a block at most
	graded          bool
}

var (
	evenCode   = fecCode{packets: 128, parity: 40}
	gradedCode = fecCode{packets: fecMaxPackets, parity: fecMaxParity, graded: true}
)

var (
	galois   reedsolomon.LowLevel
	fecTimes = fecTable()
)

func fecTable() (t [256][256]byte) {
	var all [256]byte
	for i := range all {
		all[i] = byte(i)
	}
	for c := range t {
		galois.GalMulSlice(byte(c), all[:], t[c][:])
	}
	return t
}

// coefficient is what packet c of a block is multiplied with in its parity symbol r.
func (k fecCode) coefficient(r, c int) byte { return reedsolomon.Inv(byte(k.packets+r) ^ byte(c)) }

// inverse of an element other than zero.
func inverse(v byte) byte { return reedsolomon.Inv(v) }

// fecMatrix is a square part of the Cauchy matrix, to be inverted.
type fecMatrix [fecMaxParity][fecMaxParity]byte

// invert sets inv to the inverse of the rows and columns given of a code's matrix. Rows are parity symbols, columns packets.
func (inv *fecMatrix) invert(k fecCode, rows, columns []int) {
	var a fecMatrix
	m := len(rows)
	for i, r := range rows {
		for j, c := range columns {
			a[i][j] = k.coefficient(r, c)
			inv[i][j] = 0
		}
		inv[i][i] = 1
	}
	for p := range m {
		for a[p][p] == 0 { // there is a row below to take: the matrix is regular
			for i := p + 1; i < m; i++ {
				if a[i][p] != 0 {
					a[p], a[i] = a[i], a[p]
					inv[p], inv[i] = inv[i], inv[p]
					break
				}
			}
		}
		times := &fecTimes[reedsolomon.Inv(a[p][p])]
		for j := range m {
			a[p][j], inv[p][j] = times[a[p][j]], times[inv[p][j]]
		}
		for i := range m {
			if f := a[i][p]; i != p && f != 0 {
				times := &fecTimes[f]
				for j := range m {
					a[i][j] ^= times[a[p][j]]
					inv[i][j] ^= times[inv[p][j]]
				}
			}
		}
	}
}
