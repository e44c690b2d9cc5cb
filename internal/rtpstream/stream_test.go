package rtpstream

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// RFC 3550 A.1: a sequence number that wraps goes on counting, one that is a little behind is a reordered packet.
func TestUnwrap(t *testing.T) {
	var u Unwrapper[uint16]
	for _, tc := range []struct {
		in   uint16
		want uint64
	}{
		{65534, 1<<16 + 65534},
		{65535, 1<<16 + 65535},
		{1, 2<<16 + 1},
		{0, 2 << 16},
		{65533, 1<<16 + 65533},
		{2, 2<<16 + 2},
		{32769, 2<<16 + 32769},
		{1, 2<<16 + 1},
		{65000, 2<<16 + 65000},
		{10, 3<<16 + 10},
	} {
		got := u.Unwrap(tc.in)
		require.Equal(t, tc.want, got, "%d", tc.in)
	}
	require.EqualValues(t, 3<<16+11, u.Peek(11))
	require.EqualValues(t, 3<<16+12, u.Unwrap(12))

	var before Unwrapper[uint16]
	require.EqualValues(t, 1<<16, before.Unwrap(0))
	require.EqualValues(t, 65535, before.Unwrap(65535), "reordered before the very first packet")

	var ts Unwrapper[uint32]
	require.EqualValues(t, 1<<32+4294967295, ts.Unwrap(4294967295))
	require.EqualValues(t, 2<<32+5, ts.Unwrap(5))
}

func FuzzUnwrap(f *testing.F) {
	f.Add(uint16(0), uint16(65535), uint16(1))
	f.Fuzz(func(t *testing.T, a, b, c uint16) {
		var u Unwrapper[uint16]
		for _, v := range []uint16{a, b, c} {
			if got := u.Unwrap(v); uint16(got) != v {
				t.Fatalf("%d became %d", v, got)
			}
		}
	})
}

func TestQueue(t *testing.T) {
	q := NewQueue[int](2)
	_, evicted := q.Push(1)
	require.False(t, evicted)
	q.Push(2)
	old, evicted := q.Push(3)
	require.True(t, evicted)
	require.Equal(t, 1, old, "the oldest goes")
	require.Equal(t, 2, q.Len())
	<-q.Wake()
	select {
	case <-q.Wake():
		t.Fatal("one signal stands for several pushes")
	default:
	}
	v, ok := q.Pop()
	require.True(t, ok)
	require.Equal(t, 2, v)
	q.Close()
	q.Close()
	require.True(t, q.Closed())
	<-q.Wake()
	back, evicted := q.Push(9)
	require.True(t, evicted)
	require.Equal(t, 9, back)
	v, ok = q.Pop()
	require.True(t, ok, "what was pushed before Close comes out")
	require.Equal(t, 3, v)
	_, ok = q.Pop()
	require.False(t, ok)
	require.Panics(t, func() { NewQueue[int](0) })
}

func TestCache(t *testing.T) {
	var pl Pool
	c := NewCache(4)
	put := func(ext uint64) (*Packet, bool) {
		p := pl.Get()
		p.ExtSeq = ext
		return p, c.Put(p)
	}
	p10, ok := put(10)
	require.True(t, ok)
	_, ok = put(10)
	require.False(t, ok, "duplicate")
	_, ok = put(6)
	require.False(t, ok, "a newer packet holds its place")
	got := c.Get(10)
	require.Same(t, p10, got)
	require.EqualValues(t, 3, got.refs.Load())
	got.Release()
	_, ok = put(14)
	require.True(t, ok)
	require.EqualValues(t, 1, p10.refs.Load(), "the replaced packet is released")
	require.Nil(t, c.Get(10))
	c.Clear()
	require.Nil(t, c.Get(14))
	require.Panics(t, func() { NewCache(3) })
}

func TestFanout(t *testing.T) {
	var f Fanout
	var pl Pool
	a, b := &countingSink{}, &countingSink{}
	f.WritePacket(pl.Get())
	f.Add(a)
	f.Add(a)
	f.Add(b)
	require.Equal(t, 2, f.Len())
	f.WritePacket(pl.Get())
	f.Remove(a)
	f.Remove(a)
	f.WritePacket(pl.Get())
	require.EqualValues(t, 1, a.n.Load())
	require.EqualValues(t, 2, b.n.Load())
}

func TestStreamWriteAllocs(t *testing.T) {
	src, _ := videoSource(1)
	for range 10 {
		src.Subscribe(&countingSink{}).SetDemand(Demand{Encodings: 1})
	}
	var pl Pool
	raw := rtpBytes(0, 0, 0x10, 1, 2, 3)
	seq := uint16(0)
	write := func() {
		p := pl.Get()
		n := copy(p.Buffer(), raw)
		p.Buffer()[2], p.Buffer()[3] = byte(seq>>8), byte(seq)
		if err := p.Parse(n); err != nil {
			t.Fatal(err)
		}
		p.MarkVP8()
		src.Stream(0).Write(p)
		p.Release()
		seq++
	}
	for range 2 * videoCachePackets {
		write()
	}
	require.Zero(t, testing.AllocsPerRun(1000, write))
}

func TestStreamStats(t *testing.T) {
	src, _ := videoSource(1)
	sink := &countingSink{}
	src.Subscribe(sink).SetDemand(Demand{Encodings: 1})
	var pl Pool
	st := src.Stream(0)
	for i, seq := range []uint16{65534, 65535, 1, 1, 2} {
		p, err := fill(&pl, rtpBytes(seq, uint32(seq)*3000, 0x10, 0))
		require.NoError(t, err)
		p.Arrival = time.Duration(i) * 33 * time.Millisecond
		p.MarkVP8()
		st.Write(p)
		p.Release()
	}
	got := st.Stats()
	require.EqualValues(t, 4, got.Packets)
	require.EqualValues(t, 1, got.Duplicates)
	require.EqualValues(t, 1, got.Lost)
	require.EqualValues(t, 4, got.Keyframes)
	require.EqualValues(t, 56, got.Bytes)
	require.EqualValues(t, 4, sink.n.Load(), "duplicates are not handed on")
	require.Nil(t, st.Clock())
	st.SetClock(SenderClock{NTP: 1, RTPTimestamp: 2})
	require.Equal(t, SenderClock{NTP: 1, RTPTimestamp: 2}, *st.Clock())
	p := st.Cached(2<<16 + 1)
	require.NotNil(t, p)
	p.Release()
}

func TestSourceDemand(t *testing.T) {
	src, fb := videoSource(3)
	a, b := src.Subscribe(&countingSink{}), src.Subscribe(&countingSink{})
	require.Equal(t, 2, src.Subscribers())
	a.SetDemand(UpTo(1, Layers{Temporal: 1}))
	require.EqualValues(t, 1, fb.changes.Load())
	b.SetDemand(Everything(0b11110))
	require.Equal(t, UpTo(1, Layers{Temporal: 1}).Union(Everything(0b110)), src.Demand(), "no more than there are")
	require.EqualValues(t, 2, fb.changes.Load())
	b.SetDemand(Everything(0b110))
	require.EqualValues(t, 2, fb.changes.Load(), "an unchanged union is not told")
	a.RequestKeyframe(2, KeyframeForJoin)
	a.RequestKeyframe(3, KeyframeForJoin)
	require.EqualValues(t, 1, fb.keyframes.Load())
	require.Equal(t, 1, src.Stream(0).fanout.Len())
	b.Close()
	b.Close()
	b.SetDemand(Demand{Encodings: 1})
	require.Equal(t, UpTo(1, Layers{Temporal: 1}), src.Demand())
	src.Close()
	require.Zero(t, src.Stream(0).fanout.Len())
	require.Zero(t, src.Demand())
	a.SetDemand(Demand{Encodings: 1})
	require.Zero(t, src.Demand(), "a closed source wants nothing")
	require.Nil(t, src.Stream(3))
	require.Equal(t, MaxEncodings, NewSource(SourceInfo{Encodings: 99}, fb).Info.Encodings)
}

type endingSink struct {
	countingSink
	ended atomic.Int32
}

func (s *endingSink) SourceEnded() { s.ended.Add(1) }

func TestSourceTellsItsEnd(t *testing.T) {
	src, _ := videoSource(1)
	told, gone, late := new(endingSink), new(endingSink), new(endingSink)
	src.Subscribe(told)
	src.Subscribe(gone).Close()
	select {
	case <-src.Done():
		t.Fatal("ended before its end")
	default:
	}
	src.Close()
	src.Close()
	<-src.Done()
	src.Subscribe(late)
	require.EqualValues(t, 1, told.ended.Load())
	require.Zero(t, gone.ended.Load(), "it had left")
	require.Zero(t, late.ended.Load(), "it sees Done")
}
