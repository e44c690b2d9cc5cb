package failover

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"slices"
	"sync"
)

// Figure is the spread of one measure over the trials, in milliseconds.
type Figure struct {
	N   int     `json:"n"`
	P50 float64 `json:"p50_ms"`
	P95 float64 `json:"p95_ms"`
	Max float64 `json:"max_ms"`
}

// Report is what the trials of one scenario gave.
type Report struct {
	Scenario  Scenario  `json:"scenario"`
	Trials    int       `json:"trials"`
	Disturbed int       `json:"disturbed"` // of these, left out of the figures: the machine was late itself
	Video     Figure    `json:"video_gap"`
	AudioTwin Figure    `json:"audio_gap_with_twin"`
	Audio     Figure    `json:"audio_gap_without_twin"`
	Picture   Figure    `json:"picture"` // of the trials in which a keyframe came
	BackVideo Figure    `json:"back_video_gap"`
	BackAudio Figure    `json:"back_audio_gap"`
	Returned  int       `json:"returned"` // trials that were back on the old way in time
	Outcomes  []Outcome `json:"outcomes"`
}

// Run runs the trials of a scenario, Config.Parallel at a time, in real time. Done is called after each, one at a time; it
// may be nil. It returns what there is when ctx ends, or a trial fails, and the error.
func Run(ctx context.Context, cfg Config, log *slog.Logger, done func(Outcome)) (*Report, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	var mu sync.Mutex
	var outcomes []Outcome
	var errs []error
	var wg sync.WaitGroup
	slots := make(chan struct{}, cfg.Parallel)
	for i := range uint64(cfg.Trials) {
		slots <- struct{}{}
		if ctx.Err() != nil {
			break
		}
		wg.Go(func() {
			defer func() { <-slots }()
			o, err := Trial(ctx, cfg, cfg.Seed<<20+i, log)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = append(errs, err)
				return
			}
			outcomes = append(outcomes, o)
			if done != nil {
				done(o)
			}
		})
	}
	wg.Wait()
	return NewReport(cfg.Scenario, outcomes), errors.Join(append(errs, ctx.Err())...)
}

// NewReport sums trials up.
func NewReport(s Scenario, outcomes []Outcome) *Report {
	r := &Report{Scenario: s, Trials: len(outcomes), Outcomes: outcomes}
	slices.SortFunc(r.Outcomes, func(a, b Outcome) int { return int(int64(a.Seed) - int64(b.Seed)) })
	var video, twin, audio, picture, backVideo, backAudio []float64
	for _, o := range outcomes {
		if o.Late > millis(maxLate) {
			r.Disturbed++
			continue
		}
		video = append(video, o.Video)
		if o.Twin {
			twin = append(twin, o.Audio)
		} else {
			audio = append(audio, o.Audio)
		}
		if o.Picture > 0 {
			picture = append(picture, o.Picture)
		}
		if o.Returned {
			r.Returned++
			backVideo, backAudio = append(backVideo, o.BackVideo), append(backAudio, o.BackAudio)
		}
	}
	r.Video, r.AudioTwin, r.Audio, r.Picture = figure(video), figure(twin), figure(audio), figure(picture)
	r.BackVideo, r.BackAudio = figure(backVideo), figure(backAudio)
	return r
}

// figure sums up; quantiles are by nearest rank.
func figure(v []float64) Figure {
	if len(v) == 0 {
		return Figure{}
	}
	slices.Sort(v)
	rank := func(q float64) float64 { return v[max(0, int(math.Ceil(q*float64(len(v))))-1)] }
	return Figure{N: len(v), P50: rank(0.5), P95: rank(0.95), Max: v[len(v)-1]}
}

// WriteTable writes reports as a table in Markdown.
func WriteTable(w io.Writer, reports []*Report) error {
	var err error
	line := func(format string, args ...any) {
		if err == nil {
			_, err = fmt.Fprintf(w, format+"\n", args...)
		}
	}
	line("| what failed | what is measured | trials | p50 | p95 | max |")
	line("|---|---|---|---|---|---|")
	for _, r := range reports {
		for _, f := range []struct {
			name string
			Figure
		}{
			{"video, no packet for", r.Video},
			{"keyframe after", r.Picture},
			{"audio with twin, no packet for", r.AudioTwin},
			{"audio without twin, no packet for", r.Audio},
			{"going back: video, no packet for", r.BackVideo},
			{"going back: audio, no packet for", r.BackAudio},
		} {
			if f.N > 0 {
				line("| %s | %s | %d | %.0f ms | %.0f ms | %.0f ms |", r.Scenario, f.name, f.N, f.P50, f.P95, f.Max)
			}
		}
		if n := r.Trials - r.Disturbed - r.Returned; r.Scenario == BlackHole && n > 0 {
			line("| %s | did not go back in time | %d | | | |", r.Scenario, n)
		}
		if r.Disturbed > 0 {
			line("| %s | left out: the machine was late itself | %d | | | |", r.Scenario, r.Disturbed)
		}
	}
	return err
}
