package room

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/meridian-sfu/meridian/internal/mesh"
)

// Who speaks, step by step: what each microphone's level is in −dBov, who is shown as speaking, who is outranked.
func TestSpeakers(t *testing.T) {
	type step struct {
		after     time.Duration
		levels    map[string]uint8
		active    string
		outranked string
	}
	const ms = time.Millisecond
	crowd := func(names string, level uint8, extra map[string]uint8) map[string]uint8 {
		out := map[string]uint8{}
		for n := range strings.SplitSeq(names, "") {
			out[n] = level
		}
		for n, l := range extra {
			out[n] = l
		}
		return out
	}
	for name, tc := range map[string]struct {
		places int
		steps  []step
	}{
		"one speaks and stops": {1, []step{
			{0, map[string]uint8{"a": 80, "b": 127}, "", ""},
			{300 * ms, map[string]uint8{"a": 30, "b": 127}, "a", ""},
			{300 * ms, map[string]uint8{"a": 50, "b": 127}, "a", ""}, // the end of a word
			{300 * ms, map[string]uint8{"a": 80, "b": 127}, "a", ""}, // a pause
			{300 * ms, map[string]uint8{"a": 80, "b": 127}, "", ""},
			{300 * ms, map[string]uint8{"a": 50, "b": 127}, "", ""}, // not enough to begin
		}},
		"the louder one of two, not by a hair": {1, []step{
			{0, map[string]uint8{"a": 30, "b": 90}, "a", ""},
			{300 * ms, map[string]uint8{"a": 30, "b": 28}, "a", ""},
			{300 * ms, map[string]uint8{"a": 30, "b": 20}, "b", ""},
			{300 * ms, map[string]uint8{"a": 30, "b": 31}, "b", ""},
		}},
		"somebody leaves": {1, []step{
			{0, map[string]uint8{"a": 30, "b": 90}, "a", ""},
			{300 * ms, map[string]uint8{"b": 90}, "", ""},
		}},
		"places for four, seven speak": {1, []step{
			{0, crowd("abcdefg", 90, nil), "", ""},
			{300 * ms, crowd("abcd", 30, map[string]uint8{"e": 90, "f": 90, "g": 90}), "a", "efg"},
			{300 * ms, crowd("abcd", 30, map[string]uint8{"e": 90, "f": 90, "g": 31}), "a", "efg"},
			{300 * ms, crowd("abcd", 30, map[string]uint8{"e": 90, "f": 90, "g": 20}), "g", "def"},
			{300 * ms, crowd("abd", 30, map[string]uint8{"c": 90, "e": 90, "f": 90, "g": 20}), "g", "cef"}, // d has waited for that
			{2 * time.Second, crowd("bd", 30, map[string]uint8{"a": 90, "c": 90, "e": 90, "f": 90, "g": 20}), "g", ""},
		}},
		"a quiet room shuts nobody out": {1, []step{
			{0, crowd("abcdefgh", 60, nil), "", ""},
			{300 * ms, crowd("abc", 30, map[string]uint8{"d": 60, "e": 60, "f": 60, "g": 60}), "a", ""},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s := Speakers{Places: tc.places}
			now := time.Unix(1000, 0)
			shown := map[mesh.ParticipantID]bool{}
			for i, st := range tc.steps {
				now = now.Add(st.after)
				var heard []Heard
				for n, l := range st.levels {
					heard = append(heard, Heard{mesh.SourceID("TR_" + n), mesh.ParticipantID(n), 127 - l})
				}
				for _, c := range s.Rank(now, heard) {
					shown[c.Participant] = c.Active
					require.Equal(t, c.Active, c.Level > 0)
				}
				var active, outranked []string
				for p, on := range shown {
					if on {
						active = append(active, string(p))
					}
				}
				for _, n := range "abcdefgh" {
					if s.Outranked(mesh.SourceID(fmt.Sprintf("TR_%c", n))) {
						outranked = append(outranked, string(n))
					}
				}
				slices.Sort(active)
				require.Equal(t, st.active, strings.Join(active, ""), "step %d", i)
				require.Equal(t, st.outranked, strings.Join(outranked, ""), "step %d", i)
				require.Len(t, s.Active(), len(active))
			}
		})
	}
}

func TestSpeakerLevelsGoInSteps(t *testing.T) {
	s := Speakers{Places: 3}
	now := time.Unix(1, 0)
	hear := func(level uint8) []Speaker {
		now = now.Add(300 * time.Millisecond)
		return s.Rank(now, []Heard{{"TR_a", "PA_a", 127 - level}})
	}
	require.Equal(t, []Speaker{{"PA_a", 1, true}}, hear(15))
	require.Empty(t, hear(20), "nothing to tell")
	require.Equal(t, []Speaker{{"PA_a", 0.5, true}}, hear(42))
	require.Equal(t, []Speaker{{"PA_a", 0.125, true}}, hear(52))
}
