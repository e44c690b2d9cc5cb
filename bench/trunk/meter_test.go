package trunk

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// arriving gives the meter a packet that took d.
func (m *meter) arriving(stream int, counter uint32, d time.Duration, counted bool) {
	b := make([]byte, 40)
	stamp{counted: counted, stream: stream, counter: counter, sent: 1000}.put(b[len(b)-stampBytes:])
	m.packet(b, 1000+int64(d))
}

func TestMeter(t *testing.T) {
	const inTime, late = 135 * time.Millisecond, 285 * time.Millisecond
	m := newMeter([]bool{true, false}, 0)
	m.arriving(0, 0, 75*time.Millisecond, false) // warm-up
	m.arriving(0, 1, 75*time.Millisecond, true)
	m.arriving(0, 1, 80*time.Millisecond, true) // again
	m.arriving(0, 3, inTime, true)              // the last moment
	m.arriving(0, 2, inTime+1, true)            // reordered and late
	m.arriving(1, 500, late, true)
	m.arriving(1, 501, late+1, true) // too late for anything
	m.arriving(2, 0, 0, true)        // no such stream
	m.arriving(1, maxCounter, 0, true)
	m.packet(make([]byte, 100), 0) // no stamp
	m.packet([]byte{1}, 0)
	require.Equal(t, arrivals{
		All: count{Arrived: 5, InTime: 2, Late: 4}, Audio: count{Arrived: 3, InTime: 2, Late: 3},
		Duplicates: 1, Reordered: 1, Malformed: 4, P50: inTime + 1, P99: late + 1,
	}, m.report(inTime, late))
}

func TestMeterOfNothing(t *testing.T) {
	require.Equal(t, arrivals{}, newMeter(nil, 0).report(1, 2))
}

func FuzzStamp(f *testing.F) {
	f.Add(make([]byte, 12+stampBytes))
	f.Add([]byte("short"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, ok := parseStamp(b)
		if !ok {
			return
		}
		again := make([]byte, stampBytes)
		s.put(again)
		require.Equal(t, b[len(b)-stampBytes:], again)
		newMeter(make([]bool, 3), 0).packet(b, 0)
	})
}

func TestOutcome(t *testing.T) {
	tr := &trial{
		cell: Cell{RTT: 150 * time.Millisecond, Rate: 1e6, Duration: 2 * time.Second},
		sender: &report{
			Usage: usage{CPU: 1500 * time.Microsecond, Machine: 3 * time.Second}, Offered: 1000, OfferedAudio: 100, OfferedBytes: 250_000,
			Counters: counters{Packets: 800, Bytes: 200_000, Repair: 10_000},
			LateP99:  6 * time.Millisecond,
		},
		receiver: &report{
			Usage:    usage{CPU: 500 * time.Microsecond},
			Arrivals: arrivals{All: count{Arrived: 500, InTime: 300, Late: 400}, Audio: count{Arrived: 100, InTime: 99, Late: 100}},
		},
		ocean: &report{
			Usage: usage{CPU: 200 * time.Millisecond}, SocketDrops: 2,
			Ocean: &oceanReport{Sent: [ways]sent{{Packets: 1100, Bytes: 240_000, Lost: 11}, {Packets: 100, Bytes: 20_000}}, LateMax: 3 * time.Millisecond},
		},
		stallMax: 15 * time.Millisecond, stallSum: 40 * time.Millisecond,
	}
	o := tr.outcome(Baseline{Sender: 0.5, Receiver: 0.4}, false)
	require.InDelta(t, 0.3, o.Delivered, 1e-9)
	require.InDelta(t, 0.7, o.ResidualLoss, 1e-9)
	require.InDelta(t, 0.6, o.ResidualLossLate, 1e-9)
	require.InDelta(t, 0.5, o.NeverArrived, 1e-9)
	require.InDelta(t, 0.01, o.AudioResidualLoss, 1e-9)
	require.Zero(t, o.AudioResidualLossLate)
	require.InDelta(t, 0.2, *o.Overhead, 1e-9, "of what was sent, not of what was offered")
	require.InDelta(t, 0.05, o.RepairOverhead, 1e-9)
	require.InDelta(t, 0.1, *o.ReverseOverhead, 1e-9)
	require.InDelta(t, 0.2, o.Withheld, 1e-9)
	require.InDelta(t, 4, o.CPUGross, 1e-9, "of what arrived")
	require.InDelta(t, 2, o.CPUSender, 1e-9, "less the harness' share of 1000 packets offered")
	require.InDelta(t, 0.6, o.CPUReceiver, 1e-9, "less its share of 500 that arrived")
	require.InDelta(t, 2.6, o.CPU, 1e-9)
	require.EqualValues(t, 2, o.SocketDrops)
	require.InDelta(t, 15, o.StallMax, 1e-9)
	require.InDelta(t, 40, o.StallSum, 1e-9)
	require.InDelta(t, 3, o.OceanLate, 1e-9)
	require.InDelta(t, 0.1, o.OceanCPU, 1e-9)
	require.InDelta(t, 0.01, o.WireLoss, 1e-9)
	require.InDelta(t, 1e6, o.OfferedBps, 1e-3)
	require.InDelta(t, 1.399, o.OthersCPU, 1e-9)
	require.True(t, o.Behind)

	o = tr.outcome(Baseline{Sender: 5}, true)
	require.Nil(t, o.Overhead, "nobody counts on a bare wire")
	require.Zero(t, o.CPUSender, "never negative")

	require.InDelta(t, 2.5, tr.harness().Harness, 1e-9)
}

func TestParseStat(t *testing.T) {
	require.Equal(t, (1+2+3+6+7+8)*10*time.Millisecond, parseStat([]byte("cpu  1 2 3 4 5 6 7 8 9 10\ncpu0 1 2 3\n")))
	for _, bad := range []string{"", "cpu 1 2", "intr 1 2 3 4 5 6 7 8 9", "cpu a b c d e f g h i"} {
		require.Zero(t, parseStat([]byte(bad)), bad)
	}
}

func TestParseSteal(t *testing.T) {
	require.Equal(t, 80*time.Millisecond, parseSteal([]byte("cpu  1 2 3 4 5 6 7 8 9 10\n")))
	for _, bad := range []string{"", "cpu 1 2", "intr 1 2 3 4 5 6 7 8 9", "cpu 1 2 3 4 5 6 7 x 9"} {
		require.Zero(t, parseSteal([]byte(bad)), bad)
	}
}

func TestParseDrops(t *testing.T) {
	const table = `   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
  308: 0100007F:1F90 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4312 2 0000000000000000 17
`
	require.Equal(t, uint64(17), parseDrops([]byte(table), 8080))
	require.Zero(t, parseDrops([]byte(table), 8081))
}
