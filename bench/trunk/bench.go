package trunk

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/meridian-sfu/meridian/internal/meshnet"
)

// Config says how a bench runs its cells.
type Config struct {
	Command     []string      // the program and arguments that run Node; no default
	Seed        uint64        // of the traffic and of what is lost; default 1
	Warmup      time.Duration // not counted, before the counted time; default 1 s
	Contestants []string      // who runs; default all
	Nice        int           // scheduling priority of the node processes, -20 (first) to 19; below 0 needs root; default 0
	Attempts    int           // trials of a contestant in a cell at most, when the machine disturbs them, 1 to 10; default 3
	Bare        bool          // no emulation, a real socket for everyone: cells must ask for no RTT, loss, jitter or bottleneck
}

// DefaultConfig returns the values named at each field.
func DefaultConfig() Config {
	return Config{Seed: 1, Warmup: time.Second, Contestants: Contestants, Attempts: 3}
}

// Validate returns all problems of c, joined.
func (c Config) Validate() error {
	var errs []error
	if len(c.Command) == 0 {
		errs = append(errs, errors.New("trunk: no command for node processes"))
	}
	if c.Nice < -20 || c.Nice > 19 {
		errs = append(errs, fmt.Errorf("trunk: nice is %d, must be -20 to 19", c.Nice))
	}
	if c.Attempts < 1 || c.Attempts > 10 {
		errs = append(errs, fmt.Errorf("trunk: attempts are %d, must be 1 to 10", c.Attempts))
	}
	if c.Warmup < 0 || c.Warmup > time.Minute {
		errs = append(errs, fmt.Errorf("trunk: warm-up is %v, must be 0 to 1m", c.Warmup))
	}
	if len(c.Contestants) == 0 {
		errs = append(errs, errors.New("trunk: no contestants"))
	}
	for _, name := range c.Contestants {
		if !slices.Contains(Contestants, name) {
			errs = append(errs, fmt.Errorf("trunk: no contestant is called %q: there are %v", name, Contestants))
		}
	}
	return errors.Join(errs...)
}

// Progress is called with what the bench does now, before it does it, and how long that takes. It may be nil.
type Progress func(what string, takes time.Duration)

// ErrBare is a cell with conditions for a bench without emulation.
var ErrBare = errors.New("trunk: without emulation there is no RTT, loss, jitter or bottleneck")

// Bench runs cells. Run and RunAll are not to be called concurrently.
type Bench struct {
	cfg  Config
	ca   *meshnet.CA
	cpus int

	mu        sync.Mutex
	baselines map[int64]Baseline // guarded by mu; by rate: what a packet costs does not depend on how long it takes
	dog       *watchdog          // guarded by mu; runs while watchers is not 0
	watchers  int                // guarded by mu
	turn      int                // guarded by mu; which processors come next
}

// Baselines are counted so long at most, over a path no longer than this.
const (
	baselineTime = 5 * time.Second
	baselineRTT  = 20 * time.Millisecond
)

// New returns a bench. Nothing is started.
func New(cfg Config) (*Bench, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	ca, err := meshnet.NewCA("trunk bench", 24*time.Hour)
	if err != nil {
		return nil, err
	}
	return &Bench{cfg: cfg, ca: ca, cpus: runtime.NumCPU(), baselines: make(map[int64]Baseline)}, nil
}

// Takes is about how long Run takes for a cell, with the baseline if it was not measured yet.
func (b *Bench) Takes(c Cell) time.Duration {
	return b.baselineTakes(c) + time.Duration(len(b.cfg.Contestants))*b.takes(c)
}

// baselineTakes is how long the baseline of a cell takes, 0 when it is known.
func (b *Bench) baselineTakes(c Cell) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, known := b.baselines[c.Rate]; known {
		return 0
	}
	return b.takes(baselineCell(c))
}

func (b *Bench) takes(c Cell) time.Duration {
	return 1200*time.Millisecond + 8*c.RTT + b.cfg.Warmup + c.Duration + straggle // connecting takes round trips
}

// Run measures one cell with every contestant, and again those whose trials the machine disturbed. A contestant that fails says so in its outcome, and the others run all the
// same; the error is of ctx, or of a cell or a machine that cannot be measured.
func (b *Bench) Run(ctx context.Context, cell Cell, progress Progress) (Result, error) {
	if progress == nil {
		progress = func(string, time.Duration) {}
	}
	res, err := b.once(ctx, cell, progress)
	if err != nil {
		return Result{}, err
	}
	return res, b.again(ctx, &res, progress)
}

// once measures every contestant once.
func (b *Bench) once(ctx context.Context, cell Cell, progress Progress) (Result, error) {
	if err := cell.Validate(); err != nil {
		return Result{}, fmt.Errorf("trunk: %w", err)
	}
	if b.cfg.Bare && !cell.empty() {
		return Result{}, ErrBare
	}
	res := Result{
		Cell: cell, Bare: b.cfg.Bare, Time: time.Now().UTC().Truncate(time.Second), Seed: b.cfg.Seed, Warmup: b.cfg.Warmup.Seconds(),
		CPUs: runtime.NumCPU(), LoadBefore: loadAverage(), Outcomes: make(map[string]*Outcome),
	}
	began := time.Now()
	var err error
	if res.Baseline, err = b.baseline(ctx, cell, progress); err != nil {
		return Result{}, err
	}
	stop, err := b.watch()
	if err != nil {
		return Result{}, err
	}
	defer stop()
	for _, name := range b.cfg.Contestants {
		progress(fmt.Sprintf("%v: %s", cell, name), b.takes(cell))
		if res.Outcomes[name], err = b.attempt(ctx, name, cell, res.Baseline); err != nil {
			return Result{}, err
		}
	}
	res.judge()
	res.LoadAfter, res.Took = loadAverage(), time.Since(began).Seconds()
	return res, nil
}

// baseline measures what the harness itself takes. It is measured once for a rate, and again if the machine disturbed it.
func (b *Bench) baseline(ctx context.Context, cell Cell, progress Progress) (Baseline, error) {
	b.mu.Lock()
	base, known := b.baselines[cell.Rate]
	b.mu.Unlock()
	if known {
		return base, nil
	}
	stop, err := b.watch()
	if err != nil {
		return base, err
	}
	defer stop()
	cell = baselineCell(cell)
	least := -1.0
	for range b.cfg.Attempts {
		progress(fmt.Sprintf("%s: what the harness costs", RateName(cell.Rate)), b.takes(cell))
		t, err := b.trial(ctx, Null, cell)
		if err != nil {
			return base, fmt.Errorf("trunk: baseline: %w", err)
		}
		o := t.outcome(Baseline{}, true)
		o.Disturbed = o.disturbed(Null, cell)
		if harm := o.harm(); least < 0 || harm < least {
			least, base = harm, t.harness()
			base.Disturbed = o.Disturbed
		}
		if !o.Disturbed {
			break
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.baselines[cell.Rate] = base
	return base, nil
}

// baselineCell is where a cell's baseline is measured.
func baselineCell(c Cell) Cell {
	c = c.clean()
	c.RTT = min(c.RTT, baselineRTT)
	c.Duration = min(c.Duration, baselineTime)
	return c
}
