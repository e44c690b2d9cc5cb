package cascade

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

// clockSink remembers RTP sequence numbers and when they came.
type clockSink struct {
	mu   sync.Mutex
	came []arrival
}

type arrival struct {
	seq uint16
	at  time.Time
}

func (c *clockSink) WritePacket(p *rtpstream.Packet) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.came = append(c.came, arrival{p.SequenceNumber, time.Now()})
}

func (c *clockSink) packets() []arrival {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.came)
}

// overtaken counts packets that came behind one sent after them.
func (c *clockSink) overtaken() (n int) {
	came := c.packets()
	for i := 1; i < len(came); i++ {
		if int16(came[i].seq-came[i-1].seq) < 0 {
			n++
		}
	}
	return n
}

func TestLanesThatOvertakeDoNotReorderStreams(t *testing.T) {
	for _, audio := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			h := newHub(40 * time.Millisecond)
			rng := rand.New(rand.NewPCG(1, 2))
			spread := 9
			if audio {
				spread = 4
			}
			type wander struct {
				extra time.Duration
				until time.Time
			}
			lanes := make(map[*fakeConn]wander)
			h.jitter = func(c *fakeConn) time.Duration { // each lane by itself wanders
				w := lanes[c]
				if now := time.Now(); now.After(w.until) {
					w = wander{time.Duration(rng.IntN(spread*1000)) * time.Microsecond, now.Add(time.Duration(5+rng.IntN(20)) * time.Millisecond)}
					lanes[c] = w
				}
				return w.extra
			}
			a, b := startStation(t, h, "a"), startStation(t, h, "b")
			cam, other := newCamera("TR_1", audio, 1), newCamera("TR_2", false, 1)
			a.offer("TR_1", cam.Source)
			a.offer("TR_2", other.Source)
			tv, tv2 := new(clockSink), new(clockSink)
			for _, x := range []struct {
				cam *camera
				tv  *clockSink
			}{{cam, tv}, {other, tv2}} {
				r := b.Remote(room, x.cam.mesh(), "a")
				defer r.Close()
				r.Media().Subscribe(x.tv).SetDemand(all(0))
			}
			time.Sleep(500 * time.Millisecond)
			for i := range 3000 {
				cam.write(0)
				if i%3 == 0 {
					other.write(0)
				}
				if i == 500 { // the window has been learned
					tv.mu.Lock()
					tv.came = nil
					tv.mu.Unlock()
				}
				time.Sleep(time.Millisecond)
			}
			time.Sleep(time.Second)
			s := b.status(t, "a")
			require.Zero(t, s.Lost)
			require.GreaterOrEqual(t, len(tv.packets()), 2490)
			require.LessOrEqual(t, tv.overtaken(), 25, "some 650 without; %+v", s)
		})
	}
}

func TestNothingWaitsWithoutAGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(40 * time.Millisecond)
		a, b := startStation(t, h, "a"), startStation(t, h, "b")
		cam := newCamera("TR_1", false, 1)
		a.offer("TR_1", cam.Source)
		r := b.Remote(room, cam.mesh(), "a")
		defer r.Close()
		tv := new(clockSink)
		r.Media().Subscribe(tv).SetDemand(all(0))
		time.Sleep(500 * time.Millisecond)
		lost := uint16(0)
		h.setDrop(func(from, _ mesh.NodeID, _ *fakeConn, b []byte) bool {
			f, _, err := nextFrame(b)
			if err != nil || f.kind != frameMedia && !f.short() {
				return false
			}
			var m mediaHeader
			rtp, err := parseMedia(f, &m)
			if err != nil || m.Retransmission || from != "a" {
				return false
			}
			seq := binary.BigEndian.Uint16(rtp[2:])
			if f.cut() {
				seq = binary.BigEndian.Uint16(rtp[3:])
			}
			if seq%100 == 50 {
				lost++
				return true
			}
			return false
		})
		sent := make([]time.Time, 0, 1000)
		for range 1000 {
			sent = append(sent, time.Now())
			cam.write(0)
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Second)
		h.setDrop(nil)
		require.EqualValues(t, 10, lost)
		came := tv.packets()
		require.Len(t, came, 1000)
		waited := 0
		for _, p := range came {
			seq, late := p.seq, p.at.Sub(sent[p.seq])-h.delay
			if seq%100 == 50 { // itself lost
				continue
			}
			require.LessOrEqual(t, late, minHold+time.Millisecond/2, "packet %d", seq)
			if late > 0 {
				waited++
			}
		}
		require.LessOrEqual(t, waited, 10*4, "only right behind a gap, and only as long as it may close by itself")
	})
}

func TestReorderIsBounded(t *testing.T) {
	var r reorder
	tr := newTracker(500 * ms)
	tr.received(1, false, ms)
	tr.received(3, false, ms)
	orders := make([]flowOrder, 2)
	orders[1].enc[0] = streamOrder{last: 1, started: true}
	pl, cam := new(pull), newCamera("TR_1", false, 1)
	full := 0
	for i := range maxHeld + 10 {
		p := cam.packet(0)
		p.SequenceNumber = uint16(10 + i)
		if old, evicted := r.hold(heldPacket{
			inbound: inbound{h: mediaHeader{Flow: 1}, pkt: p, at: ms}, seq: tr.base + uint64(1000-i), pull: pl,
		}); evicted {
			full++
			old.pkt.Release()
		}
	}
	require.Equal(t, 10, full)
	_, _, ok := r.release(tr, orders, 0, ms)
	require.False(t, ok)
	require.Equal(t, ms+minHold, r.due(tr))
	_, _, ok = r.release(tr, orders, 0, ms+minHold)
	require.True(t, ok)
	r.clear()
	require.Equal(t, never, r.due(tr))
}
