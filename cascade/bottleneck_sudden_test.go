package cascade

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/internal/testnet"
)

// queueing lets time pass and returns how long the path's queue was in each millisecond of it. RATE_PRINT=1 prints what
// the link makes of it.
func (n *narrows) queueing(d time.Duration) (waits []time.Duration) {
	trace := os.Getenv("RATE_PRINT") != ""
	tx := n.a.peers["b"].link.tx
	for past := time.Duration(0); past < d; past += ms {
		time.Sleep(ms)
		waits = append(waits, n.sw.Wait(n.host("a"), n.host("b")))
		if !trace || past%(5*ms) != 0 || past > time.Second {
			continue
		}
		tx.mu.Lock()
		c := &tx.rate.ctl
		n.t.Logf("%4d ms: queue %3d ms, seen %3d of %3d ms ago; %s, doubt %v, drain %v, stop %v, shed %v; estimate %5.2f of %5.2f, pace %5.2f Mbit/s; %d bytes wait",
			past/ms, waits[len(waits)-1]/ms, c.queue/ms, (n.a.now()-c.sample(0).sentAt)/ms, c.phase, c.doubt.on, c.drain.on, c.drain.stop, tx.rate.shed,
			c.estimate/1e6, c.delivered/1e6, float64(c.pace())/1e6, tx.sched.bytes)
		tx.mu.Unlock()
	}
	return waits
}

// A bottleneck of half of what is offered, from one moment to the next. The queue grows by what comes, at a millisecond
// each, for a round trip before anything can be known of it; then only audio goes into it until it is short. That bounds
// both the queue and the audio behind it: at 80 ms the queue is 110 ms long before a first report of 15 ms is here, and
// longer than 60 ms for a tenth of a second, which is 1 % of these ten.
func TestSuddenBottleneck(t *testing.T) {
	withoutRace(t)
	for _, x := range []struct {
		rtt, after time.Duration
		late       float64 // of audio, more than 60 ms
	}{
		{40 * ms, 0, 0.005},
		{80 * ms, 0, 0.015},
		{80 * ms, 37 * ms, 0.015},
		{80 * ms, 74 * ms, 0.015},
		{80 * ms, 111 * ms, 0.015},
	} {
		t.Run(fmt.Sprintf("%v, after %v", x.rtt, x.after), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				path := testnet.Link{Delay: x.rtt / 2}
				n := newNarrows(t, path, 1)
				n.conference(8)
				time.Sleep(2 * time.Second)
				n.produce()
				time.Sleep(5*time.Second + x.after)
				require.Zero(t, n.status().Withheld)
				path.Rate, path.Queue = 10e6, 300*ms
				n.set(path)
				from := time.Now()
				waits := n.queueing(10 * time.Second)
				y := n.tally(from)
				slices.Sort(waits)
				p99 := waits[len(waits)*99/100]
				audio, late := 0, 0
				for _, s := range n.cams {
					if !s.source.Info.Audio {
						continue
					}
					for _, a := range s.since(from) {
						if audio++; a.delay > path.Delay+60*ms {
							late++
						}
					}
				}
				t.Logf("queue p50 %v, p99 %v, most %v; %.2f %% of audio late; video %.2f Mbit/s; %v", waits[len(waits)/2], p99, waits[len(waits)-1],
					100*float64(late)/float64(audio), y.video/1e6, n.status().Drops)
				require.LessOrEqual(t, p99, 100*ms)
				require.LessOrEqual(t, float64(late), x.late*float64(audio))
				require.Greater(t, y.video, 7e6)
				n.finish()
				require.Zero(t, n.silence(), "audio is intact")
			})
		})
	}
}
