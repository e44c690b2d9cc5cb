package cascade

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

// wan is a link between two nodes over a lossy path, in virtual time, with video and microphones.
type wan struct {
	rtt         time.Duration
	loss, burst float64
	rate        int  // bits per second of video, 0 for none
	mics        int  // 0 is five
	frames      bool // packets come as cameras send them: frame by frame, those of a frame equally long and a millisecond apart
	machine     bool // … over a path that is as late as timers are on a real machine
	length      time.Duration
	seed        uint64
}

type wanResult struct {
	residual, late float64 // share not there within one way + 60 ms, and + RTT + 60 ms
	audio          float64 // the former of audio alone
	overhead       float64 // bytes of repair to bytes of media
	status, sender LinkStatus
}

// meterSink notes how late packets come.
type meterSink struct {
	mu   sync.Mutex
	sent map[uint16]time.Time
	all  int // sent
	n    int // … and counted
	late []time.Duration
}

func (m *meterSink) WritePacket(p *rtpstream.Packet) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if at, ok := m.sent[p.SequenceNumber]; ok {
		m.late = append(m.late, time.Since(at))
		delete(m.sent, p.SequenceNumber)
	}
}

// note counts a packet that is being sent, from the second second on: in the first one the path is not known yet.
func (m *meterSink) note(seq uint16, since time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.all++
	if since < time.Second {
		return
	}
	m.n++
	m.sent[seq] = time.Now()
}

func (m *meterSink) within(d time.Duration) (n int) {
	for _, late := range m.late {
		if late <= d {
			n++
		}
	}
	return n
}

func (w wan) run(t *testing.T) (res wanResult) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(w.rtt / 2)
		paths := map[mesh.NodeID]*gilbert{"a": newGilbert(w.seed, w.loss, w.burst), "b": newGilbert(w.seed+1, w.loss, w.burst)}
		h.setDrop(func(from, _ mesh.NodeID, _ *fakeConn, _ []byte) bool { return paths[from].lost() })
		if w.machine {
			late := rand.New(rand.NewPCG(w.seed, 4))
			h.jitter = func(*fakeConn) time.Duration { return lateTimer(time.Now(), h.delay, late) }
		}
		a, b := startStation(t, h, "a"), startStation(t, h, "b")
		var feeds []feed
		const cameras = 8
		microphones := 5
		if w.mics > 0 {
			microphones = w.mics
		}
		for i := range cameras + microphones {
			cam := newCamera(fmt.Sprintf("TR_%d", i), i >= cameras, 1)
			cam.size = 120
			a.offer(mesh.SourceID(cam.Info.ID), cam.Source)
			r := b.Remote(room, cam.mesh(), "a")
			defer r.Close()
			tv := &meterSink{sent: make(map[uint16]time.Time)}
			r.Media().Subscribe(tv).SetDemand(all(0))
			feeds = append(feeds, feed{cam, tv})
		}
		time.Sleep(3 * time.Second)
		if w.frames {
			w.film(feeds[:cameras], feeds[cameras:])
		} else {
			w.flow(feeds[:cameras], feeds[cameras:])
		}
		time.Sleep(2 * time.Second)
		res.status, res.sender = b.status(t, "a"), a.status(t, "b")
		sent, soon, late, audioSent, audioSoon := 0, 0, 0, 0, 0
		for i, f := range feeds {
			f.tv.mu.Lock()
			in := f.tv.within(w.rtt/2 + 60*time.Millisecond)
			sent, soon, late = sent+f.tv.n, soon+in, late+f.tv.within(w.rtt/2+w.rtt+60*time.Millisecond)
			if i >= cameras {
				audioSent, audioSoon = audioSent+f.tv.n, audioSoon+in
			}
			f.tv.mu.Unlock()
		}
		res.residual, res.late = 1-float64(soon)/float64(sent), 1-float64(late)/float64(sent)
		res.audio = 1 - float64(audioSoon)/float64(audioSent)
		out := res.sender.Out
		res.overhead = float64(res.sender.RepairBytes) / float64(out.AudioBytes+out.VideoBytes)
		t.Logf("%v %.1f%% burst %.0f %d Mbit/s: residual %.4f %%, late %.4f %%, audio %.4f %%, overhead %.1f %% (parity %d, rtx %d, copies %d) restored %d repaired %d lost %d nacks %d, seen %.2f %%; %v %v",
			w.rtt, 100*w.loss, w.burst, w.rate/1e6, 100*res.residual, 100*res.late, 100*res.audio, 100*res.overhead,
			res.sender.Parity, res.sender.Retransmissions, res.sender.AudioCopies, res.status.Restored, res.status.Repaired,
			res.status.Lost, res.status.NacksSent, 100*res.sender.LossOut, res.status.Drops, res.sender.Drops)
	})
	return res
}

// feed is a source and who watches it.
type feed struct {
	cam *camera
	tv  *meterSink
}

func (f feed) send(start time.Time) {
	f.tv.note(f.cam.seq[0], time.Since(start))
	f.cam.write(0)
}

// speak sends what microphones have to send by now.
func speak(microphones []feed, start time.Time) {
	for j, f := range microphones {
		if due := start.Add(time.Duration(f.tv.all)*20*time.Millisecond + time.Duration(j)*3*time.Millisecond); !time.Now().Before(due) {
			f.send(start)
		}
	}
}

// flow sends packets of lengths that have nothing to do with each other, evenly.
func (w wan) flow(cameras, microphones []feed) {
	lengths := rand.New(rand.NewPCG(w.seed, 3))
	start, bits := time.Now(), 0
	for w.rate == 0 && time.Since(start) < w.length {
		speak(microphones, start)
		time.Sleep(time.Millisecond)
	}
	for n := 0; time.Since(start) < w.length; n++ {
		f := cameras[n/8%len(cameras)]
		for f.cam.size = 0; f.cam.size < 200; { // audio has feeds of its own
			f.cam.size = mixedLength(lengths)
		}
		bits += 8 * f.cam.size
		f.send(start)
		speak(microphones, start)
		time.Sleep(time.Until(start.Add(time.Duration(float64(bits) / float64(w.rate) * float64(time.Second)))))
	}
}

// film sends frames of three encodings of each camera, 30 a second, each a millisecond a packet.
func (w wan) film(cameras, microphones []feed) {
	rng := rand.New(rand.NewPCG(w.seed, 3))
	type encoding struct {
		feed
		mean       float64 // bytes of a frame
		next       time.Duration
		left, size int // of a frame that has begun: packets to go, bytes of each
		frame      time.Duration
	}
	var all []*encoding
	const period = time.Second / 30
	for i, f := range cameras {
		for _, share := range []float64{0.06, 0.22, 0.72} {
			mean := float64(w.rate) * share / float64(len(cameras)) / 8 / 30
			start := period * time.Duration(i) / time.Duration(len(cameras))
			all = append(all, &encoding{feed: f, mean: mean, next: start, frame: start})
		}
	}
	start := time.Now()
	for time.Since(start) < w.length {
		now := time.Since(start)
		for _, e := range all {
			for e.next <= now {
				if e.left == 0 {
					bytes := int(e.mean * (0.5 + rng.Float64()))
					e.left = bytes/1150 + 1
					e.size = max(80, bytes/e.left)
				}
				e.cam.size = e.size
				e.send(start)
				if e.left--; e.left > 0 {
					e.next += time.Millisecond
				} else {
					e.frame += period
					e.next = e.frame
				}
			}
		}
		speak(microphones, start)
		time.Sleep(time.Millisecond / 2)
	}
}

// lateTimer is how late a packet due after delay is where one timer sends all packets of half a millisecond, and is
// late itself by one or two.
func lateTimer(now time.Time, delay time.Duration, rng *rand.Rand) time.Duration {
	due := now.Add(delay)
	const grid = time.Millisecond / 2
	return due.Truncate(grid).Add(grid).Sub(due) + time.Millisecond/2 + time.Duration(rng.ExpFloat64()*float64(time.Millisecond/2))
}

// wanSeconds is how long something is run in virtual time; MERIDIAN_WAN_SECONDS makes it longer.
func wanSeconds(t *testing.T, otherwise int) time.Duration {
	return time.Duration(environment(t, "MERIDIAN_WAN_SECONDS", otherwise)) * time.Second
}

func environment(t *testing.T, name string, otherwise int) int {
	s := os.Getenv(name)
	if s == "" {
		return otherwise
	}
	n, err := strconv.Atoi(s)
	require.NoError(t, err)
	return n
}

// wanBounds are shares: what may be missing within one way + 60 ms, the same of audio, within a round trip more, and
// the bytes of repair.
type wanBounds struct{ residual, audio, late, overhead float64 }

// The trunk's targets are 0.0001 missing of 2 % random and 12 % of overhead, of which headers take 2.4; of 5 % in bursts
// of 4 0.008, a round trip later 0.0002, of audio 0.003, and 27 %. What is bounded is the mean of several seeds: where
// hardly anything is missing, a window that fails is several packets at once, and it takes minutes to know the mean.
func TestRepairOverAnOcean(t *testing.T) {
	withoutRace(t)
	length := wanSeconds(t, 20)
	for name, x := range map[string]struct {
		wan
		seeds  int // MERIDIAN_WAN_SEEDS makes it more
		bounds wanBounds
	}{
		"random": {
			wan{rtt: 150 * ms, loss: 0.02, burst: 1, rate: 20e6},
			6,
			wanBounds{0.00005, 0.0001, 0.00001, 0.094},
		},
		"bursts": {
			wan{rtt: 150 * ms, loss: 0.05, burst: 4, rate: 20e6},
			2,
			wanBounds{0.004, 0.002, 0.0002, 0.235},
		},
		"frames": {
			wan{rtt: 150 * ms, loss: 0.05, burst: 4, rate: 20e6, frames: true, machine: true},
			12,
			wanBounds{0.004, 0.003, 0.0001, 0.235},
		},
		"random frames": {
			wan{rtt: 150 * ms, loss: 0.02, burst: 1, rate: 20e6, frames: true, machine: true},
			9,
			wanBounds{0.00005, 0.0001, 0.00001, 0.094},
		},
		"small": {
			wan{rtt: 150 * ms, loss: 0.02, burst: 1, rate: 2e6, frames: true, machine: true},
			3,
			wanBounds{0.0006, 0.0003, 0.0001, 0.2},
		},
		"clean": {
			wan{rtt: 150 * ms, rate: 20e6},
			1,
			wanBounds{0, 0, 0, 0.08 / length.Seconds()}, // in the first second the path is not known
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var mean wanBounds
			seeds := environment(t, "MERIDIAN_WAN_SEEDS", x.seeds)
			for seed := range seeds {
				x.length, x.seed = length, 14+uint64(seed)
				res := x.run(t)
				n := float64(seeds)
				mean.residual += res.residual / n
				mean.audio += res.audio / n
				mean.late += res.late / n
				mean.overhead += res.overhead / n
			}
			t.Logf("mean: %+v", mean)
			require.LessOrEqual(t, mean.residual, x.bounds.residual)
			require.LessOrEqual(t, mean.late, x.bounds.late)
			require.LessOrEqual(t, mean.audio, x.bounds.audio)
			require.LessOrEqual(t, mean.overhead, x.bounds.overhead)
		})
	}
}
