package trunk

import "time"

// What it takes for a stream to be back after a bottleneck.
const (
	courseStep  = 50 * time.Millisecond
	courseSpan  = 500 * time.Millisecond // for so long
	courseShare = 0.9                    // of its packets arrive, all of its layers that is
)

// courseReport is what a receiver saw of a bottleneck that came and went.
type courseReport struct {
	Audio    count         `json:"audio"` // sent while it was there
	Offered  uint64        `json:"offered"`
	Recovery time.Duration `json:"recovery"` // from its end until every stream was back; negative: never in the counted time
}

// course follows every packet of a workload.
type course struct {
	at       [][]time.Duration // when each is due since the counted time began, by stream and counter
	delays   [][]time.Duration // of what arrived; 0 for the rest
	duration time.Duration
}

func newCourse(c Cell, warmup time.Duration, seed uint64) *course {
	load := newWorkload(c.Rate, seed)
	k := &course{at: make([][]time.Duration, len(load.streams)), delays: make([][]time.Duration, len(load.streams)), duration: c.Duration}
	for load.peek() < warmup+c.Duration {
		ev := load.take()
		k.at[ev.stream] = append(k.at[ev.stream], ev.at-warmup)
	}
	for i, at := range k.at {
		k.delays[i] = make([]time.Duration, len(at))
	}
	return k
}

// arrived takes a packet, the first time it arrives.
func (k *course) arrived(stream int, counter uint32, delay time.Duration) {
	if int(counter) < len(k.delays[stream]) {
		k.delays[stream][counter] = max(delay, 1)
	}
}

// report tells of the bottleneck of a cell. Limits are as for the meter.
func (k *course) report(c Cell, audio []bool, inTime, late time.Duration) *courseReport {
	r := new(courseReport)
	for stream, at := range k.at {
		if !audio[stream] {
			continue
		}
		for i, t := range at {
			if t < c.BottleneckFrom || t >= c.BottleneckTo {
				continue
			}
			r.Offered++
			if d := k.delays[stream][i]; d > 0 {
				r.Audio.add(d, inTime, late)
			}
		}
	}
	for stream := range k.at {
		back := k.back(stream, c.BottleneckTo, late)
		if back < 0 {
			r.Recovery = -1
			return r
		}
		r.Recovery = max(r.Recovery, back)
	}
	return r
}

// back is how long after a moment a stream is whole again.
func (k *course) back(stream int, since, late time.Duration) time.Duration {
	for from := since; from+courseSpan <= k.duration; from += courseStep {
		offered, arrived := 0, 0
		for i, t := range k.at[stream] {
			if t < from || t >= from+courseSpan {
				continue
			}
			offered++
			if d := k.delays[stream][i]; d > 0 && d <= late {
				arrived++
			}
		}
		if offered > 0 && float64(arrived) >= courseShare*float64(offered) {
			return from - since
		}
	}
	return -1
}
