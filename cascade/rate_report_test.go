package cascade

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestReportFrame(t *testing.T) {
	want := rateReport{Clock: 1<<32 - 1, Seq: 1 << 31, Age: 59_999_999, Bytes: 12, Packets: 3}
	f, rest, err := nextFrame(append(appendFrameHead(appendReport(nil, want), framePadding, 0, true), make([]byte, 100)...))
	require.NoError(t, err)
	got, err := parseReport(f.body)
	require.NoError(t, err)
	require.Equal(t, want, got)
	pad, rest, err := nextFrame(rest)
	require.NoError(t, err)
	require.Empty(t, rest)
	require.EqualValues(t, framePadding, pad.kind)
	require.Len(t, pad.body, 100)

	_, err = parseReport(f.body[:19])
	require.ErrorIs(t, err, errFrameLength)
	want.Age++
	f, _, _ = nextFrame(appendReport(nil, want))
	_, err = parseReport(f.body)
	require.ErrorIs(t, err, errFrameField)
}

// FuzzReport: what parses is what would be written.
func FuzzReport(f *testing.F) {
	f.Add(appendReport(nil, rateReport{Clock: 1, Seq: 2, Age: 3, Bytes: 4, Packets: 5})[frameHeadBytes:])
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := parseReport(b); err == nil {
			require.Less(t, time.Duration(r.Age)*time.Microsecond, rateMaxAge)
			require.Equal(t, b, appendReport(nil, r)[frameHeadBytes:])
		}
	})
}

func TestRateLogFindsWhenAPacketLeft(t *testing.T) {
	var l rateLog
	_, ok := l.find(1)
	require.False(t, ok)
	for i := range uint64(3 * rateLogMarks) { // two packets a millisecond, a megabyte a second
		l.sent(rateMark{seq: i + 1, bytes: i * 500, at: time.Duration(i) * time.Millisecond / 2})
	}
	for _, seq := range []uint64{3*rateLogMarks - 1, 3*rateLogMarks - 1000, 2 * rateLogMarks} {
		m, ok := l.find(seq)
		require.True(t, ok)
		require.InDelta(t, seq, m.seq, 1)
		require.LessOrEqual(t, m.seq, seq)
	}
	_, ok = l.find(10)
	require.False(t, ok, "forgotten")
	m, ok := l.find(1 << 40)
	require.True(t, ok)
	require.InDelta(t, 3*rateLogMarks, m.seq, 2)
}

func TestRateSeenCountsEachPacketOnce(t *testing.T) {
	var s rateSeen
	_, ok := s.report(100, time.Second)
	require.False(t, ok)
	s.came(5, time.Second)
	s.came(4, time.Second+ms) // overtaken
	r, ok := s.report(100, time.Second+3*ms)
	require.True(t, ok)
	require.Equal(t, rateReport{Clock: 1_003_000, Seq: 5, Age: 3000, Bytes: 100, Packets: 2}, r)
	r, _ = s.report(100, time.Hour)
	require.Less(t, time.Duration(r.Age)*time.Microsecond, rateMaxAge)
}

func TestBaseDelayForgets(t *testing.T) {
	var b baseDelay
	b.take(40*ms, 0)
	for at := time.Duration(0); at < 25*time.Second; at += 100 * ms {
		b.take(60*ms, at)
		if at < baseKeep {
			require.Equal(t, 40*ms, b.delay())
		}
	}
	require.Equal(t, 60*ms, b.delay())
	b.take(35*ms, 26*time.Second)
	require.Equal(t, 35*ms, b.delay())
}
