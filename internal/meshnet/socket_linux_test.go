//go:build linux && (amd64 || arm64)

package meshnet

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

// Where the kernel or the interface cannot segment, packets leave one by one.
func TestDirectWithoutSegmentation(t *testing.T) {
	x, y := testPair(t)
	dx, dy := directOf(t, x, y)
	s, ok := dx.socket.(*batchSocket)
	require.True(t, ok, "a UDP socket has batches")
	s.out.mu.Lock()
	s.out.gso = false
	s.out.mu.Unlock()
	bs := make([][]byte, maxBatch)
	for i := range bs {
		bs[i] = bytes.Repeat([]byte{byte(i)}, 800)
	}
	require.NoError(t, dx.SendBatch(bs))
	for i := range bs {
		b, err := dy.Receive(testCtx(t))
		require.NoError(t, err)
		require.Equal(t, bs[i], b)
	}
}

// Segments the kernel refuses together leave one by one.
func TestDirectSegmentsRefused(t *testing.T) {
	x, y := testPair(t)
	dx, dy := directOf(t, x, y)
	s := dx.socket.(*batchSocket)
	buf := make([]byte, 60*1100) // longer than a UDP datagram may be
	sent, err := s.writeRuns(dx.to, dx.local, buf, []run{{start: 0, end: len(buf), size: 1100}})
	require.NoError(t, err)
	require.Equal(t, 60, sent)
	s.out.mu.Lock()
	require.True(t, s.out.gso, "it was this message's fault")
	s.out.mu.Unlock()
	reaches(t, dx, dy, "still here")
}
