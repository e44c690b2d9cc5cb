package cascade

import "testing"

// withoutRace keeps a test that simulates minutes of media out of runs with the race detector, which takes ten times as
// long over it and learns nothing of it that the shorter ones do not tell. make test runs the package both ways.
func withoutRace(t *testing.T) {
	t.Helper()
	if raceDetector {
		t.Skip("minutes of media: runs without the race detector")
	}
}
