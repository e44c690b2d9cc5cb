package cascade

import (
	"bytes"
	"encoding/binary"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/meshpb/cascadepb"
	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

// contextPacket is an RTP packet of a stream.
func contextPacket(octets, seq uint16, timestamp, ssrc uint32, payload ...byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, octets)
	b = binary.BigEndian.AppendUint16(b, seq)
	b = binary.BigEndian.AppendUint32(b, timestamp)
	return append(binary.BigEndian.AppendUint32(b, ssrc), payload...)
}

func TestContextRoundTrip(t *testing.T) {
	video := mediaHeader{Flow: 70, LinkSeq: 9, Class: classRest, AudioLevel: rtpstream.NoAudioLevel}
	last := video
	last.Marker = true
	audio := mediaHeader{Flow: 3, LinkSeq: 1<<24 - 1, Class: classAudio, AudioLevel: 20, Retransmission: true}
	first := contextPacket(0x9060, 65535, 1<<32-5, 77, 1, 2, 3)
	c := newContext(7, first)
	require.EqualValues(t, 7%contextRing, c.id)
	for name, tc := range map[string]struct {
		h   mediaHeader
		rtp []byte
		ok  bool
	}{
		"the same":             {video, first, true},
		"end of a picture":     {last, contextPacket(0x90e0, 0, 1<<32-5, 77, 1), true},
		"audio":                {audio, contextPacket(0x9060, 9, 900, 77, 1, 2), true},
		"no payload":           {video, contextPacket(0x9060, 9, 900, 77), true},
		"late":                 {video, contextPacket(0x9060, 9, 1<<32-5-contextBack, 77, 1), true},
		"too late":             {video, contextPacket(0x9060, 9, 1<<32-6-contextBack, 77, 1), false},
		"far":                  {video, contextPacket(0x9060, 9, contextRange-contextBack-6, 77, 1), true},
		"too far":              {video, contextPacket(0x9060, 9, contextRange-contextBack-5, 77, 1), false},
		"another source":       {video, contextPacket(0x9060, 9, 900, 78, 1), false},
		"another payload type": {video, contextPacket(0x9061, 9, 900, 77, 1), false},
		"no extension":         {video, contextPacket(0x8060, 9, 900, 77, 1), false},
		"a marker by itself":   {video, contextPacket(0x90e0, 9, 900, 77, 1), false},
		"no marker":            {last, contextPacket(0x9060, 9, 900, 77, 1), false},
		"no header":            {video, first[:11], false},
	} {
		for _, end := range []bool{true, false} {
			b, ok := appendContext(nil, &tc.h, c, tc.rtp, end)
			require.Equal(t, tc.ok, ok, name)
			if !ok {
				require.Empty(t, b, name)
				continue
			}
			require.Len(t, b, len(appendShort(nil, &tc.h, tc.rtp, end))-rtpHeaderBytes+contextHeaderBytes, name)
			f, rest, err := nextFrame(b)
			require.NoError(t, err, name)
			require.Empty(t, rest)
			var h mediaHeader
			var cut cutHeader
			rtp, err := parseMedia(f, &h)
			require.NoError(t, err, name)
			rtp, err = parseContext(rtp, &cut)
			require.NoError(t, err, name)
			require.Equal(t, c.id, cut.context)
			want := tc.h
			want.Short, want.LinkSeq = true, want.LinkSeq&shortSeq
			require.Equal(t, want, h, name)
			dst := make([]byte, rtpstream.MaxPacketBytes)
			require.Equal(t, tc.rtp, dst[:c.whole(dst, cut, h.Marker, rtp)], name)
		}
	}
}

// contextFrame is what the peer would send of a packet.
func contextFrame(t *testing.T, flow, linkSeq uint32, c *headerContext, rtp []byte) frame {
	h := mediaHeader{Flow: flow, LinkSeq: linkSeq, Class: classRest, AudioLevel: rtpstream.NoAudioLevel}
	b, ok := appendContext(nil, &h, c, rtp, true)
	require.True(t, ok)
	f, _, err := nextFrame(b)
	require.NoError(t, err)
	return f
}

// TestContextsLive: a context is proposed for what came whole, serves as long as its range, is renewed before its end,
// outlives its flow and does not reach the next one of its number.
func TestContextsLive(t *testing.T) {
	var pool rtpstream.Pool
	var stats counters
	r := newReceiver(DefaultConfig(), &pool, &stats)
	r.contexts.on.Store(true)
	pl := pullOf(newCamera("TR_v", false, 1))
	r.setFlow(1, pl)

	seq := uint16(0)
	whole := func(timestamp, ssrc uint32, now time.Duration) {
		seq++
		f, _, err := nextFrame(mediaFrame(1, uint32(seq), contextPacket(0x8060, seq, timestamp, ssrc, make([]byte, 30)...)))
		require.NoError(t, err)
		require.NoError(t, r.take(f, now, true))
	}
	whole(1000, 5, 0)
	whole(2000, 5, 0)
	all := r.propose(0)
	require.Len(t, all, 1, "one for an encoding")
	require.EqualValues(t, 1, all[0].GetFlowId())
	require.EqualValues(t, 5, all[0].GetSsrc())
	require.Empty(t, r.propose(0))

	c := newContext(uint8(all[0].GetContext()), contextPacket(0x8060, 0, 1000, 5))
	cut := func(c *headerContext, timestamp, ssrc uint32, now time.Duration) error {
		seq++
		return r.take(contextFrame(t, 1, uint32(seq), c, contextPacket(0x8060, seq, timestamp, ssrc, make([]byte, 30)...)), now, true)
	}
	require.NoError(t, cut(c, 3000, 5, time.Second))
	require.Empty(t, r.propose(time.Second), "it serves")
	require.NoError(t, cut(c, 3000+2*1<<20, 5, 20*time.Second))
	all = r.propose(20 * time.Second)
	require.Len(t, all, 1, "due before its end")
	require.NotEqual(t, uint32(c.id), all[0].GetContext())
	require.NoError(t, cut(c, 4000+2*1<<20, 5, 20*time.Second), "the one before still serves")

	whole(77, 6, 20500*time.Millisecond)
	require.Empty(t, r.propose(20500*time.Millisecond), "not more than one a second")
	whole(77, 6, 22*time.Second)
	all = r.propose(22 * time.Second)
	require.Len(t, all, 1, "another stream")
	require.EqualValues(t, 6, all[0].GetSsrc())

	r.setFlow(1, nil)
	require.NoError(t, cut(c, 5000, 5, 23*time.Second), "on its way when the flow ended")
	require.EqualValues(t, 1, stats.drops[dropUnknownFlow].Load())
	r.setFlow(1, pl)
	require.ErrorIs(t, cut(c, 6000, 5, 30*time.Second), errFrameContext)
	f, _, err := nextFrame([]byte{frameVersion<<6 | frameContextVideo<<2, 9, 0, 0, 1, 0, 0, 0, 0, 0, 1, 1})
	require.NoError(t, err)
	require.ErrorIs(t, r.take(f, 30*time.Second, true), errFrameContext, "a flow that never was")
	r.close()
}

// TestProposalsAreBounded: however many streams change at once, a round tells of so many, and the next one of others.
func TestProposalsAreBounded(t *testing.T) {
	var pool rtpstream.Pool
	r := newReceiver(DefaultConfig(), &pool, &counters{})
	r.contexts.on.Store(true)
	told := map[uint32]bool{}
	for round := range 3 {
		for flow := range uint32(100) {
			if round == 0 {
				r.setFlow(flow, &pull{})
			}
			r.contexts.note(flow, 0, contextPacket(0x8060, 1, 1, flow), 0)
		}
		all := r.propose(0)
		require.LessOrEqual(t, len(all), contextRound)
		for _, c := range all {
			require.False(t, told[c.GetFlowId()])
			told[c.GetFlowId()] = true
		}
	}
	require.Len(t, told, 100)
}

func TestContextsOfLiars(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(time.Millisecond)
		a, b := startStation(t, h, "a"), startStation(t, h, "b")
		cam := newCamera("TR_1", false, 1)
		a.offer("TR_1", cam.Source)
		r := b.Remote(room, cam.mesh(), "a")
		defer r.Close()
		r.Media().Subscribe(&meterSink{sent: map[uint16]time.Time{}}).SetDemand(all(0))
		time.Sleep(time.Second)
		a.mu.Lock()
		l := a.peers["b"].link
		a.mu.Unlock()
		for name, m := range map[string]*cascadepb.HeaderContext{
			"encoding": {Encoding: rtpstream.MaxEncodings, Octets: 0x8060},
			"number":   {Context: contextRing, Octets: 0x8060},
			"version":  {Octets: 0x4060},
			"marker":   {Octets: 0x80e0},
			"too long": {Octets: 0x18060},
		} {
			require.False(t, l.takeContext(m), name)
		}
		require.True(t, l.takeContext(&cascadepb.HeaderContext{FlowId: 4000, Octets: 0x8060}), "it ended, perhaps")
	})
}

// TestContextsOverALossyLink: every packet comes as it was, through loss, streams that begin anew and clocks that jump
// and wrap, and nearly all of them with little of their header.
func TestContextsOverALossyLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(40 * time.Millisecond)
		path := newGilbert(3, 0.02, 1)
		cut, whole := 0, 0
		h.setDrop(func(from, _ mesh.NodeID, _ *fakeConn, b []byte) bool {
			for rest := b; from == "a" && len(rest) > 0; {
				f, next, err := nextFrame(rest)
				require.NoError(t, err)
				switch {
				case f.cut():
					cut++
				case f.short() || f.kind == frameMedia:
					whole++
				}
				rest = next
			}
			return path.lost()
		})
		a, b := startStation(t, h, "a"), startStation(t, h, "b")
		cam := newCamera("TR_1", false, 1)
		source := cam.Source
		a.offer("TR_1", source)
		r := b.Remote(room, cam.mesh(), "a")
		defer r.Close()
		sink := &bytesSink{}
		r.Media().Subscribe(sink).SetDemand(all(0))
		time.Sleep(time.Second)

		var pool rtpstream.Pool
		sent := map[uint16][]byte{}
		seq, timestamp, ssrc := uint16(65000), uint32(1<<32-90*2000), uint32(1)
		for i := range 3000 {
			switch i {
			case 1000:
				ssrc, timestamp, seq = 2, 12345, 20000
			case 2000:
				timestamp += 1 << 31
			}
			octets := uint16(0x8060)
			if i%5 == 4 {
				octets |= rtpMarker
			}
			p := pool.Get()
			rtp := contextPacket(octets, seq, timestamp, ssrc, bytes.Repeat([]byte{byte(i)}, 200)...)
			copy(p.Buffer(), rtp)
			require.NoError(t, p.Parse(len(rtp)))
			p.Stream, p.AudioLevel = source.Stream(0), rtpstream.NoAudioLevel
			source.Stream(0).Write(p)
			p.Release()
			sent[seq] = rtp
			seq++
			if i%5 == 4 {
				timestamp += 3000
			}
			time.Sleep(4 * time.Millisecond)
		}
		time.Sleep(2 * time.Second)
		h.setDrop(nil)
		sink.mu.Lock()
		defer sink.mu.Unlock()
		for _, got := range sink.got {
			want := sent[binary.BigEndian.Uint16(got[2:])]
			require.Equal(t, want, got)
		}
		require.GreaterOrEqual(t, len(sink.got), 2990)
		require.Greater(t, cut, 2000)
		require.Less(t, whole, 900, "%d were cut", cut)
		require.Zero(t, b.status(t, "a").Drops["garbage"])
	})
}

// bytesSink keeps what comes.
type bytesSink struct {
	mu  sync.Mutex
	got [][]byte
}

func (s *bytesSink) WritePacket(p *rtpstream.Packet) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got = append(s.got, bytes.Clone(p.Raw()))
}
