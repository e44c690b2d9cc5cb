package cascade

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/internal/meshnet"
	"github.com/meridian-sfu/meridian/internal/meshpb/cascadepb"
	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

// What does not hang on windows and queues of lanes holds for direct media as well.
func TestOverDirectMedia(t *testing.T) {
	hubsDirect = true
	defer func() { hubsDirect = false }()
	for name, f := range map[string]func(*testing.T){
		"BlackHoleIsNoticedAndHeals":           TestBlackHoleIsNoticedAndHeals,
		"ClockIsCarriedVerbatim":               TestClockIsCarriedVerbatim,
		"FlowOnDemand":                         TestFlowOnDemand,
		"GarbageOnALaneClosesTheLink":          TestGarbageOnALaneClosesTheLink,
		"KeepMakesOneLinkWithLiveness":         TestKeepMakesOneLinkWithLiveness,
		"KeyframeRequestsCollapse":             TestKeyframeRequestsCollapse,
		"LanesAndLinkComeBack":                 TestLanesAndLinkComeBack,
		"LanesThatOvertakeDoNotReorder":        TestLanesThatOvertakeDoNotReorderStreams,
		"LyingLanesAreBounded":                 TestLyingLanesAreBounded,
		"NackRepairsLoss":                      TestNackRepairsLoss,
		"OneCopyForManyAndDemandUnion":         TestOneCopyForManyAndDemandUnion,
		"OneSilentLaneIsAvoided":               TestOneSilentLaneIsAvoided,
		"OversizedPacketsCrossInHalves":        TestOversizedPacketsCrossInHalves,
		"PullFromChangesWithoutAGap":           TestPullFromChangesWithoutAGap,
		"RelayOverThreeNodesAndLoopRefused":    TestRelayOverThreeNodesAndLoopRefused,
		"SecondHelloReplacesOrIsRefused":       TestSecondHelloReplacesOrIsRefused,
		"SourceEndsAndComesBack":               TestSourceEndsAndComesBack,
		"TailLossIsRepaired":                   TestTailLossIsRepaired,
		"WatchersTellTheLatestOfAFlappingLink": TestWatchersTellTheLatestOfAFlappingLink,
	} {
		t.Run(name, f)
	}
}

// capture is a direct lane that keeps what it is given.
type capture struct {
	*fakeConn
	mu          sync.Mutex // writers and the flusher may come at once; tests read when all have
	batch, sent [][]byte
	flushes     int
	err         error
}

var _ directMedia = (*capture)(nil)

func (c *capture) Gather(b []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.err != nil:
		return c.err
	case len(b) > c.hub.max:
		return meshnet.ErrDatagramTooLarge
	}
	c.batch = append(c.batch, append([]byte(nil), b...))
	return nil
}

func (c *capture) Flush() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.flushes++
	c.sent = append(c.sent, c.batch...)
	c.batch = nil
	return nil
}

func (c *capture) Handle(meshnet.Handler) [][]byte { return nil }

// newDirectSender has n direct lanes.
func newDirectSender(t testing.TB, n int) (*sender, []*capture, *sendFlow, *camera) {
	t.Helper()
	s := newSender(DefaultConfig(), new(counters), nil)
	var conns []*capture
	for i := range n {
		c := &capture{fakeConn: &fakeConn{hub: newHub(0)}}
		s.attach(newLane(i, c, ms), ms)
		conns = append(conns, c)
	}
	return s, conns, &sendFlow{id: 1}, newCamera("TR_1", false, 1)
}

// one writes a packet, perhaps the last of its frame.
func (s *sender) one(f *sendFlow, cam *camera, marker bool, now time.Duration) {
	p := cam.packet(0)
	p.Stream, p.Marker = cam.Stream(0), marker
	if marker {
		p.Raw()[1] |= rtpMarker
	}
	s.write(f, p, now)
	p.Release()
}

// Frames of every size, parity and control frames among them, come out of a direct lane's datagrams as they went in.
func TestDirectDatagramsParse(t *testing.T) {
	s, conns, f, cam := newDirectSender(t, 1)
	s.adapt(150*ms, 0.05, 4, features, ms)
	now, media, control := ms, 0, 0
	for size := 20; size < 1400; size++ {
		cam.size = size%620 + 20
		now += ms
		s.one(f, cam, false, now)
		s.one(f, cam, false, now)
		require.True(t, s.control(s.lanes[0], appendAnswer(nil, now), now))
		s.one(f, cam, true, now)
		s.tick(now)
		for _, b := range conns[0].sent {
			require.LessOrEqual(t, len(b), 1243)
			for len(b) > 0 {
				fr, rest, err := nextFrame(b)
				require.NoError(t, err)
				switch fr.kind {
				case frameParity, frameGraded, frameSliding:
					_, _, err = parseParity(fr)
				case frameAnswer:
					control++
					_, err = parseAnswer(fr.body)
				default:
					media++
					var h mediaHeader
					var rtp []byte
					rtp, err = parseMedia(fr, &h)
					require.Len(t, rtp, cam.size)
				}
				require.NoError(t, err)
				b = rest
			}
		}
		conns[0].sent = nil
	}
	require.Equal(t, 1380, control)
	require.Equal(t, 3*1380, media)
	require.NotZero(t, s.stats.coalesced.Load())
	s.close()
}

func TestDirectLaneSendsCompleteFrames(t *testing.T) {
	s, conns, f, cam := newDirectSender(t, 2)
	cam.size = 1100
	for range 5 {
		s.one(f, cam, false, time.Second)
	}
	sent := func() int { return len(conns[0].sent) + len(conns[1].sent) }
	require.Zero(t, sent(), "the frame goes on")
	s.one(f, cam, true, time.Second)
	require.Equal(t, 6, sent())
	require.Equal(t, 1, conns[0].flushes+conns[1].flushes, "on one lane, with one system call")
	audio := &sendFlow{id: 2, audio: true}
	s.one(audio, cam, false, time.Second+gatherTime)
	require.Equal(t, 7, sent(), "audio waits for nothing")
	s.one(f, cam, false, 2*time.Second)
	require.Equal(t, 7, sent())
	s.flush()
	require.Equal(t, 8, sent())
	flushes := conns[0].flushes + conns[1].flushes
	s.flush()
	require.Equal(t, flushes, conns[0].flushes+conns[1].flushes, "nothing is left")
	s.close()
}

// Frames and audio packets share a system call while there are many.
func TestDirectLaneSendsManyTogether(t *testing.T) {
	s, conns, f, cam := newDirectSender(t, 1)
	now := time.Second
	for range livelyFrames {
		s.one(f, cam, true, now)
		now += livelyTime / livelyFrames
	}
	require.Equal(t, livelyFrames, conns[0].flushes)
	now = time.Second + livelyTime
	for range 10 {
		s.one(f, cam, true, now)
	}
	require.Equal(t, livelyFrames, conns[0].flushes)
	s.flush()
	require.Equal(t, livelyFrames+1, conns[0].flushes)
	for range gatherMost + 1 {
		s.one(f, cam, true, now)
	}
	require.Equal(t, livelyFrames+2, conns[0].flushes, "not more than this")
	for range 3 {
		now += livelyTime
		s.one(f, cam, true, now)
	}
	require.Equal(t, livelyFrames+5, conns[0].flushes, "each by itself again")
	s.close()
}

func TestBrokenDirectLaneIsLeft(t *testing.T) {
	s, conns, f, cam := newDirectSender(t, 2)
	s.one(f, cam, true, time.Second)
	first := 0
	if len(conns[1].sent) > 0 {
		first = 1
	}
	for i := range 4 {
		s.one(f, cam, true, time.Second+time.Duration(i+1)*ms)
	}
	require.Len(t, conns[first].sent, 5, "one lane carries all while it is well")
	s.repeat([]nackEntry{{Base: 2}}, 1100*ms, 20*ms)
	require.Len(t, conns[1-first].sent, 1, "repair takes another")
	conns[first].err = errors.New("over")
	s.one(f, cam, true, 2*time.Second)
	l := s.lanes[first]
	require.True(t, l.broken.Load())
	require.False(t, l.usable(2*time.Second))
	s.one(f, cam, true, 3*time.Second)
	require.Len(t, conns[1-first].sent, 2)
	s.detach(l)
	s.one(f, cam, true, 4*time.Second)
	require.Len(t, conns[1-first].sent, 3)
	s.close()
}

func TestDirectLaneShrinks(t *testing.T) {
	s, conns, f, cam := newDirectSender(t, 1)
	cam.size = 1200
	s.one(f, cam, true, time.Second)
	require.Len(t, conns[0].sent, 1)
	conns[0].hub.max = 1180
	s.one(f, cam, true, 2*time.Second)
	require.EqualValues(t, 1, s.stats.drops[dropTooLarge].Load())
	s.one(f, cam, true, 3*time.Second)
	require.Len(t, conns[0].sent, 3, "in two halves from now on")
	s.close()
}

// What nobody completes leaves with who comes after it has waited, together, and when nobody comes, a little later; the
// flusher sleeps while somebody comes.
func TestFlusherSendsWhatIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		clock := func() time.Duration { return time.Since(start) + time.Second }
		s, conns, f, cam := newDirectSender(t, 1)
		s.flusher = newFlusher()
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		defer wg.Wait()
		defer cancel()
		wg.Go(func() { s.flusher.run(ctx) })
		write := func(marker bool) { s.one(f, cam, marker, clock()) }
		left := func() int { synctest.Wait(); return len(conns[0].batch) + boolInt(s.lanes[0].gathered.tail.pkt != nil) }
		for range 100 {
			write(false)
			time.Sleep(100 * time.Microsecond)
		}
		require.LessOrEqual(t, conns[0].flushes, 25, "together")
		time.Sleep(gatherLate)
		require.Zero(t, left())
		time.Sleep(37 * time.Microsecond) // not at the very time of a round
		for range 100 {
			for i := range 10 {
				write(i == 9)
			}
			time.Sleep(2 * livelyTime)
			require.Zero(t, left(), "complete")
		}
		flushes := conns[0].flushes
		for range 100 {
			write(false)
			time.Sleep(time.Second)
			require.Zero(t, left(), "not complete, and nobody comes")
		}
		require.Equal(t, flushes+100, conns[0].flushes)
		s.close()
	})
}

// What waits on one link leaves with what is written to another; what came from another node, when all of what came with
// it is written.
func TestFlusherServesAllLinks(t *testing.T) {
	f := newFlusher()
	local, _, localFlow, cam := newDirectSender(t, 1)
	other, conns, otherFlow, _ := newDirectSender(t, 1)
	local.flusher, other.flusher = f, f
	other.one(otherFlow, cam, false, time.Second)
	local.one(localFlow, cam, false, time.Second+gatherTime/2)
	require.Empty(t, conns[0].sent)
	local.one(localFlow, cam, false, time.Second+gatherTime)
	require.Len(t, conns[0].sent, 1)

	other.one(otherFlow, cam, false, 2*time.Second)
	f.relay(2 * time.Second)
	require.Len(t, conns[0].sent, 1, "written here")
	otherFlow.relayed = true
	other.one(otherFlow, cam, false, 2*time.Second)
	f.relay(2 * time.Second)
	require.Len(t, conns[0].sent, 3)
	local.close()
	other.close()
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// On direct media a packet costs no allocation on its way out or in, with whole headers or little of them, and no more
// with parity.
func TestDirectPathAllocs(t *testing.T) {
	for name, x := range map[string]struct{ contexts, parity bool }{"plain": {}, "contexts": {contexts: true}, "contexts and parity": {true, true}} {
		t.Run(name, func(t *testing.T) { directPathAllocs(t, x.contexts, x.parity) })
	}
}

func directPathAllocs(t *testing.T, contexts, parity bool) {
	s, conns, f, cam := newDirectSender(t, 2)
	if contexts {
		know := features
		if !parity {
			know &^= uint32(cascadepb.Feature_FEATURE_FEC)
		}
		s.adapt(150*ms, 0.02, 1, know, ms)
	}
	var pool rtpstream.Pool
	l := &link{tx: s, rx: newReceiver(DefaultConfig(), &pool, new(counters))}
	pl := pullOf(cam)
	l.rx.setFlow(1, pl)
	sink := countSink{}
	pl.media.Subscribe(&sink).SetDemand(all(0))
	wire := &passing{capture: conns[0]}
	in := newLane(0, wire, ms)
	s.lanes[0].direct, s.lanes[1].direct = wire, wire
	now := ms
	cut, symbols := 0, 0
	wire.each = func(b []byte) {
		if fr, _, err := nextFrame(b); err == nil {
			cut, symbols = cut+boolInt(fr.cut()), symbols+boolInt(fr.parity())
		}
		l.arrived(in, b, now)
	}
	run := func() {
		now += ms
		s.one(f, cam, true, now)
		for _, m := range l.rx.propose(now) {
			f.contexts[m.GetEncoding()].Store(&headerContext{uint8(m.GetContext()), uint16(m.GetOctets()), m.GetSsrc(), m.GetTimestamp()})
		}
	}
	l.rx.contexts.on.Store(contexts)
	for range 5000 { // fill the caches
		run()
	}
	require.Zero(t, testing.AllocsPerRun(1000, run))
	s.flush()
	require.Equal(t, 6001, sink.n)
	require.Equal(t, contexts, cut > 5000, "%d were cut", cut)
	require.Equal(t, parity, symbols > 500, "%d symbols", symbols)
}

// passing is a lane whose other end gets each datagram at once.
type passing struct {
	*capture
	each func(b []byte)
}

func (p *passing) Gather(b []byte) error {
	p.each(b)
	return nil
}

// A link that falls idle holds no packets, and looking at one that is not costs what was released.
func TestSendCacheAges(t *testing.T) {
	c, cam := newSendCache(), newCamera("TR_1", false, 1)
	put := func(seq uint64, now time.Duration) {
		p := cam.packet(0)
		c.put(item{pkt: p, seq: seq}, nil, now)
		p.Release()
	}
	kept := func() (n int) {
		for i := range c.slots {
			n += boolInt(c.slots[i].pkt != nil)
		}
		return n
	}
	for seq := uint64(1); seq <= 6000; seq++ {
		put(seq, time.Duration(seq)*ms/4)
	}
	require.Equal(t, sendCachePackets, kept())
	c.age(1500 * ms)
	require.Equal(t, 4000+1, kept(), "a second's worth")
	put(6001, 1501*ms)
	c.age(1500*ms + sendCacheAge)
	require.Equal(t, 2, kept())
	c.age(time.Minute)
	require.Zero(t, kept())
	c.clear()
}
