package trunk

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"
)

// What runs at the same time takes half of the machine's processors at most: waking up in time is what is measured.
const busyShare = 0.5

// weight is how many processors a cell keeps busy, about, whoever runs: waking up, and packets.
func (c Cell) weight() float64 { return 0.07 + float64(c.Rate)/65e6 }

// RunAll measures cells, the most demanding first, as many at a time as leave half of the machine idle, and again, alone, the
// contestants that the machine disturbed. It calls each with a cell's index and result as they come, and never two of
// progress and each at a time; of two results of a cell the later one is the better one. It returns the first error of Run.
func (b *Bench) RunAll(ctx context.Context, cells []Cell, progress Progress, each func(int, Result)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var mu sync.Mutex // one call out at a time
	tell := func(what string, takes time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		if progress != nil {
			progress(what, takes)
		}
	}
	came := func(i int, r Result) {
		mu.Lock()
		defer mu.Unlock()
		each(i, r)
	}
	for _, c := range cells { // alone, before all others
		if err := c.Validate(); err != nil {
			return err
		}
		if _, err := b.baseline(ctx, c, tell); err != nil {
			return err
		}
	}
	type outcome struct {
		cell int
		res  Result
		err  error
	}
	done := make(chan outcome)
	used, running := 0.0, 0
	var failed error
	disturbed := make(map[int]*Result)
	finish := func() {
		o := <-done
		running--
		used -= cells[o.cell].weight()
		switch {
		case o.err != nil && failed == nil:
			failed = o.err
			cancel() // the others end soon
		case o.err == nil:
			if o.res.Disturbed {
				disturbed[o.cell] = &o.res
			}
			came(o.cell, o.res)
		}
	}
	for _, i := range heaviestFirst(cells) {
		for running > 0 && (failed != nil || used+cells[i].weight() > b.capacity()) {
			finish()
		}
		if failed != nil {
			break
		}
		used += cells[i].weight()
		beside := running
		running++
		go func() {
			res, err := b.once(ctx, cells[i], tell)
			res.Beside = beside
			done <- outcome{i, res, err}
		}()
	}
	for running > 0 {
		finish()
	}
	if failed != nil {
		return failed
	}
	for _, i := range slices.Sorted(maps.Keys(disturbed)) {
		res := disturbed[i].clone()
		if err := b.again(ctx, &res, tell); err != nil {
			return err
		}
		came(i, res)
	}
	return nil
}

// clone is a copy whose outcomes may be replaced.
func (r *Result) clone() Result {
	c := *r
	c.Outcomes = maps.Clone(r.Outcomes)
	return c
}

// capacity is how much weight may run at the same time.
func (b *Bench) capacity() float64 { return busyShare * float64(b.cpus) }

// heaviestFirst returns the indices of cells in the order in which they run.
func heaviestFirst(cells []Cell) []int {
	order := make([]int, len(cells))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int { return int(cells[j].Rate - cells[i].Rate) })
	return order
}

// TakesAll is about how long RunAll takes for cells, if none is disturbed.
func (b *Bench) TakesAll(cells []Cell) time.Duration {
	var now, end time.Duration
	baselines := make(map[int64]bool)
	for _, c := range cells {
		if !baselines[c.Rate] {
			baselines[c.Rate] = true
			now += b.baselineTakes(c)
		}
	}
	type run struct {
		until  time.Duration
		weight float64
	}
	var running []run
	used := 0.0
	for _, i := range heaviestFirst(cells) {
		for len(running) > 0 && used+cells[i].weight() > b.capacity() {
			first := slices.IndexFunc(running, func(r run) bool {
				return !slices.ContainsFunc(running, func(s run) bool { return s.until < r.until })
			})
			now = running[first].until
			used -= running[first].weight
			running = slices.Delete(running, first, first+1)
		}
		r := run{now + time.Duration(len(b.cfg.Contestants))*b.takes(cells[i]), cells[i].weight()}
		running, used, end = append(running, r), used+r.weight, max(end, r.until)
	}
	return max(now, end)
}
