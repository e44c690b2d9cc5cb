package rtpstream

import (
	"slices"
	"sync"
	"sync/atomic"
)

// Sink takes RTP packets. A sender to a subscriber is one, a flow to another node, a recorder.
type Sink interface {
	// WritePacket is called on the producer's goroutine and must not block. The packet is borrowed: Retain it to keep
	// it, never write to it. A sink subscribed to several streams is called concurrently, once per stream.
	WritePacket(p *Packet)
}

// Feedback runs the other way: from the consumers of a source to what produces it. Both methods are called on any
// goroutine, concurrently, and must not block.
type Feedback interface {
	// RequestKeyframe asks for a keyframe of one encoding. The producer collapses and throttles requests.
	RequestKeyframe(encoding uint8, why KeyframeReason)
	// DemandChanged tells that Source.Demand has another value now. The producer reads the value itself, so that
	// concurrent changes cannot arrive in the wrong order.
	DemandChanged()
}

// Fanout copies packets to its sinks. Writing reads one atomic pointer to an immutable slice: no lock, no allocation.
// The zero value is ready.
type Fanout struct {
	mu    sync.Mutex // orders changes
	sinks atomic.Pointer[[]Sink]
}

// WritePacket hands p to every sink.
func (f *Fanout) WritePacket(p *Packet) {
	if s := f.sinks.Load(); s != nil {
		for _, sink := range *s {
			sink.WritePacket(p)
		}
	}
}

// Add attaches a sink; a second time changes nothing.
func (f *Fanout) Add(s Sink) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var old []Sink
	if p := f.sinks.Load(); p != nil {
		old = *p
	}
	if slices.Contains(old, s) {
		return
	}
	fresh := append(slices.Clip(old), s) // Clip: the old slice may be in use by WritePacket
	f.sinks.Store(&fresh)
}

// Remove detaches a sink. A WritePacket under way may still reach it once.
func (f *Fanout) Remove(s Sink) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.sinks.Load()
	if p == nil {
		return
	}
	fresh := make([]Sink, 0, len(*p))
	for _, o := range *p {
		if o != s {
			fresh = append(fresh, o)
		}
	}
	f.sinks.Store(&fresh)
}

// Len is the number of sinks.
func (f *Fanout) Len() int {
	if p := f.sinks.Load(); p != nil {
		return len(*p)
	}
	return 0
}
