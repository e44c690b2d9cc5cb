package cascade

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

// FuzzEquations gives the decoder of sliding windows symbols and packets of any kind in any order: no panic, what is
// kept and what is done at a time stays bounded, and no packet that is here is made again. A script is of steps of five
// octets: what and how much later, where, how many, an index or a flow, how long; a symbol takes its bytes from what follows.
func FuzzEquations(f *testing.F) {
	symbol := func(base, packets, index, length byte) []byte { return []byte{2, base, packets, index, length} }
	packet := func(seq, length byte) []byte { return []byte{3, seq, 0, 1, length} }
	f.Add(append(append(packet(1, 10), packet(3, 10)...), symbol(0, 4, 0, 3)...))
	f.Add(append(append(symbol(0, 60, 7, 40), symbol(4, 60, 8, 40)...), packet(9, 30)...))
	f.Add(append(append(symbol(0, 1, 7, 40), symbol(0, 1, 8, 3)...), symbol(250, 191, 64, 1)...))
	f.Add(append(append(packet(0, 1), symbol(0, 2, 0, 1)...), symbol(0, 2, 64, 1)...)) // one row twice
	var many []byte
	for i := range byte(maxEquations + 4) {
		many = append(many, symbol(i, 30+i/2, i, 200-i)...)
	}
	f.Add(many)
	f.Fuzz(func(t *testing.T, script []byte) {
		c, track := newCodec(), newTracker(500*ms)
		q := &c.dec.slide
		first := track.base + 1
		now := time.Second
		restored := func(got []inbound) {
			for i := range got {
				_, fresh := track.received(got[i].h.LinkSeq, true, now)
				require.True(t, fresh, "made again")
				got[i].pkt.Release()
			}
			require.LessOrEqual(t, len(q.all), maxEquations)
			unknown := make(map[uint64]bool)
			for _, e := range q.all {
				for _, seq := range e.unknown {
					unknown[seq] = true
				}
			}
			require.LessOrEqual(t, len(unknown), maxUnknowns)
			require.LessOrEqual(t, q.turned, maxRows+2*maxEquations*maxUnknowns)
		}
		for steps := 0; len(script) >= 5 && steps < 400; steps++ {
			s := script[:5]
			script = script[5:]
			now += time.Duration(s[0]>>2) * ms
			seq := uint32(first) + uint32(s[1])
			if s[0]&1 == 0 {
				b := make([]byte, 6*int(s[4])+1)
				copy(b, script)
				body := appendParity(nil, parityHeader{Base: seq, Packets: int(s[2]) + 1, Index: int(s[3]), Sliding: true, Span: 52 * ms}, b)
				h, b, err := parseParity(frame{kind: frameSliding, body: body})
				if err != nil {
					continue
				}
				base := track.extend(h.Base)
				track.announced(h.Base+uint32(h.Packets)-1, now)
				restored(c.dec.slid(base, &h, b, track, now))
				continue
			}
			in := inbound{h: mediaHeader{Flow: uint32(s[3]), LinkSeq: seq, Class: classBase, AudioLevel: rtpstream.NoAudioLevel}, pkt: c.pool.Get(), size: 12 + 5*int(s[4])}
			b := in.pkt.Buffer()[:in.size]
			clear(b)
			copy(b, script)
			b[0], b[1] = 0x80, 96
			if in.pkt.Parse(in.size) == nil {
				if at, fresh := track.received(seq, false, now); fresh {
					c.dec.put(at, &in, now)
					if len(q.all) > 0 {
						restored(c.dec.came(at, now))
					}
				}
			}
			in.pkt.Release()
		}
		c.dec.clear()
	})
}

// FuzzSliding sends packets of any lengths at any pace and loses any of them, and of their symbols: whatever is restored
// is what was sent. Each octet is a packet: whether it arrives, whether the symbol before it does, how long it is.
func FuzzSliding(f *testing.F) {
	f.Add([]byte{0, 20, 36, 5, 40, 60, 9, 24, 60, 60, 60, 60, 60, 60, 60, 60, 60, 60}, false, uint8(3))
	f.Add(make([]byte, 300), true, uint8(1))
	burst := make([]byte, 250)
	for i := range burst {
		burst[i] = byte(i*7) &^ 3
		if i%40 < 4 {
			burst[i] |= 1
		}
	}
	f.Add(burst, true, uint8(0))
	f.Add(burst, false, uint8(40))
	f.Fuzz(func(t *testing.T, packets []byte, bursts bool, pace uint8) {
		plan := fecPlan{0.02, 1}
		if bursts {
			plan = fecPlan{0.05, 4}
		}
		s, now := newSlider(plan), time.Second
		for _, p := range packets[:min(len(packets), 600)] {
			now += time.Duration(pace)*ms/8 + 100*time.Microsecond
			path := newGilbert(1, 0, 1)
			if p&2 != 0 {
				path = newGilbert(1, 1, 1)
			}
			s.mend(t, path, now)
			s.seq++
			n := 12 + 18*int(p>>2)
			in := inbound{h: mediaHeader{Flow: 1, LinkSeq: uint32(s.seq), Class: classBase, AudioLevel: rtpstream.NoAudioLevel}, pkt: s.pool.Get(), size: n}
			b := in.pkt.Buffer()[:n]
			for i := range b {
				b[i] = byte(s.seq) + byte(i*i)
			}
			b[0], b[1] = 0x80, 96
			require.NoError(t, in.pkt.Parse(n))
			s.leave(in, p&1 != 0, now)
		}
		for _, in := range s.sent {
			in.pkt.Release()
		}
		s.dec.clear()
	})
}
