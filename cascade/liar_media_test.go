package cascade

import (
	"bytes"
	"context"
	"encoding/binary"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/meshnet"
	"github.com/meridian-sfu/meridian/internal/meshpb/cascadepb"
)

// stage is a node a under attack by a liar, with a well-behaved link to b, which must not notice.
type stage struct {
	t    *testing.T
	a, b *station
	l    *liar
	heap uint64

	witness *camera // carried to b all the time
	seen    *screen
	sent    atomic.Int64
	stop    chan struct{}
	stopped chan struct{}
	once    sync.Once

	answering  bool
	media      atomic.Int64 // media frames the liar got
	heard      atomic.Int64 // of these, audio
	mediaBytes atomic.Int64
	rtx        atomic.Int64 // of these, retransmissions
	rtxBytes   atomic.Int64
	nacked     atomic.Int64 // packets a asked the liar for
	parity     atomic.Int64
}

func heapInUse() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// newStage starts everything. The liar's link is up, with its lanes read and probes answered unless it is deaf.
func newStage(t *testing.T, deaf bool, change ...func(*Config)) *stage {
	h := newHub(5 * time.Millisecond)
	s := &stage{
		t: t, a: startStation(t, h, "a", change...), b: startStation(t, h, "b"), answering: !deaf,
		witness: newCamera("TR_witness", false, 1), seen: new(screen), stop: make(chan struct{}), stopped: make(chan struct{}),
	}
	s.a.offer("TR_witness", s.witness.Source)
	r := s.b.Remote(room, s.witness.mesh(), "a")
	r.Media().Subscribe(s.seen).SetDemand(all(0))
	time.Sleep(300 * time.Millisecond)
	s.l = newLiar(t, h, "a")
	time.Sleep(100 * time.Millisecond)
	go s.film()
	t.Cleanup(s.cut)
	s.heap = heapInUse()
	return s
}

func (s *stage) film() {
	defer close(s.stopped)
	for {
		select {
		case <-s.stop:
			return
		case <-time.After(4 * time.Millisecond):
			s.witness.write(0)
			s.sent.Add(1)
		}
	}
}

// cut ends the film.
func (s *stage) cut() {
	s.once.Do(func() { close(s.stop) })
	<-s.stopped
}

// lanes returns the liar's ends of its lanes, and serves them from then on unless the liar is deaf.
func (s *stage) lanes() []*fakeConn {
	s.l.net.mu.Lock()
	conns := append([]*fakeConn(nil), s.l.net.conns...)
	s.l.net.mu.Unlock()
	require.NotEmpty(s.t, conns)
	for _, c := range conns {
		if s.answering {
			go s.serve(c)
		}
	}
	s.answering = false
	return conns
}

func (s *stage) serve(c *fakeConn) {
	for {
		b, err := c.ReceiveDatagram(context.Background())
		if err != nil {
			return
		}
		for len(b) > 0 {
			f, rest, err := nextFrame(b)
			if err != nil {
				break
			}
			s.got(c, f)
			b = rest
		}
	}
}

func (s *stage) got(c *fakeConn, f frame) {
	switch f.kind {
	case frameProbe:
		if p, err := parseProbe(f.body); err == nil {
			_ = c.SendDatagram(appendAnswer(nil, p.Sent))
		}
	case frameMedia, frameFragment, frameVideo, frameAudio:
		var h mediaHeader
		if rtp, err := parseMedia(f, &h); err == nil {
			s.media.Add(1)
			s.mediaBytes.Add(int64(len(rtp)))
			if h.Class == classAudio && !h.Retransmission {
				s.heard.Add(1)
			}
			if h.Retransmission {
				s.rtx.Add(1)
				s.rtxBytes.Add(int64(len(rtp)))
			}
		}
	case frameNack:
		var entries [maxNackEntries]nackEntry
		n, _ := parseNack(f.body, &entries)
		s.nacked.Add(int64(n))
	case frameParity, frameGraded, frameSliding:
		s.parity.Add(1)
	}
}

// linked reports whether a still has the liar's link.
func (s *stage) linked() bool {
	s.a.Cascade.mu.Lock()
	defer s.a.Cascade.mu.Unlock()
	p := s.a.peers["liar"]
	return p != nil && p.link != nil
}

// end checks that the rest of the mesh noticed nothing, and that nothing grew without bound. It may be called while the
// liar's link is still there.
func (s *stage) end() {
	s.t.Helper()
	const mib = 1 << 20
	if heap := heapInUse(); heap > s.heap+24*mib {
		s.t.Errorf("the heap grew by %d KiB", (heap-s.heap)>>10)
	}
	s.cut()
	time.Sleep(200 * time.Millisecond)
	require.EqualValues(s.t, s.sent.Load(), s.seen.count(), "the other link loses nothing")
	up := s.a.status(s.t, "b")
	require.True(s.t, up.Up)
	require.Zero(s.t, up.Drops["queue_full"]+up.Drops["expired"])
	require.EqualValues(s.t, 1, up.linksOpened)
	_ = s.l.control.Close()
	s.a.stop()
	s.b.stop()
}

func (s *stage) drops(reason string) uint64 { return s.a.status(s.t, "liar").Drops[reason] }

// pull opens a flow of a's camera to the liar.
func (s *stage) pull(id uint32, source string) {
	s.l.say(s.t, &cascadepb.LinkMessage{Body: &cascadepb.LinkMessage_FlowOpen{FlowOpen: &cascadepb.FlowOpen{
		FlowId: id, Room: string(room), Source: source, Path: []string{"liar"}, Hops: 1,
		Demand: &cascadepb.Demand{Encodings: 1, MaxTemporal: 255},
	}}})
}

// push makes a pull a camera from the liar, who may then send media on flow 1.
func (s *stage) push() *screen {
	r := s.a.Remote(room, newCamera("TR_lie", false, 1).mesh(), "liar")
	tv := new(screen)
	r.Media().Subscribe(tv).SetDemand(all(0))
	time.Sleep(50 * time.Millisecond)
	s.l.say(s.t, &cascadepb.LinkMessage{Body: &cascadepb.LinkMessage_FlowAccept{FlowAccept: &cascadepb.FlowAccept{FlowId: 1}}})
	return tv
}

func rtpOf(seq uint16, bytes int) []byte {
	b := make([]byte, bytes)
	b[0], b[1], b[2], b[3] = 0x80, 96, byte(seq>>8), byte(seq)
	return b
}

func mediaFrame(flow, linkSeq uint32, rtp []byte) []byte {
	return appendMedia(nil, &mediaHeader{Flow: flow, LinkSeq: linkSeq, Class: classRest, AudioLevel: 255}, rtp, true)
}

func slidingFrame(base uint32, packets, index int, symbol []byte) []byte {
	body := appendParity(nil, parityHeader{Base: base, Packets: packets, Index: index % 256, Sliding: true, Span: 255 * time.Millisecond}, symbol)
	return append(appendFrameHead(nil, frameSliding, len(body), true), body...)
}

// fullNack asks for all that a NACK can ask for, from a number on and so far apart.
func fullNack(seq, apart uint32) []byte {
	b := appendFrameHead(nil, frameNack, 8*maxNackEntries, false)
	for i := range uint32(maxNackEntries) {
		b = binary.BigEndian.AppendUint32(b, seq+i*apart)
		b = append(b, 0xff, 0xff, 0xff, 0xff)
	}
	return b
}

func TestLyingLanesAreBounded(t *testing.T) {
	const closed = true
	cases := []struct {
		name   string
		lie    func(s *stage, lane *fakeConn)
		drop   dropReason
		drops  uint64 // at least
		closed bool
	}{
		{"lengths that lie", func(s *stage, lane *fakeConn) {
			for i := range 1000 {
				_ = lane.SendDatagram([]byte{frameVersion<<6 | frameMedia<<2 | 2, 0xff, byte(i), 1, 2, 3})
			}
		}, dropGarbage, 201, closed},
		{"packets longer than any", func(s *stage, lane *fakeConn) {
			s.push()
			for i := range uint32(1000) {
				_ = lane.SendDatagram(appendMedia(nil, &mediaHeader{Flow: 1, LinkSeq: i + 1, Class: classRest, Total: 0xffff}, make([]byte, 900), true))
			}
		}, dropGarbage, 201, closed},
		{"RTP that is none", func(s *stage, lane *fakeConn) {
			s.push()
			for i := range uint32(1000) {
				_ = lane.SendDatagram(mediaFrame(1, i+1, make([]byte, 40)))
			}
		}, dropGarbage, 201, closed},
		{"flows never opened", func(s *stage, lane *fakeConn) {
			for i := range uint32(2_000) {
				_ = lane.SendDatagram(mediaFrame(1000+i%15_000, i+1, rtpOf(uint16(i), 1000)))
				if i%100 == 0 {
					time.Sleep(time.Millisecond)
				}
			}
		}, dropUnknownFlow, 1_900, !closed},
		{"replays", func(s *stage, lane *fakeConn) {
			tv := s.push()
			for range 100 {
				for i := range uint32(100) {
					_ = lane.SendDatagram(mediaFrame(1, i+1, rtpOf(uint16(i), 1000)))
				}
				time.Sleep(time.Millisecond)
			}
			time.Sleep(100 * time.Millisecond)
			require.Equal(t, 100, tv.count(), "each once")
		}, dropDuplicate, 9_900, !closed},
		{"halves without the other", func(s *stage, lane *fakeConn) {
			s.push()
			for i := range uint32(2_000) {
				_ = lane.SendDatagram(appendMedia(nil, &mediaHeader{Flow: 1, LinkSeq: 2*i + 1, Class: classRest, Total: 1400}, rtpOf(uint16(i), 1000), true))
				if i%50 == 0 {
					time.Sleep(time.Millisecond)
				}
			}
		}, dropReassembly, 1_900, !closed},
		{"halves that do not fit together", func(s *stage, lane *fakeConn) {
			s.push()
			for i := range uint32(2_000) {
				_ = lane.SendDatagram(appendMedia(nil, &mediaHeader{
					Flow: 1, LinkSeq: i + 1, Class: classRest, Total: 1400, Second: i%2 == 1,
				}, rtpOf(uint16(i), 1000+int(i)%3), true))
				if i%50 == 0 {
					time.Sleep(time.Millisecond)
				}
			}
		}, dropReassembly, 500, !closed},
		{"link sequence numbers all over", func(s *stage, lane *fakeConn) {
			s.push()
			rnd := rand.New(rand.NewPCG(1, 2))
			for i := range uint32(2_000) {
				_ = lane.SendDatagram(mediaFrame(1, rnd.Uint32(), rtpOf(uint16(i), 500)))
				if i%50 == 0 {
					time.Sleep(time.Millisecond)
				}
			}
			require.Less(t, s.nacked.Load(), int64(400*maxNackEntries), "what it is asked for in return is bounded")
		}, dropDuplicate, 1, !closed},
		{"probes that announce what was never sent", func(s *stage, lane *fakeConn) {
			s.push()
			for i := range uint32(2_000) {
				_ = lane.SendDatagram(appendProbe(nil, probe{Sent: time.Second, Highest: i << 20, Loss: 65535, Burst: 255}))
				if i%50 == 0 {
					time.Sleep(time.Millisecond)
				}
			}
		}, dropGarbage, 0, !closed},
		{"answers to nothing", func(s *stage, lane *fakeConn) {
			for i := range 2_000 {
				_ = lane.SendDatagram(appendAnswer(nil, time.Duration(i)*time.Millisecond))
			}
		}, dropGarbage, 0, !closed},
		{"parity that contradicts", func(s *stage, lane *fakeConn) {
			s.push()
			rnd := rand.New(rand.NewPCG(3, 4))
			symbol := make([]byte, 600)
			for i := range uint32(1_500) {
				for c := range symbol {
					symbol[c] = byte(rnd.Uint32())
				}
				h := parityHeader{Base: 1 + i/3*4, Packets: 3 + int(i%3), Index: int(i % 2), Parity: 2 + int(i%2)}
				if i%3 == 0 { // two of three are there: the symbol makes up for the third, wrongly
					_ = lane.SendDatagram(mediaFrame(1, h.Base, rtpOf(uint16(i), 500)))
					_ = lane.SendDatagram(mediaFrame(1, h.Base+1, rtpOf(uint16(i), 500)))
				}
				body := appendParity(nil, h, symbol)
				_ = lane.SendDatagram(append(appendFrameHead(nil, frameParity, len(body), true), body...))
				if i%50 == 0 {
					time.Sleep(time.Millisecond)
				}
			}
		}, dropGarbage, 3, !closed},
		{"parity for everything at once", func(s *stage, lane *fakeConn) {
			for i := range uint32(2_000) {
				body := appendParity(nil, parityHeader{Base: i * 1000, Packets: 128, Index: 39, Parity: 40}, make([]byte, 1000))
				_ = lane.SendDatagram(append(appendFrameHead(nil, frameParity, len(body), true), body...))
				if i%50 == 0 {
					time.Sleep(time.Millisecond)
				}
			}
		}, dropGarbage, 0, !closed},
		{"sliding parity that contradicts", func(s *stage, lane *fakeConn) {
			s.push()
			rnd := rand.New(rand.NewPCG(3, 4))
			symbol := make([]byte, 600)
			for i := range uint32(1_500) {
				for c := range symbol {
					symbol[c] = byte(rnd.Uint32())
				}
				base := 1 + i/3*4
				if i%3 == 0 { // two of three are there
					_ = lane.SendDatagram(mediaFrame(1, base, rtpOf(uint16(i), 500)))
					_ = lane.SendDatagram(mediaFrame(1, base+1, rtpOf(uint16(i), 500)))
				}
				_ = lane.SendDatagram(slidingFrame(base, 3+int(i%3), int(i), symbol))
				if i%50 == 0 {
					time.Sleep(time.Millisecond)
				}
			}
		}, dropGarbage, 3, !closed},
		{"sliding parity for everything at once", func(s *stage, lane *fakeConn) {
			for i := range uint32(2_000) {
				_ = lane.SendDatagram(slidingFrame(i*1000, 192, int(i), make([]byte, 1000)))
				if i%50 == 0 {
					time.Sleep(time.Millisecond)
				}
			}
		}, dropGarbage, 0, !closed},
		{"sliding parity of nothing over many packets", func(s *stage, lane *fakeConn) {
			s.push()
			_ = lane.SendDatagram(slidingFrame(1, 1, 0, []byte{0}))
			time.Sleep(10 * time.Millisecond)
			for i := range uint32(191) {
				_ = lane.SendDatagram(mediaFrame(1, 1+i, rtpOf(uint16(i), 1000)))
				if i%20 == 0 {
					time.Sleep(time.Millisecond)
				}
			}
			for i := 0; i < 200 && s.linked(); i++ {
				var b []byte
				for j := range 60 {
					body := appendParity(nil, parityHeader{Base: 1, Packets: 192, Index: (60*i + j) % 256, Sliding: true, Span: 255 * time.Millisecond}, []byte{byte(j)})
					b = append(appendFrameHead(b, frameSliding, len(body), false), body...)
				}
				_ = lane.SendDatagram(b)
				time.Sleep(time.Millisecond)
			}
		}, dropOverwork, 201, closed},
		{"NACKs as many as fit", func(s *stage, lane *fakeConn) {
			s.pull(1, "TR_witness")
			for range 100 {
				_ = lane.SendDatagram(bytes.Repeat(fullNack(1, 33), 4))
				time.Sleep(time.Millisecond / 2)
			}
		}, dropOverwork, 150, !closed},
		{"NACKs as many as fit for ever", func(s *stage, lane *fakeConn) {
			s.pull(1, "TR_witness")
			for range 500 {
				_ = lane.SendDatagram(bytes.Repeat(fullNack(1, 33), 4))
				time.Sleep(time.Millisecond / 2)
			}
		}, dropOverwork, 201, closed},
		{"jumps ahead", func(s *stage, lane *fakeConn) {
			for i := range uint32(1000) {
				var b []byte
				for j := range uint32(60) {
					b = append(b, appendProbe(nil, probe{Sent: time.Second, Highest: (60*i + j) * 600})...)
				}
				_ = lane.SendDatagram(b)
				time.Sleep(time.Millisecond / 2)
			}
		}, dropOverwork, 201, closed},
		{"asks for everything for ever", func(s *stage, lane *fakeConn) {
			s.pull(1, "TR_witness")
			time.Sleep(100 * time.Millisecond)
			for range 1_000 {
				s.a.Cascade.mu.Lock()
				l := s.a.peers["liar"].link
				s.a.Cascade.mu.Unlock()
				top := uint64(l.tx.highest())
				var seqs []uint64
				for q := top - min(top-1, 900); q <= top; q++ {
					seqs = append(seqs, q)
				}
				b, _ := appendNack(nil, seqs)
				_ = lane.SendDatagram(b)
				time.Sleep(time.Millisecond)
			}
			first := s.mediaBytes.Load() - s.rtxBytes.Load()
			require.Greater(t, s.rtx.Load(), int64(10))
			require.LessOrEqual(t, s.rtxBytes.Load(), first*budgetPercent/100+budgetStart, "repair stays in its budget")
		}, dropBudget, 300, !closed},
		{"NACKs for what was never sent", func(s *stage, lane *fakeConn) {
			for i := range uint64(1_000) {
				b, _ := appendNack(nil, []uint64{i * 1000, i*1000 + 5, 1<<32 - 1 - i})
				_ = lane.SendDatagram(b)
			}
		}, dropGarbage, 0, !closed},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStage(t, false)
				lane := s.lanes()[0]
				time.Sleep(200 * time.Millisecond)
				tc.lie(s, lane)
				time.Sleep(100 * time.Millisecond)
				require.GreaterOrEqual(t, s.drops(tc.drop.String()), tc.drops, "counted as %s: %v", tc.drop, s.a.status(t, "liar").Drops)
				require.Equal(t, !tc.closed, s.linked())
				if tc.closed {
					require.Equal(t, cascadepb.CloseReason_CLOSE_REASON_GARBAGE, s.l.last().GetLinkClose().GetReason())
				}
				s.end()
			})
		})
	}
}

// A request every millisecond: what reaches the source is bounded, whoever asks.
func TestFloodsOfWishes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, false)
		cam := newCamera("TR_2", false, 2)
		s.a.offer("TR_2", cam.Source)
		s.lanes()
		s.pull(1, "TR_2")
		time.Sleep(100 * time.Millisecond)
		keyframes, demands := cam.asked(0), cam.demandChanges()
		for i := range uint32(3_000) { // 3 s
			s.l.say(t, &cascadepb.LinkMessage{Body: &cascadepb.LinkMessage_KeyframeRequest{
				KeyframeRequest: &cascadepb.KeyframeRequest{FlowId: 1},
			}})
			s.l.say(t, &cascadepb.LinkMessage{Body: &cascadepb.LinkMessage_FlowDemand{FlowDemand: &cascadepb.FlowDemand{
				FlowId: 1, Path: []string{"liar"}, Hops: 1, Demand: &cascadepb.Demand{Encodings: 1 + i%3, MaxTemporal: i % 5},
			}}})
			time.Sleep(time.Millisecond)
		}
		require.LessOrEqual(t, cam.asked(0)-keyframes, 31, "ten keyframes a second")
		require.LessOrEqual(t, cam.demandChanges()-demands, 3*(flowDemandRate+10)+flowDemandBurst)
		require.NotZero(t, s.drops("hurried"))
		s.l.say(t, &cascadepb.LinkMessage{Body: &cascadepb.LinkMessage_FlowDemand{FlowDemand: &cascadepb.FlowDemand{
			FlowId: 1, Path: []string{"liar"}, Hops: 1, Demand: &cascadepb.Demand{Encodings: 2, MaxTemporal: 255},
		}}})
		time.Sleep(200 * time.Millisecond)
		require.Equal(t, all(1), cam.Demand(), "the last one counts")
		require.True(t, s.linked())
		s.end()
	})
}

func TestFloodsOfFlows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, false, func(c *Config) { c.MaxFlows = 200 })
		s.lanes()
		for i := range uint32(5_000) { // opened and closed, and far more than there may be
			s.pull(i%maxFlowIDs, "TR_witness")
			if i%3 != 0 {
				s.l.say(t, &cascadepb.LinkMessage{Body: &cascadepb.LinkMessage_FlowClose{FlowClose: &cascadepb.FlowClose{FlowId: i % maxFlowIDs}}})
			}
			if i%100 == 0 {
				time.Sleep(5 * time.Millisecond)
			}
			if !s.linked() {
				break
			}
		}
		require.LessOrEqual(t, s.witness.Subscribers(), 201)
		s.end()
	})
}

func TestFloodOfClocksAndAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, false)
		s.lanes()
		tv := s.push()
		for i := range uint32(2_000) {
			for _, m := range []*cascadepb.LinkMessage{
				{Body: &cascadepb.LinkMessage_ClockUpdate{ClockUpdate: &cascadepb.ClockUpdate{FlowId: 1, Ntp: ^uint64(0) - uint64(i), RtpTimestamp: i << 20}}},
				{Body: &cascadepb.LinkMessage_FlowAccept{FlowAccept: &cascadepb.FlowAccept{FlowId: 1}}},
				{Body: &cascadepb.LinkMessage_Ping{Ping: &cascadepb.Ping{Token: uint64(i)}}},
				{Body: &cascadepb.LinkMessage_LinkUse{LinkUse: &cascadepb.LinkUse{Wanted: i%2 == 0}}},
				{Body: &cascadepb.LinkMessage_LanesWanted{LanesWanted: &cascadepb.LanesWanted{Lanes: ^uint32(0)}}},
			} {
				s.l.say(t, m)
			}
			if i%20 == 0 {
				time.Sleep(time.Millisecond)
			}
		}
		require.True(t, s.linked())
		require.Zero(t, tv.count())
		require.LessOrEqual(t, s.a.status(t, "liar").Lanes, 2, "no more lanes than the greeting allowed")
		s.end()
	})
}

// Messages beyond what all flows need are not read, so the peer that writes them waits.
func TestFloodOfControlIsReadSlowly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, false, func(c *Config) { c.MaxFlows = 50 })
		s.lanes()
		var said atomic.Int64
		flood := make(chan struct{})
		go func() {
			defer close(flood)
			for meshnet.WriteMessage(s.l.control, &cascadepb.LinkMessage{Version: 1, Body: &cascadepb.LinkMessage_LinkUse{LinkUse: &cascadepb.LinkUse{Wanted: true}}}) == nil {
				said.Add(1)
			}
		}()
		const seconds = 3
		time.Sleep(seconds * time.Second)
		const rate, saved = controlFewest + 50*controlSteps, controlFewest + 50*controlSaved
		require.Greater(t, said.Load(), int64(rate*seconds/2))
		require.Less(t, said.Load(), int64(saved+rate*seconds+100))
		require.NotZero(t, s.drops("hurried"))
		require.True(t, s.linked(), "it does no harm")
		s.end()
		<-flood
	})
}

func TestPeerThatReadsNoControl(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, false)
		s.lanes()
		s.l.deaf.Store(true) // its pipe is full from now on
		s.l.say(t, &cascadepb.LinkMessage{Body: &cascadepb.LinkMessage_Ping{Ping: &cascadepb.Ping{}}})
		s.l.say(t, &cascadepb.LinkMessage{Body: &cascadepb.LinkMessage_Ping{Ping: &cascadepb.Ping{}}})
		time.Sleep(2*s.a.cfg.OpenTimeout + time.Second)
		require.False(t, s.linked(), "a link whose control messages are not read is of no use")
		s.end()
	})
}

func TestPeerThatReadsNoMedia(t *testing.T) {
	for name, stuck := range map[string]bool{"drops it": false, "blocks": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStage(t, false)
				lanes := s.lanes()
				s.pull(1, "TR_witness")
				time.Sleep(100 * time.Millisecond)
				if stuck {
					for _, c := range lanes {
						c.other.stuck.Store(true)
					}
				} else {
					s.a.net.hub.setDrop(func(_, to mesh.NodeID, _ *fakeConn, _ []byte) bool { return to == "liar" })
				}
				time.Sleep(8 * time.Second)
				st := s.a.status(t, "liar")
				require.False(t, st.Up)
				require.Equal(t, cascadepb.CloseReason_CLOSE_REASON_SILENT, s.l.last().GetLinkClose().GetReason())
				s.end()
			})
		})
	}
}

// A process that greets again and again replaces its link each time, and leaves nothing behind.
func TestFloodOfGreetings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, false)
		before := runtime.NumGoroutine()
		for i := range uint64(100) {
			conn, err := s.l.net.OpenControl(t.Context(), "a")
			require.NoError(t, err)
			go func() { // it reads all answers
				for {
					if meshnet.ReadMessage(conn, 1<<20, new(cascadepb.LinkMessage)) != nil {
						return
					}
				}
			}()
			_ = meshnet.WriteMessage(conn, &cascadepb.LinkMessage{Version: 1, Body: &cascadepb.LinkMessage_Hello{Hello: &cascadepb.Hello{
				Version: 1, MinVersion: 1, Session: i, Instance: i, Lanes: 2,
			}}})
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(8 * time.Second)
		require.LessOrEqual(t, runtime.NumGoroutine(), before+20)
		s.l.net.forget()
		s.a.net.forget()
		s.end()
	})
}
