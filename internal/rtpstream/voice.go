package rtpstream

import (
	"sync/atomic"
	"time"
)

// Silence is the loudness of digital silence. Loudness is in dB above it, 0 to 127: 127 less the audio level in −dBov.
const Silence = 0

// What makes a voice.
const (
	voiceSure  = 127 - 40                // speech, whatever the noise around it
	voiceLeast = 127 - 62                // what is less is not heard in a call
	voiceAbove = 9                       // dB over the noise
	voiceHold  = 2 * time.Second         // after the last sound: pauses between words, the ends of sentences
	noiseRise  = 1. / 50                 // dB for each packet, so one a second: how fast noise is believed
	noiseLeast = voiceLeast - voiceAbove // a microphone that is off teaches nothing of the noise around it
	noiseMost  = voiceSure - voiceAbove  // a voice that never pauses is no noise
)

// VoiceGate says what of a source somebody needs to hear.
type VoiceGate uint32

const (
	// VoiceOpen lets everything through.
	VoiceOpen VoiceGate = iota
	// VoiceSpeaking lets through what may be speech, from its first packet.
	VoiceSpeaking
	// VoiceShut lets nothing through: enough others speak, and louder.
	VoiceShut
)

// voice listens to one microphone by the audio level of its packets (RFC 6464). It is pure.
type voice struct {
	noise  float32 // loudness of what is always there
	mean   float32 // loudness now, quick to rise and slow to fall
	until  time.Duration
	begun  bool
	speaks bool
}

// hear takes the level of a packet and reports whether somebody may be speaking.
func (v *voice) hear(level uint8, now time.Duration) bool {
	loud := float32(127 - min(level, 127))
	if !v.begun {
		v.begun, v.noise, v.mean = true, loud, loud
	}
	if loud < v.noise {
		v.noise += (loud - v.noise) / 4
	} else {
		v.noise += noiseRise
	}
	v.noise = min(max(v.noise, noiseLeast), noiseMost)
	if loud > v.mean {
		v.mean += (loud - v.mean) / 3
	} else {
		v.mean += (loud - v.mean) / 24
	}
	if loud >= voiceSure || (loud >= voiceLeast && loud >= v.noise+voiceAbove) {
		v.speaks, v.until = true, now+voiceHold
	} else if now >= v.until {
		v.speaks = false
	}
	return v.speaks
}

// ear is what a source of audio knows of its voice.
type ear struct {
	voice voice         // used by Stream.Write only
	gate  atomic.Uint32 // VoiceGate
	loud  atomic.Uint32 // loudness, rounded
	heard atomic.Uint64 // packets that told a level and are to be heard
}

// listen marks a packet that nobody needs to hear.
func (e *ear) listen(p *Packet) {
	if p.AudioLevel == NoAudioLevel {
		return // nobody knows
	}
	speaks := e.voice.hear(p.AudioLevel, p.Arrival)
	e.loud.Store(uint32(e.voice.mean + .5))
	e.heard.Add(1)
	switch VoiceGate(e.gate.Load()) {
	case VoiceSpeaking:
		p.Quiet = p.Quiet || !speaks
	case VoiceShut:
		p.Quiet = true
	}
}

// SetVoiceGate says what of an audio source's packets shall be marked Quiet from now on, by the levels they tell. The
// node whose client publishes the source does; elsewhere what comes is marked already. Any goroutine.
func (s *Source) SetVoiceGate(g VoiceGate) { s.ear.gate.Store(uint32(g)) }

// Loudness is how loud an audio source is, in dB above silence, and how many packets have told so: a number that stands
// still means silence. Any goroutine.
func (s *Source) Loudness() (loud uint8, packets uint64) {
	return uint8(s.ear.loud.Load()), s.ear.heard.Load()
}
