package sfm

import (
	"encoding/binary"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

// written is a packet given to a fake write stream.
type written struct {
	header  rtp.Header
	payload []byte
}

type fakeWriter struct {
	keep bool
	list []written
	err  error
}

func (w *fakeWriter) WriteRTP(h *rtp.Header, payload []byte) (int, error) {
	if w.keep {
		w.list = append(w.list, written{h.Clone(), append([]byte(nil), payload...)})
	}
	return len(payload), w.err
}

type fakeFeedback struct {
	keyframes, changes int
	why                rtpstream.KeyframeReason
}

func (f *fakeFeedback) RequestKeyframe(_ uint8, why rtpstream.KeyframeReason) {
	f.keyframes++
	f.why = why
}
func (f *fakeFeedback) DemandChanged() { f.changes++ }

// bench is a sender without peer connections around it.
type bench struct {
	t        testing.TB
	e        *Endpoint
	media    *rtpstream.Source
	feedback *fakeFeedback
	s        *sender
	w        *fakeWriter
	buf      *scratch
	pool     rtpstream.Pool
	seq      uint16
	now      time.Duration // of what is written
	past     bool          // so is what is written
	payload  []byte
	reports  [][]rtcp.Packet
}

func newBench(t testing.TB, kind mesh.MediaKind, encodings int, b binding) *bench {
	info := rtpstream.SourceInfo{ID: "TR_V", MIMEType: "video/VP8", ClockRate: 90000, Encodings: encodings}
	if kind == mesh.Audio {
		info = rtpstream.SourceInfo{ID: "TR_A", Audio: true, MIMEType: "audio/opus", ClockRate: 48000, Encodings: 1}
	}
	return benchOf(t, info, b)
}

func benchOf(t testing.TB, info rtpstream.SourceInfo, b binding) *bench {
	kind := mesh.Video
	if info.Audio {
		kind = mesh.Audio
	}
	cfg := DefaultConfig()
	cfg.EgressPackets = 64
	m := &SFM{cfg: cfg, log: slog.New(slog.DiscardHandler), metrics: newMetrics(prometheus.NewRegistry()), start: time.Now()}
	x := &bench{t: t, e: newEndpoint(m, EndpointConfig{}, nil), feedback: &fakeFeedback{}, w: &fakeWriter{keep: true}, buf: newScratch()}
	x.media = rtpstream.NewSource(info, x.feedback)
	x.s = newSender(x.e, Subscribe{
		Publisher: "PA_x", Media: x.media,
		Source: mesh.Source{ID: mesh.SourceID(info.ID), Kind: kind, MIMEType: info.MIMEType, Width: 1280, Height: 720},
	})
	b.writer = x.w
	x.s.track.bound.Store(&b)
	x.s.writeRTCP = func(p []rtcp.Packet) error {
		x.reports = append(x.reports, p)
		return nil
	}
	x.s.activate(1)
	return x
}

// write sends one VP8 frame in one packet through the source.
func (x *bench) write(encoding uint8, keyframe bool, extra ...byte) {
	x.seq++
	d := rtpstream.VP8Descriptor{Start: true, HasPictureID: true, LongPictureID: true, PictureID: x.seq}
	first := byte(1)
	if keyframe {
		first = 0
	}
	x.payload = append(append(d.Append(x.payload[:0]), first), extra...)
	x.put(encoding, x.payload)
}

// put sends one packet through the source.
func (x *bench) put(encoding uint8, payload []byte) {
	x.putAt(encoding, uint32(x.seq)*3000, false, payload)
}

func (x *bench) putAt(encoding uint8, ts uint32, marker bool, payload []byte) {
	p := x.pool.Get()
	raw := p.Buffer()[:12]
	clear(raw)
	raw[0], raw[1] = 0x80, 96
	if marker {
		raw[1] |= 0x80
	}
	binary.BigEndian.PutUint16(raw[2:], x.seq)
	binary.BigEndian.PutUint32(raw[4:], ts)
	raw = append(raw, payload...)
	if err := p.Parse(len(raw)); err != nil {
		x.t.Fatal(err)
	}
	p.Arrival, p.Past = x.now, x.past
	x.media.Stream(encoding).Describe(p)
	x.media.Stream(encoding).Write(p)
	p.Release()
}

// drain does what the egress goroutine does with what is queued.
func (x *bench) drain(now time.Duration) {
	for it, ok := x.e.egress.queue.Pop(); ok; it, ok = x.e.egress.queue.Pop() {
		if !it.sender.backlog.queues(it.packet) {
			it.sender.forward(it.packet, now, x.buf)
		}
		it.packet.Release()
	}
}

// From Stream.Write to the call into Pion nothing is allocated.
func TestForwardAllocs(t *testing.T) {
	for _, kind := range []mesh.MediaKind{mesh.Audio, mesh.Video} {
		x := newBench(t, kind, 1, binding{ssrc: 7, payloadType: 96, extensions: [3]extensionMap{{1, 2, 16}}})
		x.w.keep = false
		x.write(0, true)
		x.drain(1)
		for range 1100 { // fill the cache
			x.write(0, false, 1, 2, 3)
			x.drain(1)
		}
		require.Zero(t, testing.AllocsPerRun(2000, func() {
			x.write(0, false, 1, 2, 3)
			x.drain(1)
		}))
		stats, _ := x.s.stats()
		require.Greater(t, stats.Packets, uint64(3000))
	}
}

func BenchmarkForward(b *testing.B) {
	x := newBench(b, mesh.Video, 1, binding{ssrc: 7, payloadType: 96})
	x.w.keep = false
	x.write(0, true)
	payload := make([]byte, 1100)
	for b.Loop() {
		x.write(0, false, payload...)
		x.drain(1)
	}
}

func TestSenderSwitchesAtKeyframes(t *testing.T) {
	x := newBench(t, mesh.Video, 3, binding{ssrc: 7, payloadType: 96})
	require.EqualValues(t, 0b101, x.media.Demand().Encodings, "and what it may begin with")
	require.Equal(t, 1, x.feedback.keyframes, "asked at once")
	x.s.tick(time.Millisecond, x.buf)
	require.Equal(t, 1, x.feedback.keyframes)
	require.True(t, x.s.tick(keyframeRetry+1, x.buf), "waits")
	require.Equal(t, 2, x.feedback.keyframes, "asked again")
	x.write(2, false)
	x.write(2, true)
	x.drain(keyframeRetry + 2)
	require.Len(t, x.w.list, 1)
	require.False(t, x.s.tick(keyframeRetry+2, x.buf))

	x.s.want(Wanted{Quality: 0}, time.Second)
	require.EqualValues(t, 0b101, x.media.Demand().Encodings, "the current one until the switch")
	x.write(2, false)
	x.write(0, true)
	x.write(2, false)
	x.drain(time.Second)
	require.Len(t, x.w.list, 3)
	require.EqualValues(t, 0b001, x.media.Demand().Encodings)
	for i := 1; i < 3; i++ {
		require.Equal(t, x.w.list[i-1].header.SequenceNumber+1, x.w.list[i].header.SequenceNumber)
		require.EqualValues(t, 7, x.w.list[i].header.SSRC)
	}
	x.s.want(Wanted{Disabled: true}, time.Second)
	require.Zero(t, x.media.Demand().Encodings)
	x.s.close()
	x.s.close()
	require.Zero(t, x.media.Subscribers())
	require.False(t, x.s.tick(2*time.Second, x.buf))
}

func TestSenderAnswersWithRTX(t *testing.T) {
	x := newBench(t, mesh.Video, 1, binding{ssrc: 7, payloadType: 96, rtxSSRC: 8, rtxPayloadType: 97})
	x.write(0, true, 5)
	x.write(0, false, 6)
	x.drain(1)
	original := x.w.list[1]
	nack := rtcp.TransportLayerNack{MediaSSRC: 7, Nacks: []rtcp.NackPair{{PacketID: original.header.SequenceNumber}}}
	raw, err := nack.Marshal()
	require.NoError(t, err)
	pli, err := (&rtcp.PictureLossIndication{MediaSSRC: 7}).Marshal()
	require.NoError(t, err)
	feed := [][]byte{raw, {1, 2, 3}, pli}
	before := x.feedback.keyframes
	x.s.readRTCP(func(b []byte) (int, error) {
		if len(feed) == 0 {
			return 0, errors.New("end")
		}
		n := copy(b, feed[0])
		feed = feed[1:]
		return n, nil
	}, func() time.Duration { return 1 })
	require.Equal(t, before, x.feedback.keyframes, "the lost picture comes from what is kept")
	require.Len(t, x.w.list, 3)
	again := x.w.list[2]
	require.EqualValues(t, 8, again.header.SSRC)
	require.EqualValues(t, 97, again.header.PayloadType)
	require.Equal(t, original.header.Timestamp, again.header.Timestamp)
	require.Equal(t, original.header.SequenceNumber, binary.BigEndian.Uint16(again.payload), "RFC 4588 §4")
	require.Equal(t, original.payload, again.payload[2:])
}

// A client that begins, or lost its picture, gets the newest keyframe and what followed from what is kept; the publisher
// hears of it when that is not enough.
func TestSenderStartsFromThePast(t *testing.T) {
	const s = time.Second
	x := newBench(t, mesh.Video, 3, binding{ssrc: 7, payloadType: 96})
	// Somebody else watches the small encoding.
	x.media.Subscribe(watching{}).SetDemand(rtpstream.Everything(1))
	asked := x.feedback.keyframes
	x.write(0, false)
	x.write(0, true, 1)
	for range 9 {
		x.write(0, false, 1)
	}
	x.drain(s)
	require.Len(t, x.w.list, 10, "the wanted encoding has nothing: a smaller one bridges the wait")
	x.s.tick(s, x.buf)
	require.Len(t, x.w.list, 10)
	require.EqualValues(t, 0b101, x.media.Demand().Encodings)
	x.write(0, false)
	x.drain(s)
	require.Len(t, x.w.list, 11)
	x.write(2, true, 2)
	x.drain(s)
	require.Len(t, x.w.list, 12, "until its keyframe comes")
	require.EqualValues(t, 0b101, x.media.Demand().Encodings, "the other one's")
	for i := 1; i < len(x.w.list); i++ {
		require.Equal(t, x.w.list[i-1].header.SequenceNumber+1, x.w.list[i].header.SequenceNumber)
		require.Positive(t, int32(x.w.list[i].header.Timestamp-x.w.list[i-1].header.Timestamp))
	}
	require.LessOrEqual(t, x.feedback.keyframes, asked+1)

	asked = x.feedback.keyframes
	x.now = 5 * s
	x.write(2, false)
	x.drain(5 * s)
	for range 5 {
		x.s.lost(5 * s)
		x.s.tick(5*s, x.buf)
	}
	require.Len(t, x.w.list, 15, "the keyframe and one more, once")
	x.s.lost(5*s + replayFlight - 1)
	require.Equal(t, asked, x.feedback.keyframes)
	x.now = 6 * s
	x.write(2, false)
	x.drain(6 * s)
	x.s.lost(6 * s)
	x.s.tick(6*s, x.buf)
	require.Len(t, x.w.list, 19, "it may have been lost as well: once more")
	require.Equal(t, asked, x.feedback.keyframes)
	x.s.lost(6*s + replayFlight)
	require.Equal(t, asked+1, x.feedback.keyframes, "it did not help")
	require.Equal(t, rtpstream.KeyframeForRepair, x.feedback.why)
	x.s.lost(6*s + 2*replayFlight)
	require.Equal(t, asked+2, x.feedback.keyframes)
	require.Equal(t, rtpstream.KeyframeForJoin, x.feedback.why, "one who is never content waits like one who begins")

	// The small encoding is wanted and kept: no request, no wait.
	x.now = 7 * s
	x.write(0, true)
	x.write(0, false)
	x.drain(7 * s)
	n := len(x.w.list)
	x.s.want(Wanted{Quality: 0}, 7*s)
	x.s.tick(7*s, x.buf)
	require.Len(t, x.w.list, n+2)
	require.Equal(t, asked+2, x.feedback.keyframes)
	require.EqualValues(t, 0b001, x.media.Demand().Encodings)
}

// A storm of joins on a lossy path is no storm of keyframes: who has just begun and cannot make a picture of what is kept waits
// like everyone who begins, and has a smaller picture meanwhile if there is one.
func TestSenderThatHasJustBegunIsPatient(t *testing.T) {
	const s = time.Second
	x := newBench(t, mesh.Video, 3, binding{ssrc: 7, payloadType: 96})
	x.media.Subscribe(watching{}).SetDemand(rtpstream.Everything(0b101))
	x.now = s
	x.write(2, true)
	x.drain(s)
	x.s.tick(s, x.buf)
	require.Equal(t, 2, x.s.rewriter.Current())
	for range 300 { // more than is kept
		x.write(2, false)
		x.drain(s)
	}
	x.write(0, true)
	x.write(0, false)
	x.drain(s)
	require.False(t, x.media.Stream(2).CanReplay(s, replayBytes))
	x.s.lost(2 * s)
	x.s.tick(2*s, x.buf)
	require.Equal(t, 0, x.s.rewriter.Current(), "a smaller picture at once")
	require.Equal(t, rtpstream.KeyframeForJoin, x.feedback.why)
	x.s.lost(2*s + replayFlight)
	require.Equal(t, rtpstream.KeyframeForJoin, x.feedback.why)
	x.s.lost(3 * s)
	require.Equal(t, rtpstream.KeyframeForJoin, x.feedback.why)
}

// A higher temporal layer begins with a frame that builds on the base layer alone, and leaves no gap before.
func TestSenderRaisesTemporalLayersAtSyncFrames(t *testing.T) {
	x := newBench(t, mesh.Video, 1, binding{ssrc: 7, payloadType: 96})
	write := func(tid uint8, sync, key bool) {
		x.seq++
		d := rtpstream.VP8Descriptor{
			Start: true, HasPictureID: true, LongPictureID: true, PictureID: x.seq, HasTID: true, TID: tid, LayerSync: sync,
		}
		first := byte(1)
		if key {
			first = 0
		}
		x.put(0, append(d.Append(nil), first))
		x.drain(1)
	}
	sent := func(steps ...bool) {
		t.Helper()
		before := len(x.w.list)
		want := 0
		for i, tid := range []uint8{0, 2, 1, 2} {
			write(tid, false, false)
			if steps[i] {
				want++
			}
		}
		require.Len(t, x.w.list, before+want)
	}
	write(0, false, true)
	sent(true, true, true, true)
	x.s.want(Wanted{Quality: 0, FPS: 15}, 1)
	require.EqualValues(t, 1, x.media.Demand().Layers[0].Temporal)
	sent(true, false, true, false)
	x.s.want(Wanted{Quality: 0, FPS: 5}, 1)
	sent(true, false, false, false)
	x.s.want(Wanted{Quality: 0}, 1)
	sent(true, false, false, false)
	write(1, true, false)
	sent(true, false, true, false)
	write(2, true, false)
	sent(true, true, true, true)
	x.s.want(Wanted{Quality: 0, FPS: 5}, 1)
	x.s.want(Wanted{Quality: 0}, 1)
	write(0, false, true)
	sent(true, true, true, true)
	for i := 1; i < len(x.w.list); i++ {
		require.Equal(t, x.w.list[i-1].header.SequenceNumber+1, x.w.list[i].header.SequenceNumber)
	}
}

// What another node kept fills the gap of a picture that is there, and begins none by itself.
func TestSenderAndThePastOfAnotherNode(t *testing.T) {
	x := newBench(t, mesh.Video, 1, binding{ssrc: 7, payloadType: 96})
	past := func(key bool) {
		x.past = true
		x.write(0, key)
		x.past = false
		x.drain(1)
	}
	past(true)
	past(false)
	require.Empty(t, x.w.list, "it would look like a delay")
	x.write(0, false)
	x.drain(1)
	require.Len(t, x.w.list, 3, "from the past to the present")
	past(false) // after an outage
	past(false)
	x.write(0, false)
	x.drain(1)
	require.Len(t, x.w.list, 6)
	for i := 1; i < len(x.w.list); i++ {
		require.Equal(t, x.w.list[i-1].header.SequenceNumber+1, x.w.list[i].header.SequenceNumber)
	}
}

type watching struct{}

func (watching) WritePacket(*rtpstream.Packet) {}

// The past goes out in portions, and what comes meanwhile behind it.
func TestSenderPacesThePast(t *testing.T) {
	x := newBench(t, mesh.Video, 1, binding{ssrc: 7, payloadType: 96})
	x.s.want(Wanted{Disabled: true}, 1)
	x.write(0, true, 1)
	const past = 120
	for range past - 1 {
		x.write(0, false, 1)
	}
	x.drain(1)
	require.Empty(t, x.w.list)
	x.s.want(Wanted{Quality: 2}, 1)
	g := x.e.egress
	x.s.tick(1, x.buf)
	require.Len(t, x.w.list, catchFirst)
	require.Equal(t, []*sender{x.s}, g.behind)
	steps := 0
	for ; len(g.behind) > 0; steps++ {
		before := len(x.w.list)
		for range 3 {
			x.write(0, false, 1)
		}
		x.drain(1)
		require.Len(t, x.w.list, before, "behind the past")
		g.catch(1, x.buf)
		require.LessOrEqual(t, len(x.w.list), before+catchStep+3)
	}
	require.Equal(t, (past-catchFirst+catchStep-1)/catchStep, steps)
	require.Len(t, x.w.list, past+3*steps)
	x.write(0, false, 1)
	x.drain(1)
	require.Len(t, x.w.list, past+3*steps+1, "at once")
	for i := 1; i < len(x.w.list); i++ {
		require.Equal(t, x.w.list[i-1].header.SequenceNumber+1, x.w.list[i].header.SequenceNumber)
		require.Positive(t, int32(x.w.list[i].header.Timestamp-x.w.list[i-1].header.Timestamp))
	}

	// Nothing more goes to who has left, and nothing of it is kept.
	x.now = 10 * time.Second
	x.write(0, false, 1)
	x.drain(x.now)
	x.s.lost(x.now)
	x.s.tick(x.now, x.buf)
	require.NotEmpty(t, g.behind)
	n := len(x.w.list)
	x.s.close()
	for range 100 {
		g.catch(1, x.buf)
	}
	require.Empty(t, g.behind)
	require.Empty(t, x.s.backlog.packets)
	require.Len(t, x.w.list, n)
}

// RFC 3550 §6.4.1: a report maps an instant on the publisher's clock to the timestamp as sent.
func TestSenderReports(t *testing.T) {
	x := newBench(t, mesh.Video, 1, binding{ssrc: 7, payloadType: 96})
	x.write(0, true)
	x.drain(1)
	x.s.tick(2, x.buf)
	require.Empty(t, x.reports, "the publisher's clock is not known")
	x.media.Stream(0).SetClock(rtpstream.SenderClock{NTP: 50 << 32, RTPTimestamp: 3000})
	x.s.tick(3, x.buf)
	require.Len(t, x.reports, 1)
	sr := x.reports[0][0].(*rtcp.SenderReport)
	require.EqualValues(t, 50<<32, sr.NTPTime)
	require.Equal(t, x.w.list[0].header.Timestamp, sr.RTPTime)
	require.EqualValues(t, 1, sr.PacketCount)
	require.Equal(t, "PA_x", x.reports[0][1].(*rtcp.SourceDescription).Chunks[0].Items[0].Text)
	for range 15 { // 15 · 3000 / 90000 = half a second
		x.write(0, false)
		x.drain(4)
	}
	x.s.tick(4, x.buf)
	require.Len(t, x.reports, 1, "not before a second has passed")
	x.s.tick(2*time.Second, x.buf)
	require.Len(t, x.reports, 2)
	sr = x.reports[1][0].(*rtcp.SenderReport)
	require.EqualValues(t, 50<<32+1<<31, sr.NTPTime)
	require.Equal(t, x.w.list[15].header.Timestamp, sr.RTPTime)
	x.s.noteReport(&rtcp.ReceiverReport{Reports: []rtcp.ReceptionReport{{
		SSRC: 7, FractionLost: 128, LastSenderReport: uint32(sr.NTPTime >> 16), Delay: 65536 / 2,
	}}}, 3*time.Second)
	stats, rtt := x.s.stats()
	require.Equal(t, 500*time.Millisecond, rtt)
	require.InDelta(t, 0.5, stats.FractionLost, 0.001)
}

func TestSlowSubscriberLosesItsOwnPackets(t *testing.T) {
	x := newBench(t, mesh.Video, 1, binding{ssrc: 7, payloadType: 96})
	x.write(0, true)
	x.drain(1)
	for range 100 {
		x.write(0, false)
	}
	require.Equal(t, 64, x.e.egress.queue.Len())
	x.drain(1)
	require.Len(t, x.w.list, 65, "the oldest went")
	gap := x.w.list[1].header.SequenceNumber - x.w.list[0].header.SequenceNumber
	require.EqualValues(t, 37, gap, "and stay a gap to ask for")
	x.w.err = errors.New("refused")
	x.write(0, false)
	x.drain(1)
}

func TestOutChannelIsBounded(t *testing.T) {
	m := newMetrics(prometheus.NewRegistry())
	c := newOutChannel(m, true)
	var err error
	n := 0
	for ; err == nil; n++ {
		err = c.send(make([]byte, 10_000))
	}
	require.ErrorIs(t, err, ErrSlowReader)
	require.Equal(t, maxWaitingBytes/10_000+1, n)
	w := &fakeChannel{}
	c.opened(w)
	require.Equal(t, n-1, w.sent)
	w.buffered = maxReliableBuffer + 1
	require.ErrorIs(t, c.send([]byte("x")), ErrSlowReader)
	w.buffered, w.err = 0, errors.New("closed")
	require.ErrorIs(t, c.send([]byte("x")), ErrClosed)

	l := newOutChannel(m, false)
	require.NoError(t, l.send([]byte("x")), "dropped: not open")
	w = &fakeChannel{buffered: maxLossyBuffer + 1}
	l.opened(w)
	require.NoError(t, l.send([]byte("x")), "dropped: full")
	require.Zero(t, w.sent)
	l.close()
	require.ErrorIs(t, l.send(nil), ErrClosed)
}

type fakeChannel struct {
	sent     int
	buffered uint64
	err      error
}

func (f *fakeChannel) Send([]byte) error      { f.sent++; return f.err }
func (f *fakeChannel) BufferedAmount() uint64 { return f.buffered }
