package rtpstream

import (
	"slices"
	"sync"
	"sync/atomic"
)

// MaxEncodings is how many simulcast encodings a source may have.
const MaxEncodings = 4

// EncodingSet is a set of encodings, bit i for encoding i.
type EncodingSet uint8

// Has reports whether encoding e is in the set.
func (s EncodingSet) Has(e uint8) bool { return e < MaxEncodings && s&(1<<e) != 0 }

// With returns the set with encoding e in it.
func (s EncodingSet) With(e uint8) EncodingSet { return s | 1<<e }

// Demand is what consumers want of a source now. The zero value wants nothing.
type Demand struct {
	Encodings EncodingSet
	Layers    [MaxEncodings]Layers // of the encodings in the set; zero for the others
}

// Everything wants all layers of the encodings.
func Everything(set EncodingSet) Demand { return UpTo(set, AllLayers) }

// UpTo wants the layers up to l of each of the encodings.
func UpTo(set EncodingSet, l Layers) (d Demand) {
	for e := range uint8(MaxEncodings) {
		if set.Has(e) {
			d = d.With(e, l)
		}
	}
	return d
}

// With wants those layers of an encoding as well.
func (d Demand) With(encoding uint8, l Layers) Demand {
	d.Encodings = d.Encodings.With(encoding)
	d.Layers[encoding%MaxEncodings] = d.Layers[encoding%MaxEncodings].Union(l)
	return d
}

// Only wants nothing of the encodings outside of the set.
func (d Demand) Only(set EncodingSet) Demand {
	d.Encodings &= set
	for e := range d.Layers {
		if !d.Encodings.Has(uint8(e)) {
			d.Layers[e] = Layers{}
		}
	}
	return d
}

// Union returns what satisfies both.
func (d Demand) Union(o Demand) Demand {
	for e, l := range o.Layers {
		d.Layers[e] = d.Layers[e].Union(l)
	}
	d.Encodings |= o.Encodings
	return d
}

// SourceInfo is what does not change while a source lives.
type SourceInfo struct {
	ID        string // SourceID, unique over the mesh
	Audio     bool
	MIMEType  string // RFC 4855: "video/VP8", "audio/opus"
	ClockRate uint32 // Hz
	Encodings int    // 1 to MaxEncodings

	DependencyDescriptor uint8 // header extension of dependency descriptors, 0 without
}

// Source is one camera, microphone or screen as this node receives it: a stream for each encoding, and the union of
// what its consumers want. It is safe for concurrent use.
type Source struct {
	Info SourceInfo

	feedback Feedback
	streams  []*Stream
	ear      ear // of audio
	done     chan struct{}
	withheld atomic.Uint32 // EncodingSet that cannot come, see Available

	mu     sync.Mutex
	subs   []*Subscription // guarded by mu
	demand Demand          // guarded by mu; union over subs
	closed bool            // guarded by mu
}

// NewSource returns a source whose consumers' wishes go to feedback. The number of encodings is clamped to
// 1 … MaxEncodings.
func NewSource(info SourceInfo, feedback Feedback) *Source {
	info.Encodings = min(max(info.Encodings, 1), MaxEncodings)
	s := &Source{Info: info, feedback: feedback, done: make(chan struct{})}
	for e := range info.Encodings {
		s.streams = append(s.streams, newStream(s, uint8(e)))
	}
	return s
}

// Stream returns the stream of an encoding, or nil when there is no such encoding.
func (s *Source) Stream(encoding uint8) *Stream {
	if int(encoding) >= len(s.streams) {
		return nil
	}
	return s.streams[encoding]
}

// Demand is the union of what all subscriptions want now.
func (s *Source) Demand() Demand {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.demand
}

// Subscribers is the number of open subscriptions, whatever they want.
func (s *Source) Subscribers() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.subs)
}

// Subscribe makes sink a consumer that wants nothing yet: call SetDemand.
func (s *Source) Subscribe(sink Sink) *Subscription {
	sub := &Subscription{source: s, sink: sink}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.subs = append(s.subs, sub)
	}
	return sub
}

// Close ends every subscription, drops what is cached and tells every sink that is an Ender. The producer calls it when
// the source is gone. It is idempotent.
func (s *Source) Close() {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return
	}
	subs := s.subs
	s.subs, s.demand, s.closed = nil, Demand{}, true
	for _, sub := range subs {
		sub.attach(Demand{})
	}
	close(s.done)
	s.mu.Unlock()
	for _, st := range s.streams {
		st.cache.Clear()
		st.gop.clear()
	}
	for _, sub := range subs {
		if e, ok := sub.sink.(Ender); ok {
			e.SourceEnded()
		}
	}
}

// Done is closed when the source is.
func (s *Source) Done() <-chan struct{} { return s.done }

// Ender is a sink that is told when a source it subscribed to ends: once for each subscription, on the goroutine that
// closes the source, which it must not hold up. A sink that subscribed too late is not told: see Source.Done.
type Ender interface{ SourceEnded() }

// recompute is called with s.mu held and reports whether the union changed.
func (s *Source) recomputeLocked() bool {
	var d Demand
	for _, sub := range s.subs {
		d = d.Union(sub.want)
	}
	changed := d != s.demand
	s.demand = d
	return changed
}

// Subscription is one consumer of a source.
type Subscription struct {
	source *Source
	sink   Sink
	want   Demand // guarded by source.mu
}

// Source is what is subscribed to.
func (sub *Subscription) Source() *Source { return sub.source }

// SetDemand says what this consumer wants from now on: the sink gets packets of the wanted encodings only. The
// producer is told when the union over all consumers changed. After Close it does nothing.
func (sub *Subscription) SetDemand(d Demand) {
	s := sub.source
	d = d.Only(1<<len(s.streams) - 1)
	s.mu.Lock()
	if d == sub.want || !slices.Contains(s.subs, sub) { // the former is the rule: it is said again and again
		s.mu.Unlock()
		return
	}
	sub.attach(d)
	changed := s.recomputeLocked()
	s.mu.Unlock()
	if changed {
		s.feedback.DemandChanged()
	}
}

// attach adds the sink to the wanted streams and takes it from the others. source.mu is held.
func (sub *Subscription) attach(d Demand) {
	sub.want = d
	for e, st := range sub.source.streams {
		if d.Encodings.Has(uint8(e)) {
			st.fanout.Add(sub.sink)
		} else {
			st.fanout.Remove(sub.sink)
		}
	}
}

// RequestKeyframe asks the producer for a keyframe of one encoding. Who has nothing to begin with looks at
// Stream.Replay first.
func (sub *Subscription) RequestKeyframe(encoding uint8, why KeyframeReason) {
	if sub.source.Stream(encoding) != nil {
		sub.source.feedback.RequestKeyframe(encoding, why)
	}
}

// Close ends the subscription. It is idempotent. A packet under way may still reach the sink once.
func (sub *Subscription) Close() {
	s := sub.source
	s.mu.Lock()
	i := slices.Index(s.subs, sub)
	if i < 0 {
		s.mu.Unlock()
		return
	}
	s.subs = slices.Delete(s.subs, i, i+1)
	sub.attach(Demand{})
	changed := s.recomputeLocked()
	s.mu.Unlock()
	if changed {
		s.feedback.DemandChanged()
	}
}
