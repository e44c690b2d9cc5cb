package cascade

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/internal/meshpb/cascadepb"
)

func TestReportGate(t *testing.T) {
	var g reportGate
	now := 10 * time.Second
	r := rateReport{Clock: 1<<32 - 50_000, Seq: 5, Bytes: 1<<32 - 1000, Packets: 7}
	next := func(past, clock time.Duration, bytes, packets int32) (reportNews, gateVerdict) {
		now += past
		r.Clock += uint32(clock.Microseconds())
		r.Bytes += uint32(bytes)
		r.Packets += uint32(packets)
		return g.pass(r, now)
	}
	_, v := next(0, 0, 0, 0)
	require.Equal(t, gatePassed, v)
	for _, x := range []struct {
		name           string
		past, clock    time.Duration
		bytes, packets int32
		want           gateVerdict
		news           time.Duration
	}{
		{"the next one", 25 * ms, 25 * ms, 10_000, 10, gatePassed, 25 * ms},
		{"clock and bytes wrap", 25 * ms, 30 * ms, 10_000, 10, gatePassed, 30 * ms},
		{"held up", 225 * ms, 25 * ms, 10_000, 10, gatePassed, 25 * ms},
		{"the one behind it", 0, 25 * ms, 10_000, 10, gatePassed, 25 * ms},
		{"overtaken", 0, -10 * ms, 0, 0, gateOvertaken, 0},
		{"after an hour without media", time.Hour + 50*ms, time.Hour + 60*ms, 10_000, 10, gatePassed, time.Hour + 50*ms},
		{"the clock leaps", 25 * ms, 20 * time.Minute, 10_000, 10, gateRefused, 25 * ms},
		{"and goes on from there", 25 * ms, 25 * ms, 10_000, 10, gatePassed, 25 * ms},
		{"the clock goes back", 25 * ms, -20 * time.Minute, 10_000, 10, gateRefused, 25 * ms},
		{"fewer bytes", 25 * ms, 25 * ms, -10_000, 10, gateRefused, 25 * ms},
		{"fewer packets", 25 * ms, 25 * ms, 10_000, -10, gateRefused, 25 * ms},
		{"and goes on", 25 * ms, 25 * ms, 10_000, 10, gatePassed, 25 * ms},
	} {
		t.Run(x.name, func(t *testing.T) {
			news, v := next(x.past, x.clock, x.bytes, x.packets)
			require.Equal(t, x.want, v)
			require.Equal(t, x.news, news.past)
			if v == gatePassed {
				require.EqualValues(t, x.bytes, news.bytes)
				require.EqualValues(t, x.packets, news.packets)
			} else {
				require.Zero(t, news.bytes+news.packets)
			}
		})
	}
	passed := 0
	for range 10_000 {
		if _, v := next(ms/10, ms/10, 1, 1); v == gatePassed {
			passed++
		}
	}
	require.LessOrEqual(t, passed, gateBurst+gateReports+1, "of those of a second")
}

// A peer that lies in its reports harms nobody but itself, and its audio not even then.
func TestLyingReportsAreBounded(t *testing.T) {
	for _, tc := range []struct {
		name    string
		lie     func(i uint32, top uint32) rateReport // every 25 ms
		flood   int                                   // of each in place of one
		refused bool
		closed  bool
		video   bool // must be stepped down, or must not be
	}{
		{name: "everything came at once", video: true, lie: func(i, top uint32) rateReport {
			return rateReport{Clock: i * 25_000, Seq: top, Bytes: i * 1 << 20, Packets: i * 1000}
		}},
		{name: "nothing comes", lie: func(i, top uint32) rateReport {
			return rateReport{Clock: i * 25_000, Seq: top}
		}},
		{name: "hardly anything comes", lie: func(i, top uint32) rateReport {
			return rateReport{Clock: i * 25_000, Seq: top, Bytes: i, Packets: i / 8}
		}},
		{name: "later and later", lie: func(i, top uint32) rateReport {
			return rateReport{Clock: i * 26_000, Seq: top, Bytes: i * 100, Packets: i}
		}},
		{name: "clocks that leap", refused: true, video: true, lie: func(i, top uint32) rateReport {
			return rateReport{Clock: i % 3 * 1_200_000_000, Seq: top, Bytes: i * 1000, Packets: i}
		}},
		{name: "clocks that go backwards", refused: true, video: true, lie: func(i, top uint32) rateReport {
			return rateReport{Clock: -i * 10_000_000, Seq: top, Bytes: i * 1000, Packets: i}
		}},
		{name: "ages that vary", lie: func(i, top uint32) rateReport {
			return rateReport{Clock: i * 25_000, Seq: top, Age: i % 2 * 59_999_999, Bytes: i * 1000, Packets: i}
		}},
		{name: "packets never sent", refused: true, video: true, lie: func(i, top uint32) rateReport {
			return rateReport{Clock: i * 25_000, Seq: top + 1 + i<<8, Bytes: i * 1000, Packets: i}
		}},
		{name: "a flood", refused: true, closed: true, flood: 25_000, lie: func(i, top uint32) rateReport {
			return rateReport{Clock: i * 25_000, Seq: top, Bytes: i * 1000, Packets: i}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStage(t, false)
				lane := s.lanes()[0]
				cam, mic := newCamera("TR_cam", false, 1), newCamera("TR_mic", true, 1)
				mic.size = 150
				s.a.offer("TR_cam", cam.Source)
				s.a.offer("TR_mic", mic.Source)
				s.pull(1, "TR_cam")
				s.pull(2, "TR_mic")
				time.Sleep(time.Second)
				s.a.Cascade.mu.Lock()
				l := s.a.peers["liar"].link
				s.a.Cascade.mu.Unlock()
				l.features.Store(uint32(cascadepb.Feature_FEATURE_RATE))
				offered, mics := int64(0), int64(0)
				for i := range uint32(8_000) { // 8 s: 2 Mbit/s of video, 60 kbit/s of audio
					if i%4 == 0 {
						cam.write(0)
						offered += int64(cam.size)
					}
					if i%20 == 0 {
						mic.write(0)
						mics++
						offered += int64(mic.size)
					}
					if i%25 == 0 && i > 0 {
						b := appendReport(nil, tc.lie(i/25, l.tx.highest()))
						for range max(tc.flood, 1) {
							_ = lane.SendDatagram(b)
						}
					}
					if time.Sleep(ms); !s.linked() {
						break
					}
				}
				require.Equal(t, !tc.closed, s.linked())
				if tc.refused {
					require.NotZero(t, s.drops("bad_report"))
				}
				if !tc.closed {
					time.Sleep(100 * ms)
					t.Logf("%d of %d bytes, %d of %d audio packets, %v, %v", s.mediaBytes.Load(), offered, s.heard.Load(), mics, s.a.status(t, "liar").Rate, s.a.status(t, "liar").Drops)
					require.LessOrEqual(t, s.mediaBytes.Load(), offered+offered*budgetPercent/100+budgetStart, "no more than was offered, and repair in its budget")
					require.Equal(t, mics, s.heard.Load(), "audio is let through")
					if tc.video {
						require.Greater(t, s.mediaBytes.Load(), offered*9/10)
					}
				}
				s.end()
			})
		})
	}
}
