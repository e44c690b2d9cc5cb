package trunk

import (
	"context"
	"sync"
	"time"
)

// Null is no contestant: it costs what the harness does, the pace, the building of packets and the counting of those that arrive.
const Null = "null"

// nullSending sends nothing.
type nullSending struct{ count counters }

func (s *nullSending) ready(context.Context) error { return nil }

func (s *nullSending) send(_ *event, raw []byte) {
	s.count.Packets++
	s.count.Bytes += uint64(len(raw))
}

func (s *nullSending) counters() counters { return s.count }
func (s *nullSending) close()             {}

// nullStep is how often the meter is fed: so seldom that the waking is nothing.
const nullStep = 100 * time.Millisecond

// nullReceiving gives the meter all packets of the workload, out of nothing.
type nullReceiving struct {
	meter  *meter
	load   *workload
	clock  clock
	job    *job
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

func newNullReceiving(j *job, load *workload, m *meter, c clock) *nullReceiving {
	return &nullReceiving{meter: m, load: load, clock: c, job: j, cancel: func() {}}
}

func (r *nullReceiving) ready(context.Context) error { return nil }

// begin feeds the meter from now on.
func (r *nullReceiving) begin(ctx context.Context, start int64) {
	ctx, r.cancel = context.WithCancel(ctx)
	from := r.job.Warmup
	to := from + r.job.Cell.Duration
	r.wg.Go(func() {
		tick := time.NewTicker(nullStep)
		defer tick.Stop()
		b := make([]byte, 2048)
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			for now := r.clock.now() - start; r.load.peek() <= time.Duration(now); {
				ev := r.load.take()
				raw := b[:ev.bytes]
				stamp{counted: ev.at >= from && ev.at < to, stream: ev.stream, counter: ev.counter, sent: start + int64(ev.at)}.put(raw[ev.bytes-stampBytes:])
				r.meter.packet(raw, r.clock.now())
			}
		}
	})
}

func (r *nullReceiving) counters() counters { return counters{} }

func (r *nullReceiving) close() {
	r.cancel()
	r.wg.Wait()
}
