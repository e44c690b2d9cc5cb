package trunk

import (
	"context"
	"fmt"
	"slices"
	"time"
)

const (
	// stallLimit is how long the machine may stand still in a trial.
	stallLimit = 20 * time.Millisecond
	// disturbedShare is the share of packets that a machine fit for measuring may hold up.
	disturbedShare = 0.0005
)

// disturbed reports whether the machine spoilt a trial: it stood still, the sender fell behind its schedule, the path was late or missed
// packets, the kernel dropped datagrams, or UDP packets came late on a path without a queue, where only the machine can be late.
func (o *Outcome) disturbed(name string, c Cell) bool {
	late := o.ResidualLoss - o.NeverArrived
	return o.StallMax > millis(stallLimit) || o.OceanLate > millis(stallLimit) || o.Behind || o.SocketDrops > 0 || o.OceanMissed ||
		name == UDP && c.Bottleneck == 0 && late > disturbedShare
}

// harm orders trials by how much the machine did to them; what the contestant delivered has no say.
func (o *Outcome) harm() float64 {
	h := max(o.StallMax, o.OceanLate) + o.StallSum + o.LateP99
	if o.SocketDrops > 0 || o.OceanMissed {
		h += 1000
	}
	if o.Disturbed {
		h += 1e6
	}
	return h
}

// attempt measures one contestant once.
func (b *Bench) attempt(ctx context.Context, name string, cell Cell, base Baseline) (*Outcome, error) {
	t, err := b.trial(ctx, name, cell)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		return &Outcome{Error: err.Error(), Attempts: 1}, nil //nolint:nilerr // of this contestant alone
	}
	o := t.outcome(base, b.cfg.Bare)
	o.Attempts, o.Disturbed = 1, o.disturbed(name, cell)
	return o, nil
}

// again repeats the trials that the machine disturbed, a few times at most, and keeps the least disturbed of each.
func (b *Bench) again(ctx context.Context, res *Result, progress Progress) error {
	stop, err := b.watch()
	if err != nil {
		return err
	}
	defer stop()
	for _, name := range b.cfg.Contestants {
		for range b.cfg.Attempts - 1 {
			o := res.Outcomes[name]
			if o == nil || !o.Disturbed {
				break
			}
			progress(fmt.Sprintf("%v: %s again, the machine disturbed it", res.Cell, name), b.takes(res.Cell))
			next, err := b.attempt(ctx, name, res.Cell, res.Baseline)
			if err != nil {
				return err
			}
			if next.Error != "" || next.harm() > o.harm() {
				next, o = o, next
			}
			next.Attempts += o.Attempts
			res.Outcomes[name] = next
		}
	}
	res.judge()
	return nil
}

// judge sets what follows from the outcomes.
func (r *Result) judge() {
	r.Disturbed = slices.ContainsFunc(Contestants, func(name string) bool {
		o := r.Outcomes[name]
		return o != nil && o.Disturbed
	})
	r.Doubts = r.doubts()
}

// watch starts the watchdog, or shares the one there is. stop is to be called once.
func (b *Bench) watch() (stop func(), err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.watchers == 0 {
		if b.dog, err = newWatchdog(); err != nil {
			return nil, err
		}
	}
	b.watchers++
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.watchers--; b.watchers == 0 {
			b.dog.close()
		}
	}, nil
}

func (b *Bench) watching() *watchdog {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.dog
}
