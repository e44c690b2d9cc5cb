package cascade

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

// Every place between a flow's sink and the streams of the far side where packets wait, and how long they may: no live
// media longer than 60 ms. docs/decisions.md has the reasons for what is not live, or waits longer all the same.
func TestNoQueueHoldsMoreThanItMay(t *testing.T) {
	const most = 60 * ms
	cfg := DefaultConfig()

	// The scheduler in front of the lanes holds each class until its deadline.
	waits := func(change func(s *sender, f *sendFlow, cam *camera)) (longest time.Duration) {
		s, _, f, cam := newTestSender(t, 0) // nothing leaves
		defer s.close()
		change(s, f, cam)
		require.False(t, s.sched.empty())
		for now := ms; ; now += ms {
			s.sched.expire(now, dropExpired)
			if s.sched.empty() {
				return now - ms - ms // fed at 1 ms, and gone by now
			}
		}
	}
	feed := func(change func(p *rtpstream.Packet)) func(*sender, *sendFlow, *camera) {
		return func(s *sender, f *sendFlow, cam *camera) {
			p := cam.packet(0)
			p.Stream = cam.Stream(0)
			change(p)
			s.write(f, p, ms)
			p.Release()
		}
	}
	base := feed(func(*rtpstream.Packet) {})
	again := func(audio bool) func(*sender, *sendFlow, *camera) {
		return func(s *sender, f *sendFlow, cam *camera) {
			f.audio = audio
			l := newLane(0, &fakeConn{hub: &hub{max: 1243}}, ms)
			s.attach(l, ms)
			s.feed(f, cam, 1, ms)
			l.clear()
			s.detach(l)
			s.repeat([]nackEntry{{Base: 1}}, ms, 20*ms)
		}
	}
	for name, x := range map[string]struct {
		queue func(*sender, *sendFlow, *camera)
		may   time.Duration
	}{
		"audio":                    {func(s *sender, f *sendFlow, cam *camera) { f.audio = true; base(s, f, cam) }, most},
		"retransmissions of audio": {again(true), most},
		"retransmissions of video": {again(false), most},
		"base layers":              {base, most},
		"other layers":             {feed(func(p *rtpstream.Packet) { p.Temporal = 1 }), most},
		"base layers while a queue of ours empties": {func(s *sender, f *sendFlow, cam *camera) {
			base(s, f, cam)
			s.sched.shedding = true
		}, most + shedPatience},
		"what is kept since a keyframe, of a flow that begins": {feed(func(p *rtpstream.Packet) { p.Past = true }), replayDelay},
	} {
		require.Equal(t, x.may, waits(x.queue), name)
	}
	require.LessOrEqual(t, max(cfg.QueueDelay, cfg.AudioQueueDelay), most)

	// Between lanes of QUIC DATAGRAMs and the receive loop nothing is older than that beside what came last.
	var pool rtpstream.Pool
	r := newReceiver(cfg, &pool, new(counters))
	for i := range 200 {
		r.enqueue(inbound{pkt: pool.Get(), at: time.Duration(i) * ms})
	}
	left := 0
	for in, ok := r.next(); ok; in, ok = r.next() {
		require.GreaterOrEqual(t, in.at, 199*ms-most)
		in.pkt.Release()
		left++
	}
	require.Equal(t, 61, left)
	require.EqualValues(t, 139, r.stats.drops[dropRecvFull].Load())

	// The rest is short in time, …
	for name, may := range map[string]time.Duration{
		"a symbol of parity":                            parityPatient + fecBurstSpread,
		"a copy of audio":                               copyAfter,
		"a second copy of a retransmission":             againAfter,
		"gathered for a direct lane":                    gatherLate,
		"the pacer's debt, which audio stands in":       paceDebt,
		"held for what a lane overtook":                 maxHold,
		"the same of audio":                             maxAudioHold,
		"a lane that blocks, until others take it over": laneStalled + busyTick,
	} {
		require.LessOrEqual(t, may, most, name)
	}
	// … or, where a lane has a congestion window, in packets: 60 ms at this rate of one lane.
	rate := func(packets int) float64 { return float64(packets) * 1250 * 8 / most.Seconds() }
	require.LessOrEqual(t, rate(laneQueue+laneInside), 2e6)
	require.LessOrEqual(t, rate(laneQueueMany+laneInside), 1.2e6)
}
