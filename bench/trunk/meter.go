package trunk

import (
	"slices"
	"sync"
	"time"
)

// maxCounter bounds what a stamp may claim: far more packets than a stream has in the longest cell.
const maxCounter = 1 << 24

// meter counts what arrives. It is safe for concurrent use.
type meter struct {
	audio []bool // by stream

	mu         sync.Mutex
	seen       [][]uint64 // bit per counter, by stream; guarded by mu
	highest    []uint32   // by stream; guarded by mu
	delays     []time.Duration
	audioFlags []bool // beside delays
	duplicates uint64
	reordered  uint64
	malformed  uint64
	course     *course // nil unless a bottleneck comes and goes
}

func newMeter(audio []bool, expected int) *meter {
	return &meter{
		audio: audio, seen: make([][]uint64, len(audio)), highest: make([]uint32, len(audio)),
		delays: make([]time.Duration, 0, expected), audioFlags: make([]bool, 0, expected),
	}
}

// packet takes an RTP packet that arrived at now, of the monotonic clock.
func (m *meter) packet(raw []byte, now int64) {
	s, ok := parseStamp(raw)
	m.mu.Lock()
	defer m.mu.Unlock()
	if !ok || s.stream >= len(m.audio) || s.counter >= maxCounter {
		m.malformed++
		return
	}
	if !s.counted {
		return
	}
	seen := m.seen[s.stream]
	if word := int(s.counter / 64); word >= len(seen) {
		seen = append(seen, make([]uint64, word+1-len(seen))...)
		m.seen[s.stream] = seen
	}
	bit := uint64(1) << (s.counter % 64)
	if seen[s.counter/64]&bit != 0 {
		m.duplicates++
		return
	}
	seen[s.counter/64] |= bit
	if s.counter < m.highest[s.stream] {
		m.reordered++
	} else {
		m.highest[s.stream] = s.counter
	}
	if m.course != nil {
		m.course.arrived(s.stream, s.counter, time.Duration(now-s.sent))
	}
	m.delays = append(m.delays, time.Duration(now-s.sent))
	m.audioFlags = append(m.audioFlags, m.audio[s.stream])
}

// count is packets of one kind that arrived, and those of them within the limits.
type count struct {
	Arrived uint64 `json:"arrived"`
	InTime  uint64 `json:"in_time"`
	Late    uint64 `json:"late"` // in time or late by up to a round trip
}

// arrivals is a receiver's account of a cell.
type arrivals struct {
	All        count         `json:"all"`
	Audio      count         `json:"audio"`
	Duplicates uint64        `json:"duplicates"`
	Reordered  uint64        `json:"reordered"`
	Malformed  uint64        `json:"malformed"`
	P50        time.Duration `json:"p50"`
	P99        time.Duration `json:"p99"`
}

func (m *meter) report(inTime, late time.Duration) arrivals {
	m.mu.Lock()
	defer m.mu.Unlock()
	a := arrivals{Duplicates: m.duplicates, Reordered: m.reordered, Malformed: m.malformed}
	for i, d := range m.delays {
		a.All.add(d, inTime, late)
		if m.audioFlags[i] {
			a.Audio.add(d, inTime, late)
		}
	}
	sorted := slices.Sorted(slices.Values(m.delays))
	a.P50, a.P99 = quantile(sorted, 0.5), quantile(sorted, 0.99)
	return a
}

func (c *count) add(d, inTime, late time.Duration) {
	c.Arrived++
	if d <= inTime {
		c.InTime++
	}
	if d <= late {
		c.Late++
	}
}

// quantile is the value below which a share q of the sorted values lies; 0 of none.
func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}
