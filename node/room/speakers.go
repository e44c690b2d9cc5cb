package room

import (
	"cmp"
	"slices"
	"time"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

// How speakers are told from each other. Loudness is in dB above digital silence.
const (
	speakFrom   = 127 - 45               // speech begins
	speakDown   = 127 - 52               // speech goes on
	incumbent   = 4                      // dB by which somebody must be louder to take a place
	speakerHold = 500 * time.Millisecond // shown as speaking after the last sound
	placeHold   = 2 * time.Second        // a place among those who are heard is kept as long
	spare       = 3                      // places beyond the speakers: for who may become one
)

// Heard is how loud one microphone is now.
type Heard struct {
	Source      mesh.SourceID
	Participant mesh.ParticipantID
	Loudness    uint8 // 0 to 127 dB above silence
}

// Speaker is somebody who speaks, or has just stopped.
type Speaker struct {
	Participant mesh.ParticipantID
	Level       float32 // 0 to 1, in steps of an eighth
	Active      bool
}

// Speakers ranks the microphones of a room by loudness, with hold and hysteresis, from what is heard at one node: its own
// microphones, and those of others whose packets come because they may be speaking. The zero value with Places set is
// ready. It is pure: callers say what time it is.
type Speakers struct {
	// Places is how many speak at once, at least one.
	Places int

	all map[mesh.SourceID]*microphone
}

type microphone struct {
	Heard
	spoke  time.Time // last loud enough
	placed bool      // among the speakers and those who may become one
	told   Speaker
}

// Rank takes how loud every microphone of the room is now; those left out are gone. It returns what changed for who
// watches the room, in order of participants.
func (s *Speakers) Rank(now time.Time, heard []Heard) (changed []Speaker) {
	if s.all == nil {
		s.all = map[mesh.SourceID]*microphone{}
	}
	known := make(map[mesh.SourceID]bool, len(heard))
	var order []*microphone
	for _, h := range heard {
		known[h.Source] = true
		m := s.all[h.Source]
		if m == nil {
			m = &microphone{}
			s.all[h.Source] = m
		}
		m.Heard = h
		if h.Loudness >= speakFrom || h.Loudness >= speakDown && m.told.Active {
			m.spoke = now
		}
		order = append(order, m)
	}
	for id, m := range s.all {
		if !known[id] {
			delete(s.all, id)
			if m.told.Active {
				changed = append(changed, Speaker{Participant: m.Participant})
			}
		}
	}
	slices.SortFunc(order, func(a, b *microphone) int {
		return cmp.Or(cmp.Compare(b.rank(now), a.rank(now)), cmp.Compare(a.Source, b.Source))
	})
	for i, m := range order {
		m.placed = i < s.Places+spare && m.since(now) < placeHold
		tell := Speaker{Participant: m.Participant}
		if i < s.Places && m.since(now) < speakerHold {
			tell.Active, tell.Level = true, level(m.Loudness)
		}
		if tell != m.told && (tell.Active || m.told.Active) {
			changed = append(changed, tell)
		}
		m.told = tell
	}
	slices.SortFunc(changed, func(a, b Speaker) int { return cmp.Compare(a.Participant, b.Participant) })
	return changed
}

// Outranked reports whether nobody needs to hear a microphone, because as many as have a place are louder.
func (s *Speakers) Outranked(id mesh.SourceID) bool {
	m := s.all[id]
	if m == nil || m.placed {
		return false
	}
	taken := 0
	for _, o := range s.all {
		if o.placed {
			taken++
		}
	}
	return taken >= s.Places+spare
}

// Active are those who speak now, in order of participants.
func (s *Speakers) Active() []Speaker {
	var out []Speaker
	for _, m := range s.all {
		if m.told.Active {
			out = append(out, m.told)
		}
	}
	slices.SortFunc(out, func(a, b Speaker) int { return cmp.Compare(a.Participant, b.Participant) })
	return out
}

// rank is what places are given by: loudness, more for who has one already, next to nothing for who does not speak.
func (m *microphone) rank(now time.Time) int {
	since := m.since(now)
	switch {
	case since >= placeHold:
		return int(m.Loudness) - 256
	case m.told.Active:
		return max(int(m.Loudness), speakDown) + 2*incumbent
	case m.placed:
		return max(int(m.Loudness), speakDown) + incumbent
	}
	return int(m.Loudness)
}

func (m *microphone) since(now time.Time) time.Duration {
	if m.spoke.IsZero() {
		return placeHold
	}
	return now.Sub(m.spoke)
}

// level is loudness as clients show it: −21 dBov and louder is 1, each eighth a step of 3 dB.
func level(loudness uint8) float32 {
	return min(max(float32((int(loudness)-speakDown)/3+1), 1), 8) / 8
}
