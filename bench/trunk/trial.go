package trunk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

// trial runs one contestant through one cell.
func (b *Bench) trial(ctx context.Context, name string, cell Cell) (*trial, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	j := job{Contestant: name, Cell: cell, Warmup: b.cfg.Warmup, Seed: b.cfg.Seed, Emulate: !b.cfg.Bare && name != Null}
	oj, rj, sj := j, j, j
	oj.Role, rj.Role, sj.Role = roleOcean, roleReceiver, roleSender
	oj.Pulse = true
	var err error
	if rj.Credentials, err = issue(b.ca, receiverID); err != nil {
		return nil, err
	}
	if sj.Credentials, err = issue(b.ca, senderID); err != nil {
		return nil, err
	}
	woken, waker, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("trunk: the sender's pulse: %w", err)
	}
	defer func() { _, _ = woken.Close(), waker.Close() }()
	how := start{command: b.cfg.Command, nice: b.cfg.Nice, cpu: -1}
	first, second := b.places()
	oh, rh, sh := how, how, how
	oh.pulse, sh.pulse = waker, woken
	sh.cpu, rh.cpu = first, second
	o, err := startProcess(ctx, oh, &oj)
	if err != nil {
		return nil, err
	}
	defer o.stop()
	r, err := startProcess(ctx, rh, &rj)
	if err != nil {
		return nil, err
	}
	defer r.stop()
	s, err := startProcess(ctx, sh, &sj)
	if err != nil {
		return nil, err
	}
	defer s.stop()
	if err := introduce(ctx, o, r, s); err != nil {
		return nil, err
	}
	return b.measure(ctx, cell, o, r, s)
}

// measure lets a trial begin, and hears how it went.
func (b *Bench) measure(ctx context.Context, cell Cell, o, r, s *process) (*trial, error) {
	dog := b.watching()
	begin := (dog.clock.now()/int64(grid) + 1) * int64(grid)
	begin += int64(200 * time.Millisecond)
	now := order{Start: begin}
	if err := errors.Join(o.tell(now), r.tell(now), s.tell(now)); err != nil {
		return nil, err
	}
	stolen := readSteal()
	t := &trial{cell: cell}
	patience := b.cfg.Warmup + cell.Duration + 5*cell.RTT + 20*time.Second
	for _, p := range []struct {
		process *process
		into    **report
	}{{s, &t.sender}, {r, &t.receiver}, {o, &t.ocean}} {
		m, err := p.process.hear(ctx, patience)
		if err != nil {
			return nil, err
		}
		if m.Report == nil || (p.process == o) != (m.Report.Ocean != nil) {
			return nil, fmt.Errorf("trunk: the %s has no report", p.process.role)
		}
		*p.into = m.Report
	}
	t.stallMax, t.stallSum = dog.stood(begin, dog.clock.now())
	t.steal = readSteal() - stolen
	return t, nil
}

// introduce tells each process where the others are and returns when all are ready. Without an ocean, or if it carries nothing, the
// nodes are next to each other.
func introduce(ctx context.Context, o, r, s *process) error {
	var receiver, sender, ocean message
	for _, p := range []struct {
		process *process
		into    *message
	}{{r, &receiver}, {s, &sender}, {o, &ocean}} {
		if p.process == nil {
			continue
		}
		m, err := p.process.hear(ctx, setupTimeout)
		if err != nil {
			return err
		}
		*p.into = m
	}
	forReceiver, forSender := order{Peer: sender.Listening}, order{Peer: receiver.Listening}
	if ocean.Listening.IsValid() {
		forReceiver.Peer, forSender.Peer = ocean.Other, ocean.Listening
	}
	if o != nil { // before anything comes
		if err := o.tell(order{Peer: sender.Listening, Other: receiver.Listening}); err != nil {
			return err
		}
		if _, err := o.hear(ctx, setupTimeout); err != nil {
			return err
		}
	}
	if err := errors.Join(r.tell(forReceiver), s.tell(forSender)); err != nil {
		return err
	}
	for _, p := range []*process{r, s} {
		if _, err := p.hear(ctx, setupTimeout+5*time.Second); err != nil {
			return err
		}
	}
	return nil
}

// places are the processors of the next sender and receiver; negative: anywhere.
func (b *Bench) places() (sender, receiver int) {
	cpus := processors()
	if len(cpus) < 2 {
		return -1, -1
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	first := b.turn
	b.turn = (b.turn + 2) % (len(cpus) / 2 * 2)
	return cpus[first%len(cpus)], cpus[(first+1)%len(cpus)]
}
