package sfm

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

// What the trunk cannot carry any more is not waited for: the lower encoding is taken from its first keyframe on, the
// wish for the higher one stays, and it is taken again when it can come.
func TestSenderFallsBackAtOnceWhenTheWayNarrows(t *testing.T) {
	x := newBench(t, mesh.Video, 3, binding{ssrc: 7, payloadType: 96})
	now := time.Second
	x.write(2, true)
	x.drain(now)
	require.Len(t, x.w.list, 1)
	require.EqualValues(t, 0b100, x.media.Demand().Encodings)
	for len(x.e.egress.kick) > 0 {
		<-x.e.egress.kick
	}
	asked := x.feedback.keyframes

	now += 10 * time.Millisecond
	x.media.SetAvailable(0b011)
	require.Len(t, x.e.egress.kick, 1, "the egress goroutine looks at once")
	require.True(t, x.s.tick(now, x.buf), "waits for a keyframe")
	require.EqualValues(t, 0b110, x.media.Demand().Encodings, "what can come, and what is wanted")
	require.Equal(t, asked+1, x.feedback.keyframes)
	x.write(1, true)
	x.write(1, false)
	x.drain(now)
	require.Len(t, x.w.list, 3)
	require.False(t, x.s.tick(now, x.buf))
	require.EqualValues(t, 0b110, x.media.Demand().Encodings)

	now += time.Second
	x.media.SetAvailable(rtpstream.AllEncodings)
	x.s.tick(now, x.buf)
	x.write(1, false)
	x.write(2, true)
	x.write(2, false)
	x.drain(now)
	require.Len(t, x.w.list, 6)
	for i := 1; i < len(x.w.list); i++ {
		require.Equal(t, x.w.list[i-1].header.SequenceNumber+1, x.w.list[i].header.SequenceNumber)
	}
	require.EqualValues(t, 0b100, x.media.Demand().Encodings)
	x.s.close()
}
