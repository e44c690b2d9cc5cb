package cascade

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/meshnet"
	"github.com/meridian-sfu/meridian/internal/meshpb/cascadepb"
	"github.com/meridian-sfu/meridian/internal/rtpstream"
	"github.com/meridian-sfu/meridian/internal/testnet"
)

// narrows is a call between two nodes over a testnet.Switch, in virtual time: the real meshnet, direct media and all.
// Microphones and simulcast cameras of node a are watched in full at node b.
type narrows struct {
	t     *testing.T
	sw    *testnet.Switch
	ca    *meshnet.CA
	addr  map[mesh.NodeID]netip.AddrPort
	a, b  *Cascade
	cams  []*studio
	path  testnet.Link
	below meshnet.Config
	cfg   Config

	features map[mesh.NodeID]uint32 // but for these all of this release
	began    time.Time
	finish   func() // ends production and lets repair end
}

func (n *narrows) host(id mesh.NodeID) netip.Addr { return n.addr[id].Addr() }

// network starts a meshnet of its own port at a host of the switch.
func (n *narrows) network(id mesh.NodeID, at netip.AddrPort, setup func(*meshnet.Network)) {
	t := n.t
	cert, key, err := n.ca.Issue(id, 24*time.Hour)
	require.NoError(t, err)
	identity, err := meshnet.NewIdentity(n.ca.CertPEM(), cert, key)
	require.NoError(t, err)
	socket, err := n.sw.Listen(at)
	require.NoError(t, err)
	nw, err := meshnet.New(n.below, identity, socket, quiet(), nil)
	require.NoError(t, err)
	nw.SetResolver(func(id mesh.NodeID) (netip.AddrPort, bool) { a, ok := n.addr[id]; return a, ok })
	setup(nw)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = nw.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
}

// windowed has lanes carry QUIC DATAGRAMs, each with a congestion window.
func windowed(n *narrows) { n.below.Direct = false }

// unreported has node b greet as a release that knows neither reports nor padding nor limits of flows.
func unreported(n *narrows) { n.features["b"] = features &^ uint32(cascadepb.Feature_FEATURE_RATE) }

func newNarrows(t *testing.T, path testnet.Link, seed uint64, change ...func(*narrows)) *narrows {
	n := &narrows{t: t, sw: testnet.NewSwitch(seed), path: path, below: meshnet.DefaultConfig(), cfg: DefaultConfig(), features: make(map[mesh.NodeID]uint32), addr: map[mesh.NodeID]netip.AddrPort{
		"a": netip.MustParseAddrPort("10.0.0.1:1"), "b": netip.MustParseAddrPort("10.0.0.2:1"),
		"x": netip.MustParseAddrPort("10.0.0.1:2"), "y": netip.MustParseAddrPort("10.0.0.2:2"),
	}}
	t.Cleanup(func() { _ = n.sw.Close() })
	for _, f := range change {
		f(n)
	}
	n.set(path)
	var err error
	n.ca, err = meshnet.NewCA("test", 24*time.Hour)
	require.NoError(t, err)
	n.a, n.b = n.cascade("a"), n.cascade("b")
	return n
}

// set changes both directions of the path.
func (n *narrows) set(l testnet.Link) {
	require.NoError(n.t, n.sw.SetPair(n.host("a"), n.host("b"), l))
}

func (n *narrows) cascade(id mesh.NodeID) (c *Cascade) {
	n.network(id, n.addr[id], func(nw *meshnet.Network) {
		var err error
		c, err = New(n.cfg, Deps{
			Net: Over(nw), Resolve: func(id mesh.NodeID) (netip.AddrPort, bool) { a, ok := n.addr[id]; return a, ok },
			Local: func(_ mesh.NodeID, _ mesh.RoomName, id mesh.SourceID) (*rtpstream.Source, bool) {
				for _, s := range n.cams {
					if s.source.Info.ID == string(id) {
						return s.source, true
					}
				}
				return nil, false
			},
		}, quiet(), nil)
		require.NoError(n.t, err)
		if f, ok := n.features[id]; ok {
			c.features = f
		}
	})
	ctx, cancel := context.WithCancel(n.t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	n.t.Cleanup(func() { cancel(); <-done })
	return c
}

// studio is a camera or microphone that does what it is asked: keyframes, and only the encodings wanted.
type studio struct {
	source *rtpstream.Source
	rates  []float64 // bits per second of each encoding
	pool   rtpstream.Pool
	seqs   [rtpstream.MaxEncodings]uint16
	frames int

	mu   sync.Mutex
	keys [rtpstream.MaxEncodings]bool // guarded by mu

	sink *landings
}

func (s *studio) DemandChanged() {}
func (s *studio) RequestKeyframe(e uint8, _ rtpstream.KeyframeReason) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys[e] = true
}

// landing is a packet that came.
type landing struct {
	at    time.Time
	delay time.Duration
	enc   uint8
	bytes int
	past  bool // of what was kept for who begins: its age is no delay
}

type landings struct {
	mu   sync.Mutex
	all  []landing
	sent int
}

func (a *landings) WritePacket(p *rtpstream.Packet) {
	raw := p.Raw()
	sent := time.Unix(0, int64(binary.BigEndian.Uint64(raw[len(raw)-8:])))
	a.mu.Lock()
	defer a.mu.Unlock()
	a.all = append(a.all, landing{time.Now(), time.Since(sent), p.Stream.Encoding, len(raw), p.Past})
}

// since returns what came of a studio after a time.
func (s *studio) since(at time.Time) []landing {
	s.sink.mu.Lock()
	defer s.sink.mu.Unlock()
	i := slices.IndexFunc(s.sink.all, func(a landing) bool { return a.at.After(at) })
	if i < 0 {
		return nil
	}
	return slices.Clone(s.sink.all[i:])
}

// enrol adds a studio that is watched at b.
func (n *narrows) enrol(id string, audio bool, rates ...float64) {
	s := &studio{rates: rates, sink: new(landings)}
	info := rtpstream.SourceInfo{ID: id, Audio: audio, MIMEType: "video/VP8", ClockRate: 90000, Encodings: len(rates)}
	kind := mesh.Video
	if audio {
		info.MIMEType, info.ClockRate, kind = "audio/opus", 48000, mesh.Audio
	}
	s.source = rtpstream.NewSource(info, s)
	n.cams = append(n.cams, s)
	r := n.b.Remote(room, mesh.Source{
		ID: mesh.SourceID(id), Kind: kind, MIMEType: info.MIMEType, ClockRate: info.ClockRate, Encodings: make([]mesh.Encoding, len(rates)),
	}, "a")
	n.t.Cleanup(r.Close)
	r.Media().Subscribe(s.sink).SetDemand(rtpstream.Everything(1<<len(rates) - 1))
}

// conference enrols people with a microphone and a camera of 2.5 Mbit/s together.
func (n *narrows) conference(people int) {
	for i := range people {
		n.enrol(fmt.Sprintf("TR_A%d", i), true, 45e3)
		n.enrol(fmt.Sprintf("TR_V%d", i), false, 147e3, 540e3, 1767e3)
	}
}

// produce makes media until the end of the test.
func (n *narrows) produce() {
	n.began = time.Now()
	ctx, cancel := context.WithCancel(n.t.Context())
	var wg sync.WaitGroup
	for i, s := range n.cams {
		period := time.Second / 30
		if s.source.Info.Audio {
			period = 20 * ms
		}
		wg.Go(func() {
			time.Sleep(period * time.Duration(i) / time.Duration(len(n.cams)))
			tick := time.NewTicker(period)
			defer tick.Stop()
			for {
				s.frame(period)
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
				}
			}
		})
	}
	n.finish = func() { cancel(); wg.Wait(); time.Sleep(time.Second) }
	n.t.Cleanup(n.finish)
}

// frame makes one frame of each encoding, the packets of which leave over a few milliseconds.
func (s *studio) frame(period time.Duration) {
	type due struct {
		e    uint8
		size int
		last bool
		key  bool
	}
	temporal, weight := uint8(0), 1.0
	if !s.source.Info.Audio {
		temporal = [...]uint8{0, 2, 1, 2}[s.frames%4]
		weight = [...]float64{1.5, 0.75, 1, 0.75}[s.frames%4]
	}
	s.frames++
	var all []due
	s.mu.Lock()
	for e, rate := range s.rates {
		bytes := int(rate * weight / 8 * period.Seconds())
		key := s.keys[e] || s.frames == 1
		s.keys[e] = false
		if key && !s.source.Info.Audio {
			bytes *= 4
		}
		n := bytes/1150 + 1
		for i := range n {
			all = append(all, due{uint8(e), max(bytes/n, 40), i == n-1, key})
		}
	}
	s.mu.Unlock()
	for i, d := range all {
		if i > 0 {
			time.Sleep(min(8*ms/time.Duration(len(all)), ms))
		}
		p := s.pool.Get()
		b := p.Buffer()[:d.size]
		b[0], b[1] = 0x80, 96
		if d.last {
			b[1] |= 0x80
		}
		binary.BigEndian.PutUint16(b[2:], s.seqs[d.e])
		s.seqs[d.e]++
		binary.BigEndian.PutUint32(b[4:], uint32(s.frames)*3000)
		binary.BigEndian.PutUint64(b[len(b)-8:], uint64(time.Now().UnixNano()))
		if err := p.Parse(len(b)); err != nil {
			panic(err)
		}
		p.Keyframe = d.key
		if !d.key {
			p.Temporal = temporal
		}
		s.sink.mu.Lock()
		s.sink.sent++
		s.sink.mu.Unlock()
		s.source.Stream(d.e).Write(p)
		p.Release()
	}
}

func (n *narrows) status() LinkStatus {
	for _, l := range n.a.Links() {
		if l.Peer == "b" {
			return l
		}
	}
	return LinkStatus{}
}

// tally is what came in a stretch of time.
type tally struct {
	audio, video float64 // bits per second
	p99          time.Duration
	full         int // cameras whose largest encoding came all the time
}

func (n *narrows) tally(from time.Time) (x tally) {
	past := time.Since(from).Seconds()
	var delays []time.Duration
	for _, s := range n.cams {
		big := 0
		for _, a := range s.since(from) {
			if !a.past {
				delays = append(delays, a.delay-n.path.Delay)
			}
			if s.source.Info.Audio {
				x.audio += 8 * float64(a.bytes) / past
				continue
			}
			x.video += 8 * float64(a.bytes) / past
			if int(a.enc) == len(s.rates)-1 {
				big += a.bytes
			}
		}
		if 8*float64(big)/past > 0.9*s.rates[len(s.rates)-1] && !s.source.Info.Audio {
			x.full++
		}
	}
	if slices.Sort(delays); len(delays) > 0 {
		x.p99 = delays[len(delays)*99/100]
	}
	return x
}

// watch lets time pass and logs what came each second.
func (n *narrows) watch(d time.Duration) {
	for range d / time.Second {
		from := time.Now()
		time.Sleep(time.Second)
		x, s := n.tally(from), n.status()
		n.t.Logf("%4.0f s  video %5.2f audio %.2f Mbit/s, %d full, p99 %v; %s, %d lanes, windows %.1f Mbit/s", time.Since(n.began).Seconds(), x.video/1e6, x.audio/1e6,
			x.full, x.p99.Round(ms), s.Rate, s.Lanes, float64(s.Room)/1e6)
	}
}

// silence is how many audio packets never came.
func (n *narrows) silence() (lost int) {
	for _, s := range n.cams {
		if s.source.Info.Audio {
			lost += s.sink.sent - len(s.since(time.Time{}))
		}
	}
	return lost
}

// bulk sends as much as QUIC's congestion control lets it from x to y, over a stream, and returns what came so far.
func (n *narrows) bulk() (got func() int) {
	var mu sync.Mutex
	total := 0
	n.network("y", n.addr["y"], func(nw *meshnet.Network) {
		nw.HandleService("bulk", func(_ mesh.NodeID, s *meshnet.Stream) {
			buf := make([]byte, 64<<10)
			for {
				k, err := s.Read(buf)
				mu.Lock()
				total += k
				mu.Unlock()
				if err != nil {
					return
				}
			}
		})
	})
	var x *meshnet.Network
	n.network("x", n.addr["x"], func(nw *meshnet.Network) { x = nw })
	s, err := x.OpenService(n.t.Context(), "y", "bulk")
	require.NoError(n.t, err)
	var wg sync.WaitGroup
	wg.Go(func() {
		b := make([]byte, 32<<10)
		for {
			if _, err := s.Write(b); err != nil {
				return
			}
		}
	})
	n.t.Cleanup(func() { s.Reset(0); wg.Wait() })
	return func() int { mu.Lock(); defer mu.Unlock(); return total }
}

// steppedDown is a link of 20 Mbit/s of media that came to a bottleneck of 10 two seconds ago, and when that was over.
func steppedDown(t *testing.T, path testnet.Link, queue time.Duration, change ...func(*narrows)) (n *narrows, since time.Time) {
	t.Helper()
	n = newNarrows(t, path, 1, change...)
	n.conference(8)
	time.Sleep(2 * time.Second)
	n.produce()
	n.watch(5 * time.Second)
	require.Zero(t, n.status().Withheld)
	path.Rate, path.Queue = 10e6, queue
	n.set(path)
	n.watch(2 * time.Second)
	require.Positive(t, n.status().Withheld, "within two seconds")
	return n, time.Now()
}

func TestBottleneck(t *testing.T) {
	withoutRace(t)
	for _, x := range []struct {
		lanes        string
		delay, queue time.Duration
		change       []func(*narrows)
	}{
		{"direct", 40 * ms, 100 * ms, nil},
		{"direct", 75 * ms, 200 * ms, nil},
		{"windowed", 40 * ms, 100 * ms, []func(*narrows){windowed}},
		{"windowed", 75 * ms, 200 * ms, []func(*narrows){windowed}},
	} {
		most := 0
		if x.lanes == "windowed" {
			most = 10 // of 11,000: what waited in front of a full window
		}
		t.Run(fmt.Sprintf("%s %v %v", x.lanes, 2*x.delay, x.queue), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				path := testnet.Link{Delay: x.delay}
				n, stepped := steppedDown(t, path, x.queue, x.change...)
				n.watch(13 * time.Second)
				x := n.tally(stepped)
				require.Zero(t, x.full, "video stepped down")
				require.Greater(t, x.video, 5e6, "and no further than it had to")
				require.Less(t, x.p99, 100*ms)
				wide := n.tally(n.began.Add(5 * time.Second))
				t.Logf("p99 of all since the bottleneck began: %v, from 2 s after: %v", wide.p99, x.p99)
				if path.Delay == 40*ms { // on a longer path the queue is longer before anything can be known of it
					require.LessOrEqual(t, wide.p99, 100*ms)
				}
				n.set(path)
				n.watch(5 * time.Second)
				full := time.Now()
				n.watch(2 * time.Second)
				require.Equal(t, 8, n.tally(full).full, "all layers again")
				require.Zero(t, n.status().Withheld)
				n.finish()
				require.LessOrEqual(t, n.silence(), most, "audio is intact")
				s := n.status()
				t.Logf("%+v", s.Drops)
				sent := float64(s.Out.AudioBytes + s.Out.VideoBytes)
				require.LessOrEqual(t, float64(s.RepairBytes), 0.27*sent)
			})
		})
	}
}

// A peer that knows no reports tells of round trips and loss alone.
func TestBottleneckWithoutReports(t *testing.T) {
	withoutRace(t)
	for _, x := range []struct {
		lanes        string
		delay, queue time.Duration
		change       []func(*narrows)
	}{
		{"direct", 40 * ms, 100 * ms, []func(*narrows){unreported}},
		{"windowed", 40 * ms, 100 * ms, []func(*narrows){unreported, windowed}},
	} {
		t.Run(fmt.Sprintf("%s %v %v", x.lanes, 2*x.delay, x.queue), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				path := testnet.Link{Delay: x.delay}
				n, stepped := steppedDown(t, path, x.queue, x.change...)
				n.watch(8 * time.Second)
				y := n.tally(stepped)
				t.Logf("p99 from 2 s after the bottleneck began: %v", y.p99)
				require.Greater(t, y.video, 5e6)
				require.Less(t, y.p99, 150*ms)
				n.set(path)
				n.watch(7 * time.Second)
				require.Zero(t, n.status().Withheld)
				n.finish()
				require.LessOrEqual(t, n.silence(), 45, "half a percent, as the queue overflows")
			})
		})
	}
}

// report lets node b report, or stops it.
func (n *narrows) report(on bool) {
	n.b.mu.Lock()
	defer n.b.mu.Unlock()
	f := features
	if !on {
		f &^= uint32(cascadepb.Feature_FEATURE_RATE)
	}
	n.b.peers["a"].link.features.Store(f)
}

// Reports that stop while media flows: before a bottleneck, or in it.
func TestReportsStop(t *testing.T) {
	withoutRace(t)
	for _, in := range []bool{false, true} {
		t.Run(fmt.Sprintf("in the bottleneck %v", in), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				path := testnet.Link{Delay: 40 * ms}
				n := newNarrows(t, path, 1)
				n.conference(8)
				time.Sleep(2 * time.Second)
				n.produce()
				n.watch(2 * time.Second)
				n.report(in)
				n.watch(2 * time.Second)
				require.Zero(t, n.status().Withheld)
				narrow := path
				narrow.Rate, narrow.Queue = 10e6, 100*ms
				n.set(narrow)
				n.watch(2 * time.Second)
				stepped := time.Now()
				require.Positive(t, n.status().Withheld)
				n.watch(2 * time.Second)
				n.report(false)
				n.watch(8 * time.Second)
				x := n.tally(stepped)
				require.Greater(t, x.video, 5e6)
				require.Less(t, x.p99, 100*ms)
				n.set(path)
				n.watch(6 * time.Second)
				require.Zero(t, n.status().Withheld, "all layers again")
				n.report(true)
				n.watch(time.Second)
				n.set(narrow)
				n.watch(2 * time.Second)
				require.Positive(t, n.status().Withheld)
				stepped = time.Now()
				n.watch(4 * time.Second)
				x = n.tally(stepped)
				require.Greater(t, x.video, 5e6)
				require.Less(t, x.p99, 100*ms)
				n.finish()
				require.LessOrEqual(t, n.silence(), 5, "of 11,000 audio packets")
			})
		})
	}
}

// Few lanes over a lossy path: their windows are what limits, not the path.
func TestWindowsLimit(t *testing.T) {
	withoutRace(t)
	const runs = 3
	var dropped atomic.Uint64 // of all runs: which packet is late differs from run to run
	t.Run("runs", func(t *testing.T) {
		for run := range runs {
			t.Run(strconv.Itoa(run), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) { dropped.Add(windowsLimit(t)) })
			})
		}
	})
	require.Less(t, dropped.Load(), uint64(800*runs), "of 8000 each: a tenth")
}

// windowsLimit returns how many packets came too late for the windows, once these had shrunk.
func windowsLimit(t *testing.T) uint64 {
	path := testnet.Link{Delay: 75 * ms, Loss: 0.005}
	n := newNarrows(t, path, 1, windowed, func(n *narrows) { n.cfg.MaxLanes = 8 })
	n.conference(8)
	time.Sleep(2 * time.Second)
	n.produce()
	n.watch(7 * time.Second) // windows shrink for five of them
	from, before := time.Now(), n.status().Drops["expired"]
	n.watch(8 * time.Second)
	require.Positive(t, n.status().Withheld, "video stepped down")
	require.Greater(t, n.tally(from).video, 5e6)
	dropped := n.status().Drops["expired"] - before
	n.set(testnet.Link{Delay: 10 * ms})
	n.watch(10 * time.Second)
	require.Zero(t, n.status().Withheld, "windows have grown")
	n.finish()
	require.LessOrEqual(t, n.silence(), 5, "of 10,000 audio packets, after repair of the path's loss")
	return dropped
}

// What an ocean loses is no reason to send less.
func TestNoStepDownOverAnOcean(t *testing.T) {
	withoutRace(t)
	for _, x := range []struct {
		lanes       string
		rtt         time.Duration
		loss, burst float64
		people      int
		change      []func(*narrows)
	}{
		{"direct", 150 * ms, 0.02, 1, 8, nil},
		{"direct", 150 * ms, 0.05, 4, 8, nil},
		{"direct", 250 * ms, 0.01, 1, 24, nil},
		{"windowed", 150 * ms, 0.02, 1, 8, []func(*narrows){windowed}},
	} {
		t.Run(fmt.Sprintf("%s %v %.0f%% in bursts of %.0f, %d people", x.lanes, x.rtt, 100*x.loss, x.burst, x.people), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				path := testnet.Link{Delay: x.rtt / 2, Loss: x.loss, Burst: x.burst}
				n := newNarrows(t, path, 3, x.change...)
				n.conference(x.people)
				time.Sleep(3 * time.Second)
				n.produce()
				n.watch(wanSeconds(t, 5))
				t.Logf("%+v", n.status().Drops)
				require.Zero(t, n.status().Withheld)
				if x.lanes == "direct" { // windows of lanes that are still being dialled may have been too few
					require.Equal(t, "unlimited", n.status().Rate.State)
				}
			})
		})
	}
}

// Beside a bulk flow of QUIC's (Reno) on a shared bottleneck neither starves: RFC 8836 §2.
func TestSharesBottleneckWithBulk(t *testing.T) {
	withoutRace(t)
	for _, x := range []struct{ rtt, queue time.Duration }{{40 * ms, 50 * ms}, {150 * ms, 200 * ms}} {
		t.Run(fmt.Sprintf("%v, queue %v", x.rtt, x.queue), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNarrows(t, testnet.Link{Delay: x.rtt / 2, Rate: 20e6, Queue: x.queue}, 1)
				n.conference(8)
				time.Sleep(2 * time.Second)
				n.produce()
				n.watch(3 * time.Second)
				got := n.bulk()
				n.watch(5 * time.Second) // both find their place
				from, before, wire := time.Now(), got(), n.status().wire
				n.watch(2 * max(10*time.Second, wanSeconds(t, 5)))
				past := time.Since(from).Seconds()
				bulk, link := 8*float64(got()-before)/past, 8*float64(n.status().wire-wire)/past
				media := n.tally(from)
				t.Logf("link %.1f %% sent (media %.1f %% arrived), bulk %.1f %% of 20 Mbit/s; p99 %v", link/20e4, (media.audio+media.video)/20e4, bulk/20e4, media.p99)
				require.Greater(t, bulk, 2e6)
				require.Greater(t, link, 2e6)
			})
		})
	}
}
