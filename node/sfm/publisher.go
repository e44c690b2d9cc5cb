package sfm

import (
	"slices"

	"github.com/pion/webrtc/v4"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

// Bounds on what a client announces or starts before the other half comes.
const maxExpected = mesh.MaxSourcesPerMember

// publishing is what the loop knows of the sources the client sends.
type publishing struct {
	expected []mesh.Source        // announced, not yet negotiated
	byMID    map[string]*receiver //
	bySource map[mesh.SourceID]*receiver
	list     []*receiver              // in the order published
	open     []section                // sending m-lines of the latest offer without a source
	answer   map[string]negotiated    // the latest answer, by MID
	tracks   map[string][]remoteTrack // started streams without a receiver, by MID
	retired  map[string]string        // MID → track name of what we do not want any more
}

type remoteTrack struct {
	track *webrtc.TrackRemote
	from  *webrtc.RTPReceiver
}

func newPublishing() *publishing {
	return &publishing{
		byMID: map[string]*receiver{}, bySource: map[mesh.SourceID]*receiver{}, tracks: map[string][]remoteTrack{},
		retired: map[string]string{}, answer: map[string]negotiated{},
	}
}

// expect takes the announcement of a source.
func (e *Endpoint) expect(src mesh.Source) {
	p := e.publishing
	known := slices.ContainsFunc(p.expected, func(o mesh.Source) bool { return o.ID == src.ID })
	if !e.cfg.CanPublish || known || p.bySource[src.ID] != nil || len(p.expected) >= maxExpected {
		return
	}
	p.expected = append(p.expected, src)
	e.matchSources()
}

// offered takes the m-lines of an offer that was answered: sources that ended end, new ones begin.
func (e *Endpoint) offered(sections []section, answer map[string]negotiated) {
	p := e.publishing
	p.answer, p.open = answer, nil
	for _, s := range sections {
		if s.kind() == 0 {
			continue
		}
		sends := s.sends() && !s.rejected
		if r := p.byMID[s.mid]; r != nil {
			if sends && !e.replaces(r, s) {
				continue
			}
			e.drop(r)
			e.h.Unpublished(r.source.ID)
		}
		if name, ok := p.retired[s.mid]; ok {
			if sends && name == s.track {
				continue // still sending what was unpublished on our side
			}
			delete(p.retired, s.mid)
		}
		if sends {
			p.open = append(p.open, s)
		} else {
			delete(p.tracks, s.mid)
		}
	}
	e.matchSources()
}

// replaces reports whether an m-line in use carries another source now, one the client announced.
func (e *Endpoint) replaces(r *receiver, s section) bool {
	return s.track != "" && s.track != r.track && slices.ContainsFunc(e.publishing.expected, func(o mesh.Source) bool {
		return o.ClientID == s.track
	})
}

// matchSources brings announced sources and m-lines together: by the track's name, else the first announced one of the
// kind, for some clients rename their tracks.
func (e *Endpoint) matchSources() {
	p := e.publishing
	for _, byName := range []bool{true, false} {
		for i := 0; i < len(p.open); i++ {
			s := p.open[i]
			j := slices.IndexFunc(p.expected, func(o mesh.Source) bool {
				return o.Kind == s.kind() && (!byName || o.ClientID != "" && o.ClientID == s.track)
			})
			n, ok := p.answer[s.mid]
			if j < 0 || !ok {
				continue
			}
			src := p.expected[j]
			p.expected = slices.Delete(p.expected, j, j+1)
			p.open = slices.Delete(p.open, i, i+1)
			i--
			e.publish(src, n, s.track)
		}
	}
}

// publish begins to take a source.
func (e *Endpoint) publish(src mesh.Source, n negotiated, track string) {
	src.MID, src.MIMEType, src.FMTP, src.ClockRate, src.Extensions = n.mid, n.mime, n.fmtp, n.clockRate, n.extensions
	src.Encodings = mergeEncodings(src, n.rids)
	r := newReceiver(e, e.pub.pc, src, n)
	r.track = track
	p := e.publishing
	p.byMID[n.mid], p.bySource[src.ID] = r, r
	p.list = append(p.list, r)
	for _, t := range p.tracks[n.mid] {
		r.begin(t.track, t.from)
	}
	delete(p.tracks, n.mid)
	e.log.Debug("source published", "source", string(src.ID))
	e.h.Published(src, r.media)
}

// mergeEncodings brings what was announced and the negotiated RIDs together.
func mergeEncodings(src mesh.Source, rids []string) []mesh.Encoding {
	n := max(len(rids), 1)
	out := make([]mesh.Encoding, n)
	if announced := len(src.Encodings); announced >= n {
		copy(out, src.Encodings[announced-n:]) // one stream of what was announced as several is the best of them
	} else {
		copy(out, src.Encodings)
	}
	sides := longSides(src, n)
	for i := range out {
		out[i].RID = ""
		if i < len(rids) {
			out[i].RID = rids[i]
		}
		if out[i].Width == 0 && src.Kind == mesh.Video && max(src.Width, src.Height) > 0 {
			out[i].Width = src.Width * sides[i] / max(src.Width, src.Height)
			out[i].Height = src.Height * sides[i] / max(src.Width, src.Height)
		}
	}
	return out
}

// trackStarted gives a stream that begins to its receiver.
func (e *Endpoint) trackStarted(track *webrtc.TrackRemote, from *webrtc.RTPReceiver) {
	transceiver := from.RTPTransceiver()
	if transceiver == nil {
		return
	}
	mid := transceiver.Mid()
	if r := e.publishing.byMID[mid]; r != nil {
		r.begin(track, from)
		return
	}
	if waiting := e.publishing.tracks[mid]; len(waiting) < len(e.publishing.answer[mid].rids)+1 {
		e.publishing.tracks[mid] = append(waiting, remoteTrack{track, from})
	}
}

// unpublish ends a source on our side. The client may go on sending for a while; that goes nowhere.
func (e *Endpoint) unpublish(id mesh.SourceID) {
	p := e.publishing
	p.expected = slices.DeleteFunc(p.expected, func(o mesh.Source) bool { return o.ID == id })
	r := p.bySource[id]
	if r == nil {
		return
	}
	p.retired[r.mid] = r.track
	e.drop(r)
}

// drop forgets a receiver and ends it.
func (e *Endpoint) drop(r *receiver) {
	p := e.publishing
	delete(p.byMID, r.mid)
	delete(p.bySource, r.source.ID)
	p.list = slices.DeleteFunc(p.list, func(o *receiver) bool { return o == r })
	r.close()
}

// sendingSources returns the sources of a kind the client sends or is about to, by MID, to answer with their parameters.
func (e *Endpoint) sendingSources(sections []section, kind mesh.MediaKind) map[string]mesh.Source {
	out := map[string]mesh.Source{}
	for _, s := range sections {
		if s.kind() != kind || !s.sends() {
			continue
		}
		if r := e.publishing.byMID[s.mid]; r != nil {
			out[s.mid] = r.source
			continue
		}
		for _, x := range e.publishing.expected {
			if x.ClientID == s.track {
				out[s.mid] = x
			}
		}
	}
	return out
}
