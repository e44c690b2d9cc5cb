package soak

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Sample is what the process uses at one moment.
type Sample struct {
	At          time.Duration `json:"at_ns"`
	RSS         uint64        `json:"rss_bytes"`
	Heap        uint64        `json:"heap_bytes"`
	Goroutines  int           `json:"goroutines"`
	Descriptors int           `json:"descriptors"`
	Lanes       int           `json:"lanes"`   // over all nodes, both ends
	Flows       int           `json:"flows"`   // the same
	Sent        uint64        `json:"sent"`    // packets published so far
	Arrived     uint64        `json:"arrived"` // packets that reached a subscriber so far
	Lost        uint64        `json:"lost"`    // packets links gave up so far
}

// String is one line of a table.
func (s Sample) String() string {
	return fmt.Sprintf("%8s  rss %6.1f MiB  heap %6.1f MiB  %4d goroutines  %3d descriptors  %3d lanes  %3d flows  %9d sent  %9d arrived  %6d lost",
		s.At.Round(time.Second), float64(s.RSS)/(1<<20), float64(s.Heap)/(1<<20), s.Goroutines, s.Descriptors, s.Lanes, s.Flows, s.Sent, s.Arrived, s.Lost)
}

// process reads what the process uses.
func process() (s Sample) {
	runtime.GC()
	runtime.GC() // pools are emptied by the second
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	s.Heap, s.Goroutines = m.HeapAlloc, runtime.NumGoroutine()
	if b, err := os.ReadFile("/proc/self/statm"); err == nil {
		if f := strings.Fields(string(b)); len(f) > 1 {
			pages, _ := strconv.ParseUint(f[1], 10, 64) // 0 when it does not look like that
			s.RSS = pages * uint64(os.Getpagesize())
		}
	}
	if entries, err := os.ReadDir("/proc/self/fd"); err == nil {
		s.Descriptors = len(entries)
	}
	return s
}

// Result is a soak's samples, the oldest first.
type Result struct {
	Samples []Sample `json:"samples"`
}

// Growth compares the last third of the samples with the first third after the warm-up, by their medians, and tells
// what grew beyond what churn explains. It is empty when nothing did, or when there are fewer than six samples.
func (r Result) Growth() (grown []string) {
	warm := r.Samples[len(r.Samples)/6:]
	if len(r.Samples) < 6 {
		return nil
	}
	third := len(warm) / 3
	early, late := warm[:third], warm[len(warm)-third:]
	for _, q := range []struct {
		name  string
		of    func(Sample) float64
		slack float64 // share of the early value
		plus  float64
	}{
		{"resident memory", func(s Sample) float64 { return float64(s.RSS) }, 0.15, 16 << 20},
		{"heap", func(s Sample) float64 { return float64(s.Heap) }, 0.15, 8 << 20},
		{"goroutines", func(s Sample) float64 { return float64(s.Goroutines) }, 0.15, 15},
		{"descriptors", func(s Sample) float64 { return float64(s.Descriptors) }, 0, 2},
		{"lanes", func(s Sample) float64 { return float64(s.Lanes) }, 0.25, 4},
	} {
		a, b := median(early, q.of), median(late, q.of)
		if b > a*(1+q.slack)+q.plus {
			grown = append(grown, fmt.Sprintf("%s from %.0f to %.0f", q.name, a, b))
		}
	}
	return grown
}

func median(samples []Sample, of func(Sample) float64) float64 {
	values := make([]float64, 0, len(samples))
	for _, s := range samples {
		values = append(values, of(s))
	}
	slices.Sort(values)
	return values[len(values)/2]
}
