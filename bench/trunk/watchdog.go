package trunk

import (
	"runtime"
	"sync"
	"time"
)

const (
	watchEvery   = 2 * time.Millisecond  // how often each processor is looked at
	watchStall   = 10 * time.Millisecond // shorter ones are not summed
	watchNotice  = time.Millisecond      // shorter ones are not kept at all
	watchKeep    = 4096                  // stalls kept, the latest
	watchUrgency = 2                     // before the ocean
)

// stall is a time in which a processor did not run what was due and before everything else.
type stall struct{ from, to int64 }

// watchdog sees when the machine itself stands still: a thread for each processor, ahead of all others where permitted, sleeps
// for a moment again and again, and notes when a moment took longer. It knows nothing of the contestants.
type watchdog struct {
	clock clock
	stop  chan struct{}
	wg    sync.WaitGroup
	procs int // before

	mu     sync.Mutex
	stalls []stall // ring; guarded by mu
	next   int     // guarded by mu
}

func newWatchdog() (*watchdog, error) {
	c, err := newClock()
	if err != nil {
		return nil, err
	}
	w := &watchdog{clock: c, stop: make(chan struct{})}
	cpus := processors()
	if len(cpus) == 0 {
		cpus = []int{-1}
	}
	// A processor of the runtime for each sleeping thread, so that nobody takes theirs away meanwhile.
	w.procs = runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + len(cpus))
	for _, cpu := range cpus {
		w.wg.Go(func() { w.watch(cpu) })
	}
	return w, nil
}

// close ends it and waits for it.
func (w *watchdog) close() {
	close(w.stop)
	w.wg.Wait()
	runtime.GOMAXPROCS(w.procs)
}

// watch looks at one processor. It never gives its thread back, which ends with it.
func (w *watchdog) watch(cpu int) {
	runtime.LockOSThread()
	if cpu >= 0 {
		stayOn(cpu)
	}
	prefer(watchUrgency)
	for due := w.clock.now(); ; {
		select {
		case <-w.stop:
			return
		default:
		}
		due += int64(watchEvery)
		sleepUntil(due)
		now := w.clock.now()
		if now-due > int64(watchNotice) {
			w.note(stall{due, now})
		}
		due = max(due, now-int64(watchEvery))
	}
}

func (w *watchdog) note(s stall) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.stalls) < watchKeep {
		w.stalls = append(w.stalls, s)
		return
	}
	w.stalls[w.next] = s
	w.next = (w.next + 1) % watchKeep
}

// stood says how long the machine stood still at most between two moments, and in all, of what was longer than watchStall.
func (w *watchdog) stood(from, to int64) (longest, sum time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.stalls {
		if s.to < from || s.from > to {
			continue
		}
		d := time.Duration(s.to - s.from)
		longest = max(longest, d)
		if d > watchStall {
			sum += d
		}
	}
	return longest, sum
}
