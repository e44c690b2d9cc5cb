package rtpstream

import (
	"slices"
	"sync"
	"time"
)

// Bounds of what is kept to start a decoder from. No more packets than a stream keeps for retransmission: so a start
// can be repaired, and costs hardly any memory of its own.
const (
	gopPackets = videoCachePackets
	gopBytes   = 384 << 10
	gopSpan    = 6 * time.Second // of media: a bit more than the least time between two keyframes asked for joiners
	gopStale   = 2 * time.Second // without a packet: the encoder may have stopped, and will begin anew
)

// gop keeps what a decoder can start from: a stream's newest keyframe and all that came since (a group of pictures).
// One that outgrows the bounds is given up, for a start must be gapless up to now. It is safe for concurrent use.
type gop struct {
	mu      sync.Mutex
	packets []*Packet // guarded by mu; ascending ExtSeq, the first one begins a keyframe; empty when there is none
	bytes   int       // guarded by mu; of whole RTP packets
}

// put takes in a packet of the stream, retaining it when it keeps it.
func (g *gop) put(p *Packet, clockRate uint32) {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := len(g.packets)
	switch {
	case p.Keyframe && (n == 0 || p.ExtSeq > g.packets[n-1].ExtSeq):
		g.clearLocked()
	case n == 0 || p.ExtSeq < g.packets[0].ExtSeq:
		return
	case n == gopPackets || g.bytes+p.size > gopBytes || p.since(g.packets[0], clockRate) > gopSpan:
		g.clearLocked()
		return
	}
	at := len(g.packets)
	for at > 0 && g.packets[at-1].ExtSeq > p.ExtSeq {
		at--
	}
	g.packets = slices.Insert(g.packets, at, p.Retain())
	g.bytes += p.size
}

// since is the media time between two packets of one stream.
func (p *Packet) since(first *Packet, clockRate uint32) time.Duration {
	if clockRate == 0 || p.ExtTimestamp <= first.ExtTimestamp {
		return 0
	}
	return time.Duration((p.ExtTimestamp - first.ExtTimestamp) * uint64(time.Second/1000) / uint64(clockRate) * 1000)
}

// fresh reports whether snapshot would return something.
func (g *gop) fresh(now time.Duration, maxBytes int) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.freshLocked(now, maxBytes)
}

func (g *gop) freshLocked(now time.Duration, maxBytes int) bool {
	n := len(g.packets)
	if n == 0 || g.bytes > maxBytes || now-g.packets[n-1].Arrival > gopStale {
		return false
	}
	for i, p := range g.packets[1:] {
		if p.ExtSeq-uint64(p.Withheld) > g.packets[i].ExtSeq+1 {
			return false
		}
	}
	return true
}

// snapshot appends the packets to out, each retained for the caller.
func (g *gop) snapshot(now time.Duration, maxBytes int, out []*Packet) []*Packet {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.freshLocked(now, maxBytes) {
		return out
	}
	for _, p := range g.packets {
		out = append(out, p.Retain())
	}
	return out
}

func (g *gop) clear() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.clearLocked()
}

func (g *gop) clearLocked() {
	for i, p := range g.packets {
		p.Release()
		g.packets[i] = nil
	}
	g.packets, g.bytes = g.packets[:0], 0
}
