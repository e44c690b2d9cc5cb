package meshnet

const (
	replayWords = 128 // a power of two
	// replayWindow is how far behind the highest number a packet may come, in packets. A word is kept free to be cleared.
	replayWindow = (replayWords - 1) * 64
)

// replayGuard knows which of the last packet numbers were seen (RFC 4303 §3.4.3, as the ring of words of RFC 6479).
// Its zero value has seen nothing. Not safe for concurrent use.
type replayGuard struct {
	highest uint64
	any     bool
	bits    [replayWords]uint64
}

// fresh reports whether number was not seen and is not too old. It changes nothing: what is not authentic leaves no mark.
func (g *replayGuard) fresh(number uint64) bool {
	if !g.any || number > g.highest {
		return true
	}
	return g.highest-number < replayWindow && g.bits[number/64%replayWords]&(1<<(number%64)) == 0
}

// next is the number expected next: the one after the highest.
func (g *replayGuard) next() uint64 {
	if !g.any {
		return 0
	}
	return g.highest + 1
}

// mark notes a number that fresh approved and whose packet is authentic.
func (g *replayGuard) mark(number uint64) {
	if !g.any || number > g.highest {
		from, to := g.highest/64, number/64
		if !g.any || to-from >= replayWords {
			clear(g.bits[:])
		} else {
			for w := from + 1; w <= to; w++ {
				g.bits[w%replayWords] = 0
			}
		}
		g.highest, g.any = number, true
	}
	g.bits[number/64%replayWords] |= 1 << (number % 64)
}
