package load

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestScenarioValidate(t *testing.T) {
	good := DefaultScenario()
	good.URLs, good.Key, good.Secret = []string{"ws://127.0.0.1:7880"}, "k", "s"
	require.NoError(t, good.Validate())
	for want, change := range map[string]func(*Scenario){
		"no URL":              func(s *Scenario) { s.URLs = nil },
		"is not ws://":        func(s *Scenario) { s.URLs = []string{"http://x"} },
		"secret is missing":   func(s *Scenario) { s.Secret = "" },
		"publishers must":     func(s *Scenario) { s.Publishers = 0 },
		"rooms must":          func(s *Scenario) { s.Rooms = 2 },
		"subscribers must":    func(s *Scenario) { s.Subscribers = 0 },
		"more than 10000":     func(s *Scenario) { s.Subscribers = 10_000 },
		`not "film"`:          func(s *Scenario) { s.Media = "film" },
		"encodings must":      func(s *Scenario) { s.Encodings = 4 },
		"video rate must":     func(s *Scenario) { s.VideoRate = 1 },
		`all, speaker, 3x3`:   func(s *Scenario) { s.Layout = "mosaic" },
		"churn must":          func(s *Scenario) { s.Churn = -1 },
		"a mute storm must":   func(s *Scenario) { s.MuteStorm = time.Second },
		"duration must":       func(s *Scenario) { s.Duration = 0 },
		"join window and":     func(s *Scenario) { s.Joins, s.Stay = 5, 0 },
		"joins must not":      func(s *Scenario) { s.Joins = -1 },
		"parallel must":       func(s *Scenario) { s.Parallel = 0 },
		"sample must":         func(s *Scenario) { s.Sample = 0 },
		"patience must":       func(s *Scenario) { s.Patience = 0 },
		"warm-up must not be": func(s *Scenario) { s.Warmup = -1 },
	} {
		s := good
		change(&s)
		require.ErrorContains(t, s.Validate(), want)
	}
	all := Scenario{}
	require.Greater(t, strings.Count(all.Validate().Error(), "\n"), 5, "every problem is told")
	joins := good
	joins.Subscribers, joins.Joins = 0, 100
	require.NoError(t, joins.Validate())
	for _, name := range Layouts() {
		_, ok := layouts[name]
		require.True(t, ok, name)
	}
	require.Len(t, layouts, len(Layouts()))
	require.Len(t, layouts["5x5"], 25)
}
