package load

import (
	"time"
)

// Result is what a run measured. Times are milliseconds, shares between 0 and 1.
type Result struct {
	URLs        []string `json:"urls"`
	Media       string   `json:"media"`
	Layout      string   `json:"layout"`
	Rooms       int      `json:"rooms"`
	Publishers  int      `json:"publishers"`
	Subscribers int      `json:"subscribers"` // asked for; in a run of joins, how many
	Encodings   int      `json:"encodings"`
	Duration    float64  `json:"duration_s"` // of the counted time

	SubscribersConnected int      `json:"subscribers_connected"` // got media, ever
	SubscribersFailed    int      `json:"subscribers_failed"`
	Failures             []string `json:"failures,omitempty"` // the first few

	// ForwardedPackets are the RTP packets subscribers got in the counted time.
	ForwardedPackets uint64 `json:"forwarded_packets"`
	PacketsPerSecond uint64 `json:"packets_per_second"`
	Bitrate          uint64 `json:"bitrate_bps"` // all subscribers together
	// Loss is the share of packets missing in the sequence numbers subscribers saw. Packets are asked for again until the first picture is whole, not after it.
	Loss float64 `json:"loss"`

	// CPUPerPacket is the servers' processor time for each forwarded packet, in microseconds; CPUCores how many cores that is. RSS
	// is their memory at the end, in bytes. They need the servers' PIDs and are null without.
	CPUPerPacket     *float64 `json:"cpu_us_per_packet"`
	CPUCores         *float64 `json:"cpu_cores"`
	RSS              *int64   `json:"rss_bytes"`
	RSSPerSubscriber *int64   `json:"rss_per_subscriber_bytes"` // grown since the publishers were there

	DelayP50      float64 `json:"delay_p50_ms"` // from the publisher's write to the subscriber's read
	DelayP99      float64 `json:"delay_p99_ms"`
	DelaySamples  uint64  `json:"delay_samples"`
	ConnectP50    float64 `json:"connect_p50_ms"`     // from setting out to connected media
	FirstFrameP50 float64 `json:"first_frame_p50_ms"` // from setting out to the first whole keyframe; audio: the first packet
	FirstFrameP95 float64 `json:"first_frame_p95_ms"`
	FrameAgeP50   float64 `json:"first_frame_age_p50_ms"` // how old that keyframe was: a server may have kept it
	NoFrame       int     `json:"no_frame"`               // connected, but never saw a whole keyframe

	Freezes int     `json:"freezes"`
	Frozen  float64 `json:"frozen_ms"` // sum over all subscribers

	// Keyframe requests that reached publishers in the counted time: all, the most in any 5 s to one publisher, and to one encoding
	// of one publisher. What comes at once for several encodings is one. SubscriberRequests is how many the subscribers made.
	KeyframeRequests   int            `json:"keyframe_requests"`
	KeyframeRequests5s int            `json:"keyframe_requests_max_per_5s"`
	EncodingRequests5s int            `json:"keyframe_requests_max_per_5s_and_encoding"`
	SubscriberRequests int            `json:"subscriber_keyframe_requests"`
	ByEncoding         [len(rids)]int `json:"keyframe_requests_by_encoding"` // from the lowest; one of several encodings counts in each

	// What the generator itself took for each packet, in microseconds: all of it, publishers included, and the reading thread
	// alone.
	GeneratorCPU float64 `json:"generator_cpu_us_per_packet"`
	ReaderCPU    float64 `json:"generator_reader_us_per_packet"`

	PerSubscriber []SubscriberResult `json:"per_subscriber,omitempty"`
}

// SubscriberResult is what one subscriber got in the counted time.
type SubscriberResult struct {
	Name       string  `json:"name"`
	URL        string  `json:"url"`
	Streams    int     `json:"streams"`
	Packets    uint64  `json:"packets"`
	Loss       float64 `json:"loss"`
	Bitrate    uint64  `json:"bitrate_bps"`
	DelayP50   float64 `json:"delay_p50_ms"`
	DelayP99   float64 `json:"delay_p99_ms"`
	Freezes    int     `json:"freezes"`
	Frozen     float64 `json:"frozen_ms"`
	FirstFrame float64 `json:"first_frame_ms"` // 0: none
}

// mark is what a stream had counted at some time.
type mark struct {
	received, expected, bytes uint64
	freezes                   int
	frozen                    time.Duration
}

func (x *stream) mark() mark {
	return mark{x.received, x.expected(), x.bytes, x.freezes, x.frozen}
}

func (m mark) minus(o mark) mark {
	return mark{
		m.received - o.received, m.expected - o.expected, m.bytes - o.bytes, m.freezes - o.freezes, m.frozen - o.frozen,
	}
}

func (m mark) plus(o mark) mark {
	return mark{
		m.received + o.received, m.expected + o.expected, m.bytes + o.bytes, m.freezes + o.freezes, m.frozen + o.frozen,
	}
}

func (m mark) loss() float64 {
	if m.expected == 0 || m.received >= m.expected {
		return 0
	}
	return float64(m.expected-m.received) / float64(m.expected)
}

// snapshot is what everybody had used at some time.
type snapshot struct {
	at        time.Duration
	processes process
	own       time.Duration
	reader    time.Duration
}

func (l *load) snapshot() snapshot {
	return snapshot{l.now(), readProcesses(l.sc.ServerPIDs), ownCPU(), l.reader.used()}
}

// mark begins the counted time.
func (l *load) mark() snapshot {
	for _, s := range l.all() {
		s.mu.Lock()
		s.marks = s.marks[:0]
		for _, x := range s.streams {
			s.marks = append(s.marks, x.mark())
		}
		s.delays = histogram{}
		s.mu.Unlock()
	}
	return l.snapshot()
}

// counted adds up what a subscriber got since its marks. The caller holds its lock.
func (s *subscriber) counted() mark {
	var sum mark
	for i, x := range s.streams {
		m := x.mark()
		if i < len(s.marks) {
			m = m.minus(s.marks[i])
		}
		sum = sum.plus(m)
	}
	return sum
}

// totals adds up what all subscribers got since their marks.
func (l *load) totals() mark {
	var sum mark
	for _, s := range l.all() {
		s.mu.Lock()
		sum = sum.plus(s.counted())
		s.mu.Unlock()
	}
	return sum
}

func (l *load) result(before, after snapshot) Result {
	sc := l.sc
	r := Result{
		URLs: sc.URLs, Media: sc.Media, Layout: sc.Layout, Rooms: sc.Rooms, Publishers: sc.Publishers,
		Subscribers: sc.Subscribers + sc.Joins, Encodings: sc.Encodings, Duration: (after.at - before.at).Seconds(),
	}
	l.mu.Lock()
	r.SubscribersFailed = len(l.failures)
	for _, err := range l.failures[:min(len(l.failures), 5)] {
		r.Failures = append(r.Failures, err.Error())
	}
	l.mu.Unlock()
	var sum mark
	var delays histogram
	var connects, frames, ages []time.Duration
	for _, s := range l.all() {
		s.mu.Lock()
		own := s.counted()
		sum = sum.plus(own)
		delays.merge(&s.delays)
		connects = append(connects, s.connectedAt-s.began)
		one := SubscriberResult{
			Name: s.name, URL: s.url, Streams: len(s.streams), Packets: own.received, Loss: own.loss(), Bitrate: perSecond(own.bytes*8, r.Duration),
			DelayP50: ms(s.delays.quantile(0.5)), DelayP99: ms(s.delays.quantile(0.99)), Freezes: own.freezes, Frozen: ms(own.frozen),
		}
		if s.frameAt > 0 {
			frames, ages = append(frames, s.frameAt-s.began), append(ages, s.frameAge)
			one.FirstFrame = ms(s.frameAt - s.began)
		} else {
			r.NoFrame++
		}
		r.SubscriberRequests += s.pictures
		s.mu.Unlock()
		r.PerSubscriber = append(r.PerSubscriber, one)
	}
	r.SubscribersConnected = len(r.PerSubscriber)
	r.ForwardedPackets, r.Loss, r.Freezes, r.Frozen = sum.received, sum.loss(), sum.freezes, ms(sum.frozen)
	r.PacketsPerSecond, r.Bitrate = perSecond(sum.received, r.Duration), perSecond(sum.bytes*8, r.Duration)
	r.DelayP50, r.DelayP99, r.DelaySamples = ms(delays.quantile(0.5)), ms(delays.quantile(0.99)), delays.n
	r.ConnectP50 = ms(quantile(connects, 0.5))
	r.FirstFrameP50, r.FirstFrameP95 = ms(quantile(frames, 0.5)), ms(quantile(frames, 0.95))
	r.FrameAgeP50 = ms(quantile(ages, 0.5))
	if sum.received > 0 {
		perPacket := func(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) / float64(sum.received) }
		r.GeneratorCPU, r.ReaderCPU = perPacket(after.own-before.own), perPacket(after.reader-before.reader)
		if after.processes.ok && before.processes.ok {
			cpu := after.processes.cpu - before.processes.cpu
			each, cores := perPacket(cpu), cpu.Seconds()/r.Duration
			r.CPUPerPacket, r.CPUCores = &each, &cores
		}
	}
	l.countRequests(&r, before.at)
	return r
}

func (l *load) countRequests(r *Result, since time.Duration) {
	for _, p := range l.publishers {
		p.mu.Lock()
		var all []time.Duration
		var each [len(rids)][]time.Duration
		for _, x := range p.requests {
			if x.at >= since {
				if len(all) == 0 || x.at-all[len(all)-1] > requestSpread {
					all = append(all, x.at)
				}
				each[x.encoding] = append(each[x.encoding], x.at)
			}
		}
		p.mu.Unlock()
		r.KeyframeRequests += len(all)
		r.KeyframeRequests5s = max(r.KeyframeRequests5s, mostRequests(all))
		for i, e := range each {
			r.ByEncoding[i] += len(e)
			r.EncodingRequests5s = max(r.EncodingRequests5s, mostRequests(e))
		}
	}
}

// requestSpread is how far apart the readers of one publisher's encodings see one message.
const requestSpread = 20 * time.Millisecond

// requestWindow is the time keyframe requests are counted in.
const requestWindow = 5 * time.Second

// mostRequests is the largest number of instants, which are in order, in any requestWindow.
func mostRequests(at []time.Duration) int {
	most, first := 0, 0
	for i := range at {
		for at[i]-at[first] >= requestWindow {
			first++
		}
		most = max(most, i-first+1)
	}
	return most
}

// setMemory fills in the servers' memory.
func (r *Result) setMemory(empty, published, now process, subscribers int) {
	if !empty.ok || !published.ok || !now.ok || subscribers == 0 {
		return
	}
	rss, each := now.rss, (now.rss-published.rss)/int64(subscribers)
	r.RSS, r.RSSPerSubscriber = &rss, &each
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func perSecond(n uint64, seconds float64) uint64 {
	if seconds <= 0 {
		return 0
	}
	return uint64(float64(n) / seconds)
}
