package rtpstream

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// RFC 6464 levels are −dBov: 30 is speech, 60 a quiet room, 127 silence.
func TestVoice(t *testing.T) {
	type part struct {
		level  uint8
		length time.Duration
		begins bool // whether the first packet of it is let through
		ends   bool // whether the last one is
	}
	const s = time.Second
	for name, parts := range map[string][]part{
		"silence":                   {{127, 10 * s, false, false}},
		"speech at once":            {{30, s, true, true}},
		"the first syllable":        {{65, 10 * s, false, false}, {38, 20 * time.Millisecond, true, true}},
		"a soft voice, quiet room":  {{75, 10 * s, false, false}, {55, s, true, true}},
		"held over a pause":         {{70, 5 * s, false, false}, {35, s, true, true}, {70, 1900 * time.Millisecond, true, true}, {35, s, true, true}},
		"ends two seconds after it": {{70, 5 * s, false, false}, {35, s, true, true}, {70, 2100 * time.Millisecond, true, false}},
		"a fan is no voice":         {{127, s, false, false}, {50, 60 * s, true, false}},
		"but a voice beside it is":  {{50, 60 * s, false, false}, {38, s, true, true}},
		"one who never pauses":      {{39, 600 * s, true, true}},
	} {
		t.Run(name, func(t *testing.T) {
			var v voice
			now := s
			for i, p := range parts {
				for at := time.Duration(0); at < p.length; at += 20 * time.Millisecond {
					speaks := v.hear(p.level, now)
					if at == 0 {
						require.Equal(t, p.begins, speaks, "part %d begins", i)
					}
					if at+20*time.Millisecond >= p.length {
						require.Equal(t, p.ends, speaks, "part %d ends", i)
					}
					now += 20 * time.Millisecond
				}
			}
		})
	}
}

func TestVoiceGateMarksPackets(t *testing.T) {
	src := NewSource(SourceInfo{Audio: true, ClockRate: 48000, Encodings: 1}, &fakeFeedback{})
	var pool Pool
	var seq uint16
	write := func(level uint8) (quiet bool) {
		seq++
		p, err := fill(&pool, rtpBytes(seq, uint32(seq)*960, 1, 2, 3))
		require.NoError(t, err)
		p.AudioLevel, p.Arrival = level, time.Duration(seq)*20*time.Millisecond
		src.Stream(0).Write(p)
		defer p.Release()
		return p.Quiet
	}
	require.False(t, write(127))
	src.SetVoiceGate(VoiceSpeaking)
	require.True(t, write(127))
	require.False(t, write(NoAudioLevel), "who does not tell is let through")
	require.False(t, write(30))
	require.False(t, write(127), "held")
	src.SetVoiceGate(VoiceShut)
	require.True(t, write(30))
	for range 50 {
		write(30)
	}
	loud, packets := src.Loudness()
	require.InDelta(t, 97, loud, 1)
	require.EqualValues(t, 55, packets)
}
