package cascade

import (
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

// publisherClock is a clock of a publisher's machine: what it shows at true time t, in units of rate, off by ppm.
type publisherClock struct {
	start float64
	rate  float64
	ppm   float64
}

func (c publisherClock) at(t time.Duration) float64 {
	return c.start + t.Seconds()*c.rate*(1+c.ppm/1e6)
}

// lips is one medium of a publisher, and what a viewer two hops away makes of its timestamps.
type lips struct {
	*camera
	rtp   publisherClock
	every time.Duration

	mu       sync.Mutex
	captured map[uint32]time.Duration // true time of each timestamp under way
	remote   *rtpstream.Source
	seen     int
	stale    time.Duration // error with the first report alone
	first    *rtpstream.SenderClock
	error    time.Duration // of the latest packet: where the viewer puts it on the publisher's wall clock, less the truth
}

// wall is the publisher's own wall clock, wrong by hours and fast.
var wall = publisherClock{start: 3.9e9, rate: 1, ppm: 120}

func ntpOf(seconds float64) uint64 {
	whole := uint64(seconds)
	return whole<<32 | uint64((seconds-float64(whole))*(1<<32))
}

// place is where a viewer puts a timestamp on the publisher's wall clock, as the last hop's sender reports tell it
// (RFC 3550 §6.4.1), in seconds.
func place(clock *rtpstream.SenderClock, timestamp, rate uint32) float64 {
	return float64(clock.NTP)/(1<<32) + float64(int32(timestamp-clock.RTPTimestamp))/float64(rate)
}

func (l *lips) WritePacket(p *rtpstream.Packet) {
	clock := p.Stream.Clock()
	l.mu.Lock()
	defer l.mu.Unlock()
	t, ok := l.captured[p.Timestamp]
	if clock == nil || !ok {
		return
	}
	delete(l.captured, p.Timestamp)
	l.seen++
	if l.first == nil {
		l.first = clock
	}
	off := func(c *rtpstream.SenderClock) time.Duration {
		return time.Duration((place(c, p.Timestamp, l.Info.ClockRate) - wall.at(t)) * float64(time.Second))
	}
	l.error, l.stale = off(clock), off(l.first)
}

// capture sends a packet with the timestamp of true time t.
func (l *lips) capture(t time.Duration) {
	p := l.packet(0)
	ts := uint32(uint64(l.rtp.at(t)))
	binary.BigEndian.PutUint32(p.Buffer()[4:], ts)
	if err := p.Parse(l.size); err != nil {
		panic(err)
	}
	l.mu.Lock()
	l.captured[ts] = t
	l.mu.Unlock()
	l.Stream(0).Write(p)
	p.Release()
}

// Audio and video of one publisher, whose sample clocks and wall clock all drift, seen over two hops with 100 ms of
// jitter each: after ten minutes they are as far apart as at the start.
func TestLipSyncOverTwoHops(t *testing.T) {
	withoutRace(t)
	synctest.Test(t, func(t *testing.T) {
		const length = 10 * time.Minute
		h := newHub(60 * time.Millisecond)
		rnd := rand.New(rand.NewPCG(7, 7))
		reports := rand.New(rand.NewPCG(8, 8)) // jitter has its own, under the mutex of the hub
		h.jitter = func(*fakeConn) time.Duration { return time.Duration(rnd.IntN(100_000)) * time.Microsecond }
		a, b, c := startStation(t, h, "a"), startStation(t, h, "b"), startStation(t, h, "c")
		media := []*lips{
			{camera: newCamera("TR_mic", true, 1), rtp: publisherClock{4e9, 48_000, 50}, every: 60 * time.Millisecond},
			{camera: newCamera("TR_cam", false, 1), rtp: publisherClock{1e9, 90_000, -50}, every: 100 * time.Millisecond},
		}
		media[0].Info.ClockRate, media[0].size = 48_000, 120
		for _, l := range media {
			l.captured = make(map[uint32]time.Duration)
			src := l.mesh()
			a.offer(src.ID, l.Source)
			atB := b.Remote(room, src, "a")
			defer atB.Close()
			b.offer(src.ID, atB.Media())
			atC := c.Remote(room, src, "b")
			defer atC.Close()
			l.remote = atC.Media()
			l.remote.Subscribe(l).SetDemand(all(0))
		}
		time.Sleep(2 * time.Second)
		start := time.Now()
		report := [2]time.Duration{time.Second, 2500 * time.Millisecond}
		var worst time.Duration
		for at := time.Duration(0); at < length; at += 20 * time.Millisecond {
			time.Sleep(time.Until(start.Add(at)))
			for i, l := range media {
				if at%l.every == 0 {
					l.capture(at)
				}
				if at >= report[i] { // the publisher's client reports every five seconds or so
					report[i] += 4*time.Second + time.Duration(reports.IntN(2000))*time.Millisecond
					l.Stream(0).SetClock(rtpstream.SenderClock{
						NTP: ntpOf(wall.at(at)), RTPTimestamp: uint32(uint64(l.rtp.at(at))),
					})
				}
			}
			if at > 10*time.Second && at%time.Second == 0 {
				media[0].mu.Lock()
				audio := media[0].error
				media[0].mu.Unlock()
				media[1].mu.Lock()
				worst = max(worst, (audio - media[1].error).Abs())
				media[1].mu.Unlock()
			}
		}
		time.Sleep(2 * time.Second)
		for _, l := range media { // nothing comes any more, which the race detector does not know
			l.mu.Lock()
			defer l.mu.Unlock()
		}
		drift := (media[0].error - media[1].error).Abs()
		t.Logf("after %v: apart by %v, at worst %v; without reports %v", length, drift, worst, (media[0].stale - media[1].stale).Abs())
		for _, l := range media {
			require.Greater(t, l.seen, int(length/l.every)*9/10)
		}
		require.LessOrEqual(t, worst, 20*time.Millisecond)
		require.Greater(t, (media[0].stale - media[1].stale).Abs(), 50*time.Millisecond, "the clocks do drift")
	})
}
