package cascade

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestPacerKeepsItsRate(t *testing.T) {
	var p pacer
	require.True(t, p.ready(0, false), "the zero pacer lets everything through")
	p.spend(1 << 20)
	require.True(t, p.ready(0, false))

	p.set(8_000_000, time.Second) // a byte in a microsecond
	sent := 0
	now := time.Second
	for ; now < 2*time.Second; now += 700 * time.Microsecond {
		for p.ready(now, false) {
			p.spend(1000)
			sent += 1000
		}
	}
	require.InDelta(t, 1_000_000, sent, 10_000)

	now += time.Minute // idle: no more than a burst is saved up
	sent = 0
	for p.ready(now, false) {
		p.spend(1000)
		sent += 1000
	}
	require.LessOrEqual(t, sent, 6000)
	require.Greater(t, p.due(now), now)
	require.True(t, p.ready(p.due(now), false), "due is when it is ready")
}

// Audio borrows, but not without bound.
func TestPacerLetsUrgentBorrow(t *testing.T) {
	var p pacer
	p.set(8_000_000, time.Second)
	now := 2 * time.Second
	for p.ready(now, false) {
		p.spend(1000)
	}
	borrowed := 0
	for p.ready(now, true) {
		p.spend(100)
		borrowed += 100
	}
	require.InDelta(t, 20_000, borrowed, 1500)
	require.False(t, p.ready(now+10*time.Millisecond, false), "what was borrowed is paid back first")
	p.set(0, now)
	require.True(t, p.ready(now, false))
}

// What the pacer holds back leaves in time, audio at once.
func TestSenderPaces(t *testing.T) {
	s := newSender(DefaultConfig(), new(counters), nil)
	s.attach(newLane(0, &fakeConn{hub: newHub(0)}, 0), 0)
	s.pace.set(8_000_000, time.Millisecond)
	b := newBench(1 << 20)
	video := &sendFlow{id: 1}
	for i := range 20 {
		p := b.cam.packet(0)
		p.Stream, p.Timestamp = b.cam.Stream(0), uint32(i)
		s.write(video, p, time.Millisecond)
		p.Release()
	}
	buf := make([]byte, 0, 2048)
	sent := func(now time.Duration) (n int) {
		for {
			out, ok := s.fill(s.lanes[0], buf, now)
			if !ok {
				return n
			}
			n += len(out)
		}
	}
	now := time.Millisecond
	total := sent(now)
	require.LessOrEqual(t, total, 6*1020)
	due := s.due(now)
	require.Greater(t, due, now)
	require.Less(t, due, now+3*time.Millisecond)
	for ; now < 15*time.Millisecond; now = max(now+time.Millisecond, min(s.due(now), never/2)) {
		s.tick(now)
		total += sent(now)
	}
	require.InDelta(t, 14_000, total, 6000)
	for now < 30*time.Millisecond {
		now += time.Millisecond
		s.tick(now)
		total += sent(now)
	}
	require.Greater(t, total, 20_000, "all of it")
	s.close()
}
