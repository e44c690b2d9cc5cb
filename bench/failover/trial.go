package failover

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/meridian-sfu/meridian/cascade/route"
	"github.com/meridian-sfu/meridian/cascade/upstream"
	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

// Scenario is what fails.
type Scenario string

// The scenarios.
const (
	BlackHole Scenario = "blackhole" // the direct path between origin and watcher swallows everything; later it is well again
	Gateway   Scenario = "gateway"   // the region's gateway is killed, which the watcher's node pulls from
	Relay     Scenario = "relay"     // the node is killed that stands in for a dead direct path
)

// Scenarios are all of them.
var Scenarios = []Scenario{BlackHole, Gateway, Relay}

func (s Scenario) nodes() []mesh.NodeID {
	switch s {
	case Gateway:
		return []mesh.NodeID{origin, watcher, neighbour}
	case Relay:
		return []mesh.NodeID{origin, watcher, relayB, relayD}
	case BlackHole:
	}
	return []mesh.NodeID{origin, watcher, relayB}
}

// Config is what is tried.
type Config struct {
	Scenario       Scenario
	Trials         int           // 1 to 10000; default 50
	Parallel       int           // at once; default 10
	Seed           uint64        // of round trips and moments; default 1
	MinRTT, MaxRTT time.Duration // between two regions, drawn evenly; default 40 ms and 150 ms
	Jitter         time.Duration // up to, one way, evenly; default 2 ms
	Loss           float64       // share of packets lost on every path; default 0
	Outage         time.Duration // how long a path stays dead; default 2 s
}

// DefaultConfig returns the defaults named at each field, for the black hole.
func DefaultConfig() Config {
	return Config{
		Scenario: BlackHole, Trials: 50, Parallel: 10, Seed: 1, MinRTT: 40 * time.Millisecond, MaxRTT: 150 * time.Millisecond,
		Jitter: 2 * time.Millisecond, Outage: 2 * time.Second,
	}
}

// Validate returns every problem of the configuration, joined.
func (c Config) Validate() error {
	var errs []error
	bad := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("failover: "+format, args...))
		}
	}
	known := false
	for _, s := range Scenarios {
		known = known || s == c.Scenario
	}
	bad(known, "scenario is %q, must be one of %v", c.Scenario, Scenarios)
	bad(c.Trials >= 1 && c.Trials <= 10000, "trials is %d, must be 1 to 10000", c.Trials)
	bad(c.Parallel >= 1 && c.Parallel <= 1000, "parallel is %d, must be 1 to 1000", c.Parallel)
	bad(c.MinRTT > 0 && c.MinRTT <= c.MaxRTT && c.MaxRTT <= 2*time.Second, "round trips from %s to %s make no sense", c.MinRTT, c.MaxRTT)
	bad(c.Jitter >= 0 && c.Jitter <= 100*time.Millisecond, "jitter is %s, must be 0 to 100ms", c.Jitter)
	bad(c.Loss >= 0 && c.Loss <= 0.2, "loss is %v, must be a share up to 0.2", c.Loss)
	bad(c.Outage >= time.Second && c.Outage <= time.Minute, "outage is %s, must be 1s to 1m", c.Outage)
	return errors.Join(errs...)
}

// Outcome is one trial. Times are in milliseconds.
type Outcome struct {
	Seed       uint64  `json:"seed"`
	DirectRTT  float64 `json:"direct_rtt_ms"` // between origin and watcher
	AroundRTT  float64 `json:"around_rtt_ms"` // over the best third region; 0 where there is none
	Twin       bool    `json:"twin"`          // audio came by both when it failed
	Video      float64 `json:"video_gap_ms"`
	Audio      float64 `json:"audio_gap_ms"`
	Picture    float64 `json:"picture_ms"` // until a keyframe began to come; 0 is never within the outage
	Returned   bool    `json:"returned"`   // to the way before the failure
	BackVideo  float64 `json:"back_video_gap_ms"`
	BackAudio  float64 `json:"back_audio_gap_ms"`
	ReturnedIn float64 `json:"returned_after_ms"` // the path was well again
	Late       float64 `json:"machine_late_ms"`   // what the machine was late with a frame, at most
}

const (
	settleTime = 2 * time.Second  // after the first packets, before the failure
	setupTime  = 20 * time.Second // at most until then
	backTime   = 12 * time.Second // in which the old way must be in use again
	polling    = 20 * time.Millisecond
	maxLate    = 15 * time.Millisecond // beyond that a trial says more of the machine than of the mesh

	room mesh.RoomName = "room"
)

// trial is one world with its media.
type trial struct {
	*world
	cfg          *Config
	rnd          *rand.Rand
	video, audio *feed
	tv, speaker  sink
	watches      map[*feed]*rtpstream.Source
}

// Trial runs one trial. It takes settleTime, Config.Outage and up to backTime; with BlackHole the return is watched too.
func Trial(ctx context.Context, cfg Config, seed uint64, log *slog.Logger) (o Outcome, err error) {
	if err := cfg.Validate(); err != nil {
		return o, err
	}
	ctx, cancel := context.WithCancel(ctx)
	t := &trial{cfg: &cfg, rnd: rand.New(rand.NewPCG(seed, 0x6d657368))}
	if t.world, err = newWorld(ctx, &cfg, t.rnd, log); err != nil {
		cancel()
		return o, err
	}
	defer t.close()
	defer cancel()
	o = Outcome{Seed: seed, DirectRTT: millis(t.rtts[[2]mesh.NodeID{origin, watcher}]), AroundRTT: millis(t.around())}
	if err := t.begin(ctx); err != nil {
		return o, fmt.Errorf("trial %d: %w", seed, err)
	}
	err = t.fail(ctx, &o)
	return o, err
}

func millis(d time.Duration) float64 {
	return float64(d.Round(time.Microsecond)) / float64(time.Millisecond)
}

// around is the least round trip over a third region.
func (t *trial) around() (best time.Duration) {
	for _, id := range []mesh.NodeID{relayB, relayD} {
		if a, ok := t.rtts[[2]mesh.NodeID{origin, id}]; ok {
			if rtt := a + t.rtts[[2]mesh.NodeID{id, watcher}]; best == 0 || rtt < best {
				best = rtt
			}
		}
	}
	return best
}

// begin publishes, watches, and returns when all flows the way it should before the failure.
func (t *trial) begin(ctx context.Context) error {
	t.video, t.audio = newFeed(t.sourceID("video"), false), newFeed(t.sourceID("audio"), true)
	t.watches = map[*feed]*rtpstream.Source{}
	if t.cfg.Scenario == Relay {
		t.cut(origin, watcher)
	}
	start := time.Now().Add(time.Duration(t.rnd.Int64N(int64(frameEvery))))
	for _, f := range []*feed{t.video, t.audio} {
		t.nodes[origin].publish(f.src)
		t.nodes[origin].ended.Go(func() { f.run(ctx, start) })
		kind := mesh.Video
		out := &t.tv
		if f.src.Info.Audio {
			kind, out = mesh.Audio, &t.speaker
		}
		media := t.nodes[watcher].router.Watch(room, mesh.Source{
			ID: mesh.SourceID(f.src.Info.ID), Kind: kind, MIMEType: f.src.Info.MIMEType, ClockRate: f.src.Info.ClockRate,
			Encodings: make([]mesh.Encoding, 1),
		}, origin)
		media.Subscribe(out).SetDemand(rtpstream.Everything(1))
		t.watches[f] = media
	}
	if !t.wait(ctx, setupTime, func() bool { return t.tv.flows() && t.speaker.flows() && t.ready() }) {
		return fmt.Errorf("failover: media does not flow as it should: video %v, audio %v from %q and %q", t.tv.flows(),
			t.speaker.flows(), t.from(t.video), t.from(t.audio))
	}
	return sleep(ctx, settleTime+time.Duration(t.rnd.Int64N(int64(time.Second))))
}

// sourceID names a source so that it comes by the neighbour where there is one.
func (t *trial) sourceID(kind string) mesh.SourceID {
	for i := 0; ; i++ {
		id := mesh.SourceID(fmt.Sprintf("TR_%s%d", kind, i))
		gateway, _ := route.NewSnapshot(t.members, func(_, _ mesh.NodeID) (route.Link, bool) { return route.Link{}, false }).
			Gateway(id, mesh.Region(watcher))
		if t.cfg.Scenario != Gateway || gateway == neighbour {
			return id
		}
	}
}

// way is how a source comes to the watcher.
func (t *trial) way(f *feed) upstream.Way {
	w, _ := t.nodes[watcher].router.Way(upstream.Key{Room: room, Source: mesh.SourceID(f.src.Info.ID), Origin: origin})
	return w
}

func (t *trial) from(f *feed) mesh.NodeID { return t.way(f).From }

// ready reports whether sources come the way that is to fail.
func (t *trial) ready() bool {
	for _, f := range []*feed{t.video, t.audio} {
		from := t.from(f)
		switch t.cfg.Scenario {
		case BlackHole:
			if from != origin {
				return false
			}
		case Gateway:
			if from != neighbour {
				return false
			}
		case Relay:
			if from == origin {
				return false
			}
		}
	}
	return t.cfg.Scenario != Relay || t.from(t.video) == t.from(t.audio)
}

// fail lets it happen, and measures.
func (t *trial) fail(ctx context.Context, o *Outcome) error {
	o.Twin = t.way(t.audio).Twin
	victim := t.from(t.video)
	at := time.Now()
	t.video.late.Store(0)
	t.audio.late.Store(0)
	defer func() { o.Late = millis(time.Duration(max(t.video.late.Load(), t.audio.late.Load()))) }()
	if t.cfg.Scenario == BlackHole {
		t.cut(origin, watcher)
	} else {
		t.kill(victim)
	}
	if err := sleep(ctx, t.cfg.Outage); err != nil {
		return err
	}
	healed := time.Now()
	o.Video, o.Audio = millis(t.tv.gap(at, healed)), millis(t.speaker.gap(at, healed))
	o.Picture = millis(t.tv.picture(at))
	if t.cfg.Scenario != BlackHole {
		return nil
	}
	t.heal(origin, watcher)
	o.Returned = t.wait(ctx, backTime, t.ready)
	o.ReturnedIn = millis(time.Since(healed))
	if err := sleep(ctx, 2*time.Second); err != nil { // the way before is given up within that
		return err
	}
	o.BackVideo, o.BackAudio = millis(t.tv.gap(healed, time.Now())), millis(t.speaker.gap(healed, time.Now()))
	return nil
}

func (t *trial) wait(ctx context.Context, most time.Duration, f func() bool) bool {
	for end := time.Now().Add(most); !f(); {
		if time.Now().After(end) || sleep(ctx, polling) != nil {
			return false
		}
	}
	return true
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
