package cascade

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

// TestPreviousRelease runs a link between this release and one before it, which has its own code (oldnode_test.go):
// media both ways, repair, keyframes, demand, clocks and the end, whoever opens and whoever dials.
func TestPreviousRelease(t *testing.T) {
	for _, tc := range []struct {
		name     string
		id       mesh.NodeID // below "new": it dials the lanes
		opens    bool
		features uint64
	}{
		{"it opens and dials", "an-old", true, 1},
		{"it is opened and dialled", "old", false, 1},
		{"it opens and is dialled", "old", true, 1},
		{"it knows no features", "old", false, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHub(70 * time.Millisecond)
				s := startStation(t, h, "new")
				o := newOldNode(h, tc.id, tc.features)
				if tc.opens {
					require.NoError(t, o.greet(t.Context(), "new"))
					o.say(oldUse, pint(nil, 1, 1))
				} else {
					defer s.Keep(tc.id)()
				}
				defer time.Sleep(time.Second) // for its last probe
				defer o.net.breakLanes()
				time.Sleep(time.Second)
				alive, _ := s.Alive(tc.id)
				require.True(t, alive)
				oldPulls(t, h, s, o)
				oldServes(t, s, o)
				time.Sleep(10 * time.Second)
				st := s.status(t, tc.id)
				require.True(t, st.Up)
				require.EqualValues(t, 1, st.linksOpened, "one link all the time")
				require.Zero(t, st.Drops["garbage"]+st.Drops["bad_control"])
				s.stop()
				ends := o.all(oldClose)
				require.Len(t, ends, 1)
				require.EqualValues(t, 1, ends[0].ints[1], "shutdown")
				require.Empty(t, o.faults)
			})
		})
	}
}

// oldPulls: the old node pulls a camera of two encodings, loses datagrams and gets every packet all the same.
func oldPulls(t *testing.T, h *hub, s *station, o *oldNode) {
	cam := newCamera("TR_new", false, 2)
	s.offer("TR_new", cam.Source)
	demand := func(encodings uint64) []byte {
		return protowire.AppendBytes(nil, pint(pint(nil, 1, encodings), 2, 255))
	}
	open := pint(nil, 1, 1)
	open = pint(open, 2, 70)
	open = pstring(pstring(open, 3, string(room)), 4, "TR_new")
	open = append(protowire.AppendTag(open, 5, protowire.BytesType), demand(1)...)
	open = pint(pstring(open, 6, string(o.id)), 7, 1)
	o.say(oldOpen, pstring(open, 8, "new"))
	o.say(oldKeyframe, pint(nil, 1, 70))
	time.Sleep(500 * time.Millisecond)
	require.Len(t, o.all(oldAccept), 1)
	require.NotZero(t, cam.asked(0), "its keyframe request arrives")
	o.look(func() { o.losses, o.burst = 65535/50, 16 }) // it tells of 2 %, so there is parity

	n := 0
	h.setDrop(func(from, _ mesh.NodeID, _ *fakeConn, b []byte) bool {
		if from == "new" && len(b) > 300 {
			n++
		}
		return from == "new" && len(b) > 300 && n%50 == 0
	})
	const packets = 900
	sent := make(map[string]bool)
	for i := range packets {
		cam.size = 200 + i%900
		if i%100 == 7 {
			cam.size = 1400 // in two halves
		}
		p := cam.packet(0)
		p.Keyframe = i%300 == 0
		sent[string(p.Raw())] = true
		cam.Stream(0).Write(p)
		p.Release()
		time.Sleep(2 * time.Millisecond)
	}
	h.setDrop(nil)
	clock := rtpstream.SenderClock{NTP: 0xfedcba9876543210, RTPTimestamp: 0x89abcdef}
	cam.Stream(0).SetClock(clock)
	time.Sleep(time.Second)
	o.look(func() {
		require.Len(t, o.rtp, packets)
		for _, rtp := range o.rtp {
			require.True(t, sent[string(rtp)], "untouched")
		}
		require.NotZero(t, o.rtx, "its NACKs are answered")
		require.Equal(t, 3, o.keys)
		if o.features&1 != 0 {
			require.Greater(t, o.parity, 20, "parity it can use")
		} else {
			require.Zero(t, o.parity)
		}
	})
	clocks := o.all(oldClock)
	require.Len(t, clocks, 1)
	require.Equal(t, clock.NTP, clocks[0].ints[3])
	require.EqualValues(t, clock.RTPTimestamp, clocks[0].ints[4])

	change := append(protowire.AppendTag(pint(nil, 1, 70), 2, protowire.BytesType), demand(2)...)
	o.say(oldDemand, pint(pstring(change, 3, string(o.id)), 4, 1))
	time.Sleep(300 * time.Millisecond)
	require.Equal(t, all(1), cam.Demand())
	o.say(oldFlowClose, pint(nil, 1, 70))
	time.Sleep(300 * time.Millisecond)
	require.Zero(t, cam.Subscribers())
	o.look(func() { o.losses, o.burst = 0, 0 })
}

// oldServes: the new node pulls from the old one.
func oldServes(t *testing.T, s *station, o *oldNode) {
	src := newCamera("TR_old", false, 2).mesh()
	r := s.Remote(room, src, o.id)
	tv := new(screen)
	sub := r.Media().Subscribe(tv)
	sub.SetDemand(all(0))
	time.Sleep(500 * time.Millisecond)
	opens := o.all(oldOpen)
	require.Len(t, opens, 1)
	m := opens[0]
	flow := uint32(m.ints[2])
	require.Equal(t, []string{string(room)}, m.bytes[3])
	require.Equal(t, []string{"TR_old"}, m.bytes[4])
	require.EqualValues(t, 1, m.nested[5][1], "encoding 0")
	require.EqualValues(t, 255, m.nested[5][2])
	require.Equal(t, []string{"new"}, m.bytes[6], "the path")
	require.EqualValues(t, 1, m.ints[7])
	require.True(t, o.has(oldKeyframe), "a flow begins with a keyframe")

	asked := o.asked
	const packets = 500
	for i := range packets {
		o.send(flow, rtpOf(uint16(i), 100+i%1000), i == 0, i%10 == 5)
		time.Sleep(2 * time.Millisecond)
	}
	time.Sleep(time.Second)
	require.Equal(t, packets, tv.count(), "what was lost is asked for again")
	require.Greater(t, o.asked, asked)
	if o.features&1 != 0 { // one packet of each block is never sent again: its parity makes up for it
		restored := s.status(t, o.id).Restored
		for b := range 10 {
			var symbols [][]byte
			var base uint32
			for c := range 8 {
				lost := b > 0 && c == b%8 // the first parity tells that there is any
				seq, symbol := o.send(flow, rtpOf(uint16(packets+b*8+c), 100+13*c), false, lost)
				o.look(func() { o.silent[seq] = true })
				if symbols = append(symbols, symbol); c == 0 {
					base = seq
				}
				time.Sleep(2 * time.Millisecond)
			}
			o.protect(base, symbols)
			time.Sleep(2 * time.Millisecond)
		}
		time.Sleep(time.Second)
		require.Equal(t, packets+80, tv.count())
		require.EqualValues(t, 9, s.status(t, o.id).Restored-restored)
	}

	clock := pint(nil, 1, uint64(flow))
	clock = pint(clock, 2, 1)
	clock = protowire.AppendFixed64(protowire.AppendTag(clock, 3, protowire.Fixed64Type), 0x1122334455667788)
	o.say(oldClock, protowire.AppendFixed32(protowire.AppendTag(clock, 4, protowire.Fixed32Type), 0x99aabbcc))
	sub.SetDemand(all(0, 1))
	time.Sleep(500 * time.Millisecond)
	require.Equal(t, rtpstream.SenderClock{NTP: 0x1122334455667788, RTPTimestamp: 0x99aabbcc}, *r.Media().Stream(1).Clock())
	demands := o.all(oldDemand)
	require.NotEmpty(t, demands)
	require.EqualValues(t, 3, demands[len(demands)-1].nested[2][1])

	o.say(oldEnded, pint(nil, 1, uint64(flow)))
	time.Sleep(300 * time.Millisecond)
	require.Empty(t, s.status(t, o.id).Flows)
	time.Sleep(3 * time.Second)
	require.Len(t, o.all(oldOpen), 2, "it is asked for again")
	r.Close()
	time.Sleep(300 * time.Millisecond)
	require.Len(t, o.all(oldFlowClose), 1)
}
