package sfm

import (
	"slices"

	"github.com/pion/webrtc/v4"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

// sectionState is what the loop knows of the m-lines of a single peer connection, on which only the client offers.
type sectionState struct {
	dirty   bool // something waits for an offer of the client
	asked   bool // the client was asked and has not offered since
	offered bool // the client has offered at least once
	waiting int  // subscriptions without an m-line when it was asked
	free    [mesh.Video + 1]int
}

// bindSections puts waiting subscriptions on the recvonly sections of an offer that was set.
func (e *Endpoint) bindSections(sections []section) {
	for _, s := range sections {
		if s.kind() == 0 || s.direction != "recvonly" || s.rejected {
			continue
		}
		t := e.transceiver(s.mid)
		if t == nil || t.Sender() != nil || slices.Contains(e.offers.released, t) {
			continue
		}
		i := slices.IndexFunc(e.subscriptions, func(x *subscription) bool {
			return x.transceiver == nil && x.Source.Kind == s.kind()
		})
		if i < 0 {
			continue
		}
		if err := e.bind(e.subscriptions[i], t); err != nil {
			e.h.NegotiationFailed(Publisher, err)
		}
	}
}

// sectionsAnswered counts what the answer left over.
func (e *Endpoint) sectionsAnswered(sections []section) {
	st := &e.sections
	e.offers.released = nil // the client has seen them inactive
	st.offered = true
	st.free = [mesh.Video + 1]int{}
	for _, s := range sections {
		if s.kind() == 0 || s.direction != "recvonly" || s.rejected {
			continue
		}
		if t := e.transceiver(s.mid); t != nil && t.Sender() == nil {
			st.free[s.kind()]++
		}
	}
	waiting := e.waiting()
	// A client that offers without what it was asked for is not asked again before something changes. What has changed since
	// it was asked it could not know.
	st.dirty = waiting > 0 && (st.dirty || !st.asked || waiting < st.waiting)
	st.asked = false
}

// askSections asks the client for an offer when one is needed: with more sections, or just to see sections change.
func (e *Endpoint) askSections() {
	st := &e.sections
	if !st.dirty || st.asked || !st.offered {
		return
	}
	need := [mesh.Video + 1]int{}
	for _, s := range e.subscriptions {
		if s.transceiver == nil {
			need[s.Source.Kind]++
		}
	}
	// Sections just given back are usable with the offer after the next one at the earliest, so they do not count.
	st.dirty, st.asked, st.waiting = false, true, e.waiting()
	e.h.NeedSections(max(0, need[mesh.Audio]-st.free[mesh.Audio]), max(0, need[mesh.Video]-st.free[mesh.Video]))
}

// waiting is the number of subscriptions without an m-line.
func (e *Endpoint) waiting() (n int) {
	for _, s := range e.subscriptions {
		if s.transceiver == nil {
			n++
		}
	}
	return n
}

func (e *Endpoint) transceiver(mid string) *webrtc.RTPTransceiver {
	for _, t := range e.sub.pc.GetTransceivers() {
		if t.Mid() == mid {
			return t
		}
	}
	return nil
}
