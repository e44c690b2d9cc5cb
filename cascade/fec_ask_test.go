package cascade

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A block cannot be restored: what is asked for, once, before the first retransmission can be there, has to be enough
// for all of it. Packets are those of frames, so those that follow one another are equally long.
func TestWhatIsAskedForIsEnough(t *testing.T) {
	withoutRace(t)
	c := newCodec()
	told, blind, enough, asked, needed := 0, 0, 0, 0, 0
	for round := range 400 {
		tr := newTracker(time.Second)
		c.seq = 0
		c.dec.clear()
		c.dec.slots, c.dec.last = make([]fecSlot, fecSlots), 1
		n := 60 + c.rng.IntN(60)
		sent, h, bodies := c.sendFrames(n, fecPlan{loss: 0.05, burst: 4})
		path := newGilbert(uint64(round), 0.14, 5)
		lost := make(map[int]bool)
		var lens, sizes []int
		for i := range sent {
			if lost[i] = path.lost(); lost[i] {
				lens = append(lens, symbolBytes(&sent[i].h, sent[i].size))
				continue
			}
			seq, _ := tr.received(sent[i].h.LinkSeq, false, ms)
			c.dec.put(seq, &sent[i], ms)
		}
		tr.announced(h.Base+uint32(h.Packets)-1, ms)
		var b *fecBlock
		for i := range h.Parity {
			if path.lost() {
				continue
			}
			sizes = append(sizes, c.enc.sizes[i])
			h.Index = i
			if at, got := c.arrivesAt(t, tr.extend(h.Base), h, bodies[i]); at != nil {
				b = at
				for i := range got {
					tr.received(got[i].h.LinkSeq, true, ms)
					got[i].pkt.Release()
				}
				c.dec.hopeless(tr, b.base, ms)
			}
		}
		left := leftOver(lens, append([]int(nil), sizes...))
		if b != nil && left > 0 {
			if !b.settled {
				require.LessOrEqual(t, c.dec.overdue(), ms+fecBurstSpread+fecGrace, "it does not wait for the next block")
				c.dec.hopeless(tr, 0, c.dec.overdue())
			}
			var got []inbound
			for _, seq := range tr.collect(ms, 150*ms, fecWait, nil) {
				asked++
				c.dec.put(seq, &sent[seq-b.base], ms)
			}
			got = c.dec.restore(b, ms)
			for i := range got {
				got[i].pkt.Release()
			}
			needed += left
			switch {
			case len(lens) <= len(sizes):
				told++
				require.True(t, b.done, "round %d: the symbols tell how long all %d are", round, len(lens))
			case b.done:
				enough++
				fallthrough
			default:
				blind++
			}
		}
		for i := range sent {
			sent[i].pkt.Release()
		}
	}
	t.Logf("%d blocks of known lengths, %d of others, enough for %d; asked for %d packets of %d", told, blind, enough, asked, needed)
	require.Greater(t, told, 50)
	require.Greater(t, blind, 10)
	require.Greater(t, float64(enough), 0.9*float64(blind))
	require.Less(t, float64(asked), 0.8*float64(needed))
}

// sendFrames makes a block of packets as cameras and microphones send them.
func (c *codec) sendFrames(n int, plan fecPlan) (sent []inbound, h parityHeader, bodies [][]byte) {
	c.enc = fecEncoder{usual: n}
	c.enc.follow(newLadder(plan), gradedCode)
	for left, size := 0, 0; len(sent) < n; left-- {
		if left <= 0 {
			left, size = 1+c.rng.IntN(8), 100
			if left > 1 {
				size = 500 + c.rng.IntN(650)
			}
		}
		in := c.packet()
		in.h.Total, in.h.Second, in.size = 0, false, size
		in.pkt.Buffer()[0] = 0x80
		if err := in.pkt.Parse(size); err != nil {
			panic(err)
		}
		sent = append(sent, in)
		c.enc.add(c.seq, &in.h, c.raw(&in), ms)
	}
	h = c.enc.finish()
	for i := range h.Parity {
		h.Index = i
		bodies = append(bodies, appendParity(nil, h, c.enc.rows[i][:c.enc.sizes[i]]))
	}
	return sent, h, bodies
}
