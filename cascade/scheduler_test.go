package cascade

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

const ms = time.Millisecond

// bench is a scheduler with packets to put into it.
type bench struct {
	scheduler
	cam   *camera
	stats counters
}

func newBench(maxBytes int) *bench {
	b := &bench{cam: newCamera("TR_1", false, 4)}
	b.scheduler = newScheduler(maxBytes, &b.stats)
	return b
}

// put queues a packet and returns its RTP sequence number. Packets of the same timestamp are a frame.
func (b *bench) put(f *sendFlow, c class, ts uint32, now time.Duration, change ...func(*item)) uint16 {
	p := b.cam.packet(0)
	p.Timestamp = ts
	p.Stream = b.cam.Stream(0)
	it := item{pkt: p, flow: f, class: c, queued: now, deadline: now + 60*ms}
	for _, change := range change {
		change(&it)
	}
	seq := p.SequenceNumber
	b.push(it)
	return seq
}

func (b *bench) drain(now time.Duration) (seqs []uint16) {
	for {
		it, ok := b.pop(now, 0, numClasses-1)
		if !ok {
			return seqs
		}
		seqs = append(seqs, it.pkt.SequenceNumber)
		it.pkt.Release()
	}
}

func TestSchedulerOrdersClasses(t *testing.T) {
	b, f := newBench(1<<20), new(sendFlow)
	rest := b.put(f, classRest, 1, 0)
	base := b.put(f, classBase, 2, 0)
	rtx := b.put(f, classRest, 3, 0, func(it *item) { it.retransmission = true })
	audio := b.put(f, classAudio, 4, 0)
	audio2 := b.put(f, classAudio, 5, 0)
	require.Equal(t, []uint16{audio, audio2, rtx, base, rest}, b.drain(0))
	require.Zero(t, b.bytes)
	require.True(t, b.empty())
}

func TestSchedulerDropsLateVideoToTheEndOfItsFrame(t *testing.T) {
	b, f := newBench(1<<20), new(sendFlow)
	b.put(f, classBase, 1, 0)
	b.put(f, classBase, 1, 30*ms) // of the same frame, not late itself
	next := b.put(f, classBase, 2, 30*ms)
	require.Equal(t, []uint16{next}, b.drain(70*ms))
	b.put(f, classBase, 1, 70*ms) // the frame's last packet comes after the drop
	require.Empty(t, b.drain(70*ms))
	require.EqualValues(t, 1, b.stats.drops[dropExpired].Load())
	require.EqualValues(t, 2, b.stats.drops[dropFrameRest].Load())
}

func TestSchedulerDropsOneAudioPacketAlone(t *testing.T) {
	b, f := newBench(1<<20), new(sendFlow)
	b.put(f, classAudio, 1, 0)
	keep := b.put(f, classAudio, 1, 30*ms)
	require.Equal(t, []uint16{keep}, b.drain(70*ms))
}

func TestSchedulerEvictsTheLeastUrgentFirst(t *testing.T) {
	b, f := newBench(3000), new(sendFlow) // three packets
	b.put(f, classRest, 1, 0)
	base := b.put(f, classBase, 2, 0)
	base2 := b.put(f, classBase, 3, 0)
	audio := b.put(f, classAudio, 4, 0) // pushes out the rest
	b.put(f, classRest, 5, 0)           // nothing less urgent: goes itself
	require.Equal(t, []uint16{audio, base, base2}, b.drain(0))
	require.EqualValues(t, 2, b.stats.drops[dropQueueFull].Load())
	require.Zero(t, b.bytes)
}

func TestSchedulerIsBoundedByPackets(t *testing.T) {
	b, f := newBench(1<<30), new(sendFlow)
	for i := range uint32(queueSlots + 10) {
		b.put(f, classAudio, i, 0)
	}
	require.Len(t, b.drain(0), queueSlots)
	require.EqualValues(t, 10, b.stats.drops[dropQueueFull].Load())
}

func TestSchedulerForgetsEndedFlows(t *testing.T) {
	b, f := newBench(1<<20), new(sendFlow)
	b.put(f, classBase, 1, 0)
	f.closed = true
	other := new(sendFlow)
	keep := b.put(other, classBase, 1, 0)
	require.Equal(t, []uint16{keep}, b.drain(0))
	b.put(other, classBase, 7, 0)
	b.clear()
	require.Zero(t, b.bytes)
}

func TestKeyframePacketsAreBaseClass(t *testing.T) {
	var e sendEncoding
	key := &rtpstream.Packet{Timestamp: 9, Keyframe: true, Spatial: 1}
	require.Equal(t, classBase, e.classify(key))
	require.Equal(t, classBase, e.classify(&rtpstream.Packet{Timestamp: 9, Spatial: 1}), "the rest of the keyframe")
	require.Equal(t, classRest, e.classify(&rtpstream.Packet{Timestamp: 10, Temporal: 1}))
	require.Equal(t, classBase, e.classify(&rtpstream.Packet{Timestamp: 11}))
}

// newTestSender has n lanes nobody empties.
func newTestSender(t testing.TB, n int) (*sender, []*lane, *sendFlow, *camera) {
	t.Helper()
	s := newSender(DefaultConfig(), new(counters), nil)
	var lanes []*lane
	for i := range n {
		l := newLane(i, &fakeConn{hub: &hub{max: 1243}}, ms)
		s.attach(l, ms)
		lanes = append(lanes, l)
	}
	return s, lanes, &sendFlow{id: 1}, newCamera("TR_1", false, 1)
}

func (s *sender) feed(f *sendFlow, cam *camera, n int, now time.Duration) {
	for range n {
		p := cam.packet(0)
		p.Stream = cam.Stream(0)
		s.write(f, p, now)
		p.Release()
	}
}

// pictureOf feeds a picture of three spatial layers, a packet each, and returns how many of them were taken.
func (s *sender) pictureOf(f *sendFlow, cam *camera, ts uint32, tid uint8, key bool, now time.Duration) (taken int) {
	before := s.waits()
	for spatial := range uint8(3) {
		p := cam.packet(0)
		p.Stream, p.Timestamp, p.ExtTimestamp = cam.Stream(0), ts, uint64(ts)
		p.Spatial, p.Temporal, p.Keyframe = spatial, tid, key && spatial == 0
		s.write(f, p, now)
		p.Release()
	}
	return s.waits() - before
}

func (s *sender) waits() (n int) {
	for c := range s.sched.queues {
		n += s.sched.queues[c].n
	}
	return n
}

// A dropped packet of an upper spatial layer leaves no layer broken in silence: those above the ones that are whole wait
// for a keyframe, which is asked for.
func TestDroppedSpatialLayerWaitsForAKeyframe(t *testing.T) {
	late := func(sparse bool, tid uint8) (*sender, *sendFlow, *camera) {
		s, _, f, cam := newTestSender(t, 0) // nothing leaves
		f.sparse = sparse
		f.enc[0].gate.Open(rtpstream.AllLayers)
		require.Equal(t, 3, s.pictureOf(f, cam, 1000, tid, false, ms))
		it := s.sched.take(classBase + class(bit(tid > 0, 0))) // it has left
		it.pkt.Release()
		s.tick(70 * ms)
		require.Zero(t, s.waits())
		return s, f, cam
	}
	s, f, cam := late(true, 0)
	require.False(t, f.broken[0].Load())
	require.Equal(t, 1, s.pictureOf(f, cam, 2000, 0, false, 70*ms), "the base goes on")
	require.True(t, f.rising[0].Load(), "a keyframe is asked for")
	require.Equal(t, 3, s.pictureOf(f, cam, 3000, 0, true, 71*ms))
	require.Equal(t, 3, s.pictureOf(f, cam, 4000, 0, false, 72*ms))
	s.close()

	s, f, cam = late(false, 0)
	require.True(t, f.broken[0].Load(), "to a peer that would take the gap for loss all is sent, once it is mended")
	require.Equal(t, 3, s.pictureOf(f, cam, 2000, 0, false, 70*ms))
	s.close()

	s, f, cam = late(true, 1)
	require.Equal(t, 3, s.pictureOf(f, cam, 2000, 0, false, 70*ms), "nothing of the base builds on an upper temporal layer")
	require.False(t, f.broken[0].Load())
	s.close()

	s, _, f, cam = newTestSender(t, 0)
	f.sparse = true
	f.enc[0].gate.Open(rtpstream.AllLayers)
	s.pictureOf(f, cam, 1000, 0, false, ms)
	it := s.sched.take(classBase)
	it.pkt.Release()
	require.Equal(t, 3, s.pictureOf(f, cam, 2000, 0, true, 50*ms))
	s.tick(70 * ms)
	require.Equal(t, 3, s.waits())
	require.Equal(t, 3, s.pictureOf(f, cam, 3000, 0, false, 70*ms), "the keyframe came already")
	s.close()
}

func TestSenderSpreadsOverLanesAndHoldsTheRest(t *testing.T) {
	s, lanes, f, cam := newTestSender(t, 2)
	s.feed(f, cam, 30, ms)
	require.Equal(t, laneQueue, lanes[0].queue.n)
	require.Equal(t, laneQueue, lanes[1].queue.n)
	require.Equal(t, 30-2*laneQueue, s.sched.queues[classBase].n)
	b, ok := s.fill(lanes[0], nil, ms)
	require.True(t, ok)
	require.LessOrEqual(t, len(b), 1243)
	require.Equal(t, laneQueue, lanes[0].queue.n, "a packet that left makes room for the next")
	s.close()
	require.True(t, s.sched.empty())
}

func TestSenderAvoidsStalledAndSilentLanes(t *testing.T) {
	s, lanes, f, cam := newTestSender(t, 3)
	s.feed(f, cam, 6, ms)
	lanes[0].blockedSince.Store(int64(ms))
	require.Equal(t, 2, lanes[0].queue.n)
	s.tick(50 * ms)
	require.Zero(t, lanes[0].queue.n, "what waits on a stalled lane moves on")
	lanes[1].heard.Store(int64(time.Second))
	lanes[2].heard.Store(int64(100 * ms))
	lanes[2].probed.Store(int64(101 * ms)) // silent for 900 ms
	before := lanes[1].queue.n
	s.feed(f, cam, 3, time.Second)
	require.Equal(t, before+3, lanes[1].queue.n)
	s.close()
}

func TestSenderRetransmitsWithinBudgetOnAnotherLane(t *testing.T) {
	s, lanes, f, cam := newTestSender(t, 2)
	s.feed(f, cam, 1, ms)
	from := lanes[0]
	if from.queue.n == 0 {
		from = lanes[1]
	}
	first, _ := s.fill(from, nil, ms)
	s.repeat([]nackEntry{{Base: 1}}, 50*ms, 20*ms)
	other := lanes[1-from.index]
	require.Equal(t, 1, other.queue.n)
	again, _ := s.fill(other, nil, 50*ms)
	require.Equal(t, byte(0x20), again[6]&0x20, "the retransmission flag")
	again[6] &^= 0x20
	require.Equal(t, first, again, "the same link sequence number and packet")
	s.repeat([]nackEntry{{Base: 1}}, 55*ms, 20*ms)
	require.EqualValues(t, 1, s.stats.retransmissions.Load(), "not twice within half a round trip")
	s.repeat([]nackEntry{{Base: 77}, {Base: 0, Bits: 1<<32 - 1}}, 60*ms, 20*ms) // never sent
	for i := range 100 {
		s.repeat([]nackEntry{{Base: 1}}, time.Duration(70+20*i)*ms, 20*ms)
	}
	require.LessOrEqual(t, s.stats.retransmissions.Load(), uint64(1+budgetStart/1000))
	require.NotZero(t, s.stats.drops[dropBudget].Load())
	s.close()
}

// What a full queue took of audio is sent again when video has used the budget up.
func TestAudioMayOweTheBudget(t *testing.T) {
	for _, audio := range []bool{true, false} {
		s, _, f, _ := newTestSender(t, 2)
		f.audio = audio
		s.feed(f, newCamera("TR_1", audio, 1), 1, ms)
		s.mu.Lock()
		s.cache.budget.bytes = 0
		s.mu.Unlock()
		s.repeat([]nackEntry{{Base: 1}}, 50*ms, 20*ms)
		require.Equal(t, audio, s.stats.retransmissions.Load() == 1)
		s.close()
	}
}

// Beyond what QUIC allocates, a packet costs no allocation on its way out or in.
func TestPacketPathAllocs(t *testing.T) {
	s, lanes, f, cam := newTestSender(t, 2)
	var pool rtpstream.Pool
	r := newReceiver(DefaultConfig(), &pool, new(counters))
	pl := pullOf(cam)
	r.setFlow(1, pl)
	sink := countSink{}
	sub := pl.media.Subscribe(&sink)
	sub.SetDemand(all(0))
	buf := make([]byte, 0, 2048)
	now := ms
	run := func() {
		now += ms
		p := cam.packet(0)
		p.Stream = cam.Stream(0)
		s.write(f, p, now)
		p.Release()
		for _, l := range lanes {
			b, ok := s.fill(l, buf, now)
			if !ok {
				continue
			}
			fr, _, err := nextFrame(b)
			if err != nil || r.take(fr, now, false) != nil {
				t.Fatal("frame does not parse")
			}
			in, _ := r.queue.Pop()
			r.deliver(&in)
		}
	}
	for range 5000 { // fill the caches
		run()
	}
	require.Zero(t, testing.AllocsPerRun(1000, run))
	require.Equal(t, 6001, sink.n)
}

type countSink struct{ n int }

func (c *countSink) WritePacket(*rtpstream.Packet) { c.n++ }

func BenchmarkPacketPath(b *testing.B) {
	s, lanes, f, cam := newTestSender(b, 2)
	var pool rtpstream.Pool
	r := newReceiver(DefaultConfig(), &pool, new(counters))
	pl := pullOf(cam)
	r.setFlow(1, pl)
	pl.media.Subscribe(&countSink{}).SetDemand(all(0))
	buf := make([]byte, 0, 2048)
	now := ms
	b.ReportAllocs()
	for b.Loop() {
		now += 10 * time.Microsecond
		p := cam.pool.Get()
		p.Buffer()[0] = 0x80
		p.Buffer()[2], p.Buffer()[3] = byte(cam.seq[0]>>8), byte(cam.seq[0])
		cam.seq[0]++
		_ = p.Parse(1100)
		p.Stream = cam.Stream(0)
		s.write(f, p, now)
		p.Release()
		for _, l := range lanes {
			d, ok := s.fill(l, buf, now)
			if !ok {
				continue
			}
			fr, _, _ := nextFrame(d)
			_ = r.take(fr, now, false)
			in, _ := r.queue.Pop()
			r.deliver(&in)
		}
	}
}

// pullOf is a pull of a cascade that does not run.
func pullOf(cam *camera) *pull {
	c := &Cascade{
		peers: map[mesh.NodeID]*peer{}, remotes: map[remoteKey]*remote{}, byMedia: map[*rtpstream.Source]*remote{},
	}
	return newRemoteLocked(c, pullKey{}, cam.mesh(), "peer").via
}

// Frames of every size, parity among them, come out of shared datagrams as they went in.
func TestSharedDatagramsParse(t *testing.T) {
	s, lanes, f, cam := newTestSender(t, 1)
	s.adapt(150*ms, 0.05, 4, features, ms)
	now, frames := ms, 0
	for size := 20; size < 1400; size++ {
		cam.size = size%620 + 20
		now += ms
		s.feed(f, cam, 3, now)
		s.tick(now)
		for {
			b, ok := s.fill(lanes[0], nil, now)
			if !ok {
				break
			}
			require.LessOrEqual(t, len(b), 1243)
			for len(b) > 0 {
				fr, rest, err := nextFrame(b)
				require.NoError(t, err)
				if fr.parity() {
					_, _, err = parseParity(fr)
				} else {
					var h mediaHeader
					var rtp []byte
					rtp, err = parseMedia(fr, &h)
					require.Len(t, rtp, cam.size)
				}
				require.NoError(t, err)
				frames++
				b = rest
			}
		}
	}
	require.Greater(t, frames, 3*1300)
	s.close()
}
