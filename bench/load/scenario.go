package load

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
)

// maxClients bounds what one process takes on at once.
const maxClients = 10_000

// Scenario is what happens to which servers. Publishers and subscribers are spread evenly over rooms and URLs.
type Scenario struct {
	// URLs are the servers' addresses for clients, ws:// or wss://, one for each region. Required.
	URLs []string
	// Key and Secret are an API key of the servers. Required.
	Key, Secret string
	// ServerPIDs are the servers' processes on this machine, for their processor time and memory. Default none.
	ServerPIDs []int
	// Rooms is the number of rooms. Default 1.
	Rooms int
	// Publishers is the number of publishers in all rooms together. Default 1.
	Publishers int
	// Subscribers is the number of subscribers in all rooms together, who publish nothing. Default 10.
	Subscribers int
	// Media is what publishers send: "video", "audio" or "both". Default video.
	Media string
	// Encodings is the number of simulcast encodings, 1 to 3. Default 3.
	Encodings int
	// VideoRate is the bit rate of the best encoding; each lower one takes a quarter. Bits per second. Default 2,000,000.
	VideoRate int64
	// Layout is what subscribers show: "all" in full size, "speaker", "3x3" or "5x5". Default all.
	Layout string
	// Churn is how many subscribers a second leave and come back. Default 0.
	Churn float64
	// MuteStorm is how often all publishers mute for a second at once. 0: never. Default 0.
	MuteStorm time.Duration
	// Warmup is the time between the last subscriber's first packet and the counted time. Default 2 s.
	Warmup time.Duration
	// Duration is the counted time. Default 20 s.
	Duration time.Duration
	// Joins is a number of subscribers who come one after the other over JoinWindow and stay for Stay, in place of
	// Subscribers and Duration. 0: none. Default 0.
	Joins int
	// JoinWindow is the time over which Joins come. Default 1 min.
	JoinWindow time.Duration
	// Stay is how long each of Joins stays. Default 5 s.
	Stay time.Duration
	// Parallel is how many clients connect at once at the start. Default 8.
	Parallel int
	// Sample is of how many packets one is decrypted for its delay. Default 32.
	Sample int
	// Patience is how long a client may take to connect and to get its first packet. Default 30 s.
	Patience time.Duration
}

// DefaultScenario returns one publisher's camera for ten subscribers.
func DefaultScenario() Scenario {
	return Scenario{
		Rooms: 1, Publishers: 1, Subscribers: 10, Media: "video", Encodings: 3, VideoRate: 2_000_000, Layout: "all",
		Warmup: 2 * time.Second, Duration: 20 * time.Second, JoinWindow: time.Minute, Stay: 5 * time.Second,
		Parallel: 8, Sample: 32, Patience: 30 * time.Second,
	}
}

// Validate returns every problem of the scenario, joined.
func (s Scenario) Validate() error {
	var errs []error
	bad := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("load: "+format, args...))
		}
	}
	bad(len(s.URLs) > 0, "no URL of a server")
	for _, raw := range s.URLs {
		u, err := url.Parse(raw)
		bad(err == nil && u.Host != "" && (u.Scheme == "ws" || u.Scheme == "wss"), "URL %q is not ws://host:port or wss://host", raw)
	}
	bad(s.Key != "" && s.Secret != "", "API key or secret is missing")
	bad(s.Publishers >= 1, "publishers must be at least 1, not %d", s.Publishers)
	bad(s.Rooms >= 1 && s.Rooms <= max(s.Publishers, 1), "rooms must be 1 to the number of publishers, not %d", s.Rooms)
	bad(s.Joins >= 0, "joins must not be negative, is %d", s.Joins)
	bad(s.Subscribers >= 1 || s.Joins > 0, "subscribers must be at least 1, not %d", s.Subscribers)
	bad(s.Publishers+s.Subscribers <= maxClients, "more than %d clients", maxClients)
	bad(slices.Contains([]string{"video", "audio", "both"}, s.Media), `media must be video, audio or both, not %q`, s.Media)
	bad(s.Encodings >= 1 && s.Encodings <= 3, "encodings must be 1 to 3, not %d", s.Encodings)
	bad(s.VideoRate >= 100_000 && s.VideoRate <= 50_000_000, "video rate must be 100k to 50M bits per second, not %d", s.VideoRate)
	if _, ok := layouts[s.Layout]; !ok {
		bad(false, "layout must be one of %s, not %q", strings.Join(Layouts(), ", "), s.Layout)
	}
	bad(s.Churn >= 0 && s.Churn <= 1000, "churn must be 0 to 1000 a second, not %g", s.Churn)
	bad(s.MuteStorm == 0 || s.MuteStorm >= 2*muteTime, "a mute storm must come every %v or less often, not every %v", 2*muteTime, s.MuteStorm)
	bad(s.Warmup >= 0, "warm-up must not be negative, is %v", s.Warmup)
	bad(s.Duration >= 500*time.Millisecond, "duration must be at least 500ms, not %v", s.Duration)
	bad(s.Joins == 0 || s.JoinWindow > 0 && s.Stay > 0, "join window and stay must be positive")
	bad(s.Parallel >= 1, "parallel must be at least 1, not %d", s.Parallel)
	bad(s.Sample >= 1, "sample must be at least 1, not %d", s.Sample)
	bad(s.Patience > 0, "patience must be positive, not %v", s.Patience)
	return errors.Join(errs...)
}

func (s Scenario) video() bool { return s.Media != "audio" }
func (s Scenario) audio() bool { return s.Media != "video" }

// tile is one place in a layout, and the size it is shown in.
type tile struct{ width, height uint32 }

// layouts name the tiles of a screen; nil shows everybody in full size.
var layouts = map[string][]tile{
	"all":     nil,
	"speaker": append([]tile{{1280, 720}}, grid(5, 320, 180)...),
	"3x3":     grid(9, 640, 360),
	"5x5":     grid(25, 256, 144),
}

func grid(n int, width, height uint32) []tile {
	out := make([]tile, n)
	for i := range out {
		out[i] = tile{width, height}
	}
	return out
}

// Layouts are the names a Scenario's Layout may have.
func Layouts() []string { return []string{"all", "speaker", "3x3", "5x5"} }
