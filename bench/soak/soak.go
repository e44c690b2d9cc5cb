package soak

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/meridian-sfu/meridian/cascade"
	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/rtpstream"
)

const maxSubscriptions = 30

// Soak is one run.
type Soak struct {
	cfg Config
	log *slog.Logger

	nodes     []*node
	publisher publisher
	seen      counter
	rnd       *rand.Rand
	subs      []subscription
	blocked   bool
	relayed   []*cascade.RemoteSource // what b hands on to c
}

// subscription is somebody who watches.
type subscription struct {
	remote *cascade.RemoteSource
	sub    *rtpstream.Subscription
}

// New returns a soak that starts nothing.
func New(cfg Config, log *slog.Logger) (*Soak, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Soak{cfg: cfg, log: log, rnd: rand.New(rand.NewPCG(cfg.Seed, 1))}, nil
}

// Run goes through all of it, calling progress with each sample. When ctx ends before, it returns what there is and
// ctx's error. It may be called once.
func (s *Soak) Run(ctx context.Context, progress func(Sample)) (Result, error) {
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	var err error
	if s.nodes, err = startNodes(running, s.cfg, []mesh.NodeID{"a", "b", "c"}, s.log, &wg); err != nil {
		return Result{}, err
	}
	s.publish()
	wg.Go(func() { s.publisher.run(running) })
	defer s.leaveAll()

	var res Result
	start := time.Now()
	churn, sample := time.NewTicker(s.cfg.Churn), time.NewTicker(s.cfg.every())
	defer churn.Stop()
	defer sample.Stop()
	for time.Since(start) < s.cfg.Duration {
		select {
		case <-ctx.Done():
			return res, ctx.Err()
		case <-churn.C:
			s.change()
		case <-sample.C:
			now := s.sample()
			now.At = time.Since(start)
			res.Samples = append(res.Samples, now)
			progress(now)
		}
	}
	return res, s.verdict(res)
}

func (s *Soak) verdict(res Result) error {
	var errs []error
	for _, g := range res.Growth() {
		errs = append(errs, fmt.Errorf("soak: growth of %s", g))
	}
	if s.seen.n.Load() < s.publisher.sent.Load()/20 {
		errs = append(errs, errors.New("soak: hardly anything arrived"))
	}
	return errors.Join(errs...)
}

// publish gives every node two cameras and a microphone, and lets b hand on what a publishes.
func (s *Soak) publish() {
	for _, n := range s.nodes {
		for i, name := range []string{"mic", "cam", "screen"} {
			p := &publication{id: mesh.SourceID("TR_" + name + "_" + string(n.id)), node: n, audio: i == 0, gap: audioGap}
			if !p.audio {
				p.gap = time.Duration(2 * videoBytes * 8 * int64(time.Second) / s.cfg.Rate)
			}
			p.begin()
			s.publisher.all = append(s.publisher.all, p)
			if n == s.nodes[0] {
				r := s.nodes[1].cascade.Remote(room, p.mesh(), n.id)
				s.relayed = append(s.relayed, r)
				s.nodes[1].offer(p.id, r.Media())
			}
		}
	}
}

// change does one thing.
func (s *Soak) change() {
	if s.blocked { // a black hole lasts until the next change or the one after
		s.blocked = s.rnd.IntN(2) == 0
		if !s.blocked {
			for _, n := range s.nodes {
				n.wan.Heal()
			}
		}
	}
	n := s.nodes[s.rnd.IntN(len(s.nodes))]
	switch s.rnd.IntN(20) {
	case 0:
		s.publisher.all[s.rnd.IntN(len(s.publisher.all))].begin()
	case 1, 2:
		if err := n.paths(s.nodes, s.cfg, s.rnd.Float64()*s.cfg.Loss); err != nil {
			s.log.Error("path not changed", "node", n.id, "err", err)
		}
	case 3:
		s.blocked = true
		n.wan.Block(s.nodes[s.rnd.IntN(len(s.nodes))].addr)
	case 4, 5, 6, 7:
		if len(s.subs) > 0 {
			s.leave(s.rnd.IntN(len(s.subs)))
		}
	case 8, 9:
		if len(s.subs) > 0 {
			s.subs[s.rnd.IntN(len(s.subs))].sub.SetDemand(rtpstream.UpTo(
				rtpstream.EncodingSet(s.rnd.IntN(2)), rtpstream.Layers{Temporal: uint8(s.rnd.IntN(4))},
			))
		}
	default:
		s.join(n)
	}
}

func (s *Soak) join(n *node) {
	p := s.publisher.all[s.rnd.IntN(len(s.publisher.all))]
	if p.node == n || len(s.subs) >= maxSubscriptions {
		return
	}
	from := p.node.id
	if n == s.nodes[2] && p.node == s.nodes[0] && s.rnd.IntN(2) == 0 {
		from = s.nodes[1].id // over two hops
	}
	r := n.cascade.Remote(room, p.mesh(), from)
	sub := r.Media().Subscribe(&s.seen)
	sub.SetDemand(rtpstream.Everything(1))
	s.subs = append(s.subs, subscription{r, sub})
}

func (s *Soak) leave(i int) {
	s.subs[i].sub.Close()
	s.subs[i].remote.Close()
	s.subs = slices.Delete(s.subs, i, i+1)
}

func (s *Soak) leaveAll() {
	for len(s.subs) > 0 {
		s.leave(0)
	}
	for _, r := range s.relayed {
		r.Close()
	}
}

func (s *Soak) sample() Sample {
	now := process()
	now.Sent, now.Arrived = s.publisher.sent.Load(), s.seen.n.Load()
	for _, n := range s.nodes {
		for _, l := range n.cascade.Links() {
			now.Lanes += l.Lanes
			now.Flows += len(l.Flows)
			now.Lost += l.Lost
		}
	}
	return now
}
