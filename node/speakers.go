package node

import (
	"time"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/meridian-sfu/meridian/internal/rtpstream"
	"github.com/meridian-sfu/meridian/node/room"
	"github.com/meridian-sfu/meridian/node/signal"
)

// This file is who is heard. Every microphone's packets tell how loud they are, here and on other nodes alike: so every node
// ranks the whole room from what it has anyway, and no message about it crosses. In a room of few microphones all of them are
// let through. In a larger one a node lets those of its own microphones through that may be speaking, from the very packet
// that rises over the noise, and shuts out those who are outranked by as many as have a place. What is not let through
// reaches no other node and no client.

// speakerInterval is how often the microphones of a room are ranked.
const speakerInterval = 300 * time.Millisecond

// hearing is what a room remembers of a microphone between two looks.
type hearing struct {
	packets uint64
	silent  int // looks in a row without a packet to be heard
}

// listen ranks the room's microphones, lets through or shuts out those of this node, and tells clients who speaks.
func (r *hallRoom) listen(now time.Time) {
	var heard []room.Heard
	own := map[mesh.SourceID]*rtpstream.Source{}
	microphones := 0
	for _, p := range r.state.All() {
		if p.Permission.Hidden {
			continue
		}
		for _, source := range p.Sources {
			if source.Kind != mesh.Audio || source.Muted {
				continue
			}
			microphones++
			media := r.knownMedia(p, source.ID)
			if media == nil {
				continue
			}
			if p.Node == r.node.cfg.ID {
				own[source.ID] = media
			}
			heard = append(heard, room.Heard{Source: source.ID, Participant: p.ID, Loudness: r.loudness(source.ID, media)})
		}
	}
	changed := r.speakers.Rank(now, heard)
	for id, media := range own {
		media.SetVoiceGate(r.gate(id, microphones))
	}
	for id := range r.hearings {
		if _, _, here := r.state.Publisher(id); !here {
			delete(r.hearings, id)
		}
	}
	r.tellSpeakers(changed)
}

func (r *hallRoom) gate(id mesh.SourceID, microphones int) rtpstream.VoiceGate {
	switch {
	case microphones <= r.speakers.Places:
		return rtpstream.VoiceOpen
	case r.speakers.Outranked(id):
		return rtpstream.VoiceShut
	}
	return rtpstream.VoiceSpeaking
}

// knownMedia is a source's media if it is here already.
func (r *hallRoom) knownMedia(p mesh.Participant, id mesh.SourceID) *rtpstream.Source {
	if p.Node == r.node.cfg.ID {
		return r.node.localMedia(id)
	}
	if m := r.remotes[id]; m != nil {
		return m.media
	}
	return nil
}

// loudness is how loud a microphone is now. One that says nothing for two looks is silent.
func (r *hallRoom) loudness(id mesh.SourceID, media *rtpstream.Source) uint8 {
	loud, packets := media.Loudness()
	h := r.hearings[id]
	if packets != h.packets {
		h = hearing{packets: packets}
	} else {
		h.silent++
	}
	r.hearings[id] = h
	if h.silent >= 2 || packets == 0 {
		return rtpstream.Silence
	}
	return loud
}

// tellSpeakers sends every client who began to speak, became louder or stopped.
func (r *hallRoom) tellSpeakers(changed []room.Speaker) {
	if len(changed) == 0 {
		return
	}
	speakers := make([]signal.Speaker, len(changed))
	for i, s := range changed {
		speakers[i] = signal.Speaker{Participant: s.Participant, Level: s.Level, Active: s.Active}
	}
	for _, s := range r.sessions {
		if s.conn != nil {
			s.conn.SendSpeakers(speakers)
		}
	}
}
