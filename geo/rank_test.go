package geo

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/meridian-sfu/meridian/internal/mesh"
	"github.com/stretchr/testify/require"
)

var cities = map[string]Place{
	"London": {51.51, -0.13, "GB", ""}, "Paris": {48.86, 2.35, "FR", ""}, "New York": {40.71, -74.01, "US", ""},
	"Los Angeles": {34.05, -118.24, "US", ""}, "Sydney": {-33.87, 151.21, "AU", ""}, "Tokyo": {35.68, 139.69, "JP", ""},
	"Auckland": {-36.85, 174.76, "NZ", ""}, "Honolulu": {21.31, -157.86, "US", ""}, "Delhi": {28.61, 77.21, "IN", ""},
	"Chicago": {41.88, -87.63, "US", ""}, "Denver": {39.74, -104.99, "US", ""}, "Vladivostok": {43.12, 131.89, "RU", ""},
	"Suva": {-18.12, 178.45, "FJ", ""}, "Apia": {-13.83, -171.77, "WS", ""},
}

// The regions of the tests: where cloud regions of these names stand.
func mesh3() []Edge {
	return []Edge{edge("us-east", 39.04, -77.49), edge("eu-west", 53.35, -6.26), edge("ap-south", 19.08, 72.88)}
}

func edge(name string, lat, lon float64) Edge {
	return Edge{Healthy: true, NodeInfo: mesh.NodeInfo{
		ID: mesh.NodeID(name), Region: mesh.Region(name), Latitude: lat, Longitude: lon,
	}}
}

func order(ranked []RankedEdge) (ids []string) {
	for _, r := range ranked {
		ids = append(ids, string(r.ID))
	}
	return ids
}

func TestDistance(t *testing.T) {
	for _, tc := range []struct {
		from, to string
		km       float64
	}{
		{"London", "Paris", 344},
		{"London", "New York", 5570},
		{"New York", "Los Angeles", 3936},
		{"London", "Sydney", 16994},
		{"Tokyo", "Sydney", 7823},
		{"London", "London", 0},
		{"Suva", "Apia", 1150}, // over the 180th meridian
	} {
		d := Distance(cities[tc.from], cities[tc.to])
		require.InDelta(t, tc.km, d, 20, "%s–%s", tc.from, tc.to)
		require.InDelta(t, d, Distance(cities[tc.to], cities[tc.from]), 1e-6)
	}
	require.InDelta(t, math.Pi*earthRadius, Distance(Place{Latitude: 90}, Place{Latitude: -90}), 1e-6)
	require.InDelta(t, math.Pi*earthRadius, Distance(Place{Longitude: 0}, Place{Longitude: 180}), 1e-6)
}

// Public measurements between these cities: London–New York 70–75 ms, London–Sydney 240–280 ms, Tokyo–Sydney 100–130 ms.
func TestExpectedRTTIsNearMeasurements(t *testing.T) {
	require.Equal(t, accessDelay, ExpectedRTT(0))
	require.InDelta(t, 0.085, ExpectedRTT(5570).Seconds(), 0.015)
	require.InDelta(t, 0.270, ExpectedRTT(16994).Seconds(), 0.03)
	require.InDelta(t, 0.125, ExpectedRTT(7823).Seconds(), 0.015)
}

func TestRankByDistance(t *testing.T) {
	for city, want := range map[string][]string{
		"London":   {"eu-west", "us-east", "ap-south"},
		"New York": {"us-east", "eu-west", "ap-south"},
		"Delhi":    {"ap-south", "eu-west", "us-east"},
		"Tokyo":    {"ap-south", "eu-west", "us-east"},
		"Honolulu": {"us-east", "eu-west", "ap-south"},
	} {
		ranked := Rank(Query{Place: cities[city], Known: true}, mesh3())
		require.Equal(t, want, order(ranked), city)
		for _, r := range ranked {
			require.Positive(t, r.Distance)
			require.Equal(t, ExpectedRTT(r.Distance), r.ExpectedRTT)
		}
	}
}

func TestRank(t *testing.T) {
	ny := Query{Place: cities["New York"], Known: true}
	for name, tc := range map[string]struct {
		query  Query
		change func(e []Edge) // of us-east, eu-west, ap-south
		want   []string
	}{
		"measured RTT wins over distance": {ny, func(e []Edge) { e[0].RTT = 140 * time.Millisecond; e[1].RTT = 80 * time.Millisecond }, []string{"eu-west", "us-east", "ap-south"}},
		"one measured":                    {ny, func(e []Edge) { e[2].RTT = time.Millisecond }, []string{"ap-south", "us-east", "eu-west"}},
		"moderate load is no reason":      {ny, func(e []Edge) { e[0].Load.CPU = 0.7 }, []string{"us-east", "eu-west", "ap-south"}},
		"heavy load is":                   {ny, func(e []Edge) { e[0].Load.CPU = 0.95 }, []string{"eu-west", "us-east", "ap-south"}},
		"participants are load":           {ny, func(e []Edge) { e[0].Load = mesh.Load{Participants: 92, Capacity: 100} }, []string{"eu-west", "us-east", "ap-south"}},
		"no capacity stated":              {ny, func(e []Edge) { e[0].Load = mesh.Load{Participants: 9600} }, []string{"us-east", "eu-west", "ap-south"}},
		"full after all others":           {ny, func(e []Edge) { e[0].Load = mesh.Load{Participants: 100, Capacity: 100} }, []string{"eu-west", "ap-south", "us-east"}},
		"draining last":                   {ny, func(e []Edge) { e[0].Draining = true; e[1].Load.CPU = 1 }, []string{"ap-south", "eu-west", "us-east"}},
		"all draining":                    {ny, func(e []Edge) { e[0].Draining, e[1].Draining, e[2].Draining = true, true, true }, []string{"us-east", "eu-west", "ap-south"}},
		"unhealthy excluded":              {ny, func(e []Edge) { e[0].Healthy = false }, []string{"eu-west", "ap-south"}},
		"nobody healthy":                  {ny, func(e []Edge) { e[0].Healthy, e[1].Healthy, e[2].Healthy = false, false, false }, nil},
		"region wished":                   {Query{Place: ny.Place, Known: true, Region: "ap-south"}, nil, []string{"ap-south", "us-east", "eu-west"}},
		"region wished, but draining":     {Query{Place: ny.Place, Known: true, Region: "ap-south"}, func(e []Edge) { e[2].Draining = true }, []string{"us-east", "eu-west", "ap-south"}},
		"region wished, unknown":          {Query{Place: ny.Place, Known: true, Region: "mars"}, nil, []string{"us-east", "eu-west", "ap-south"}},
		"place unknown: by load":          {Query{}, func(e []Edge) { e[0].Load.CPU = 0.9; e[1].Load.CPU = 0.7; e[2].Load.CPU = 0.1 }, []string{"ap-south", "eu-west", "us-east"}},
		"place unknown: measured":         {Query{}, func(e []Edge) { e[1].RTT = 20 * time.Millisecond; e[2].RTT = 200 * time.Millisecond }, []string{"eu-west", "us-east", "ap-south"}},
		"load that is no number":          {ny, func(e []Edge) { e[0].Load.CPU = math.NaN() }, []string{"us-east", "eu-west", "ap-south"}},
	} {
		t.Run(name, func(t *testing.T) {
			edges := mesh3()
			if tc.change != nil {
				tc.change(edges)
			}
			require.Equal(t, tc.want, order(Rank(tc.query, edges)))
		})
	}
}

// Between two edges equally near to the client, the one nearer to the rest of the room wins; a much nearer one stays.
func TestRankWithRoom(t *testing.T) {
	edges := []Edge{edge("denver-west", 39.74, -110), edge("denver-east", 39.74, -100)}
	q := Query{Place: Place{Latitude: 39.74, Longitude: -105}, Known: true, Room: []mesh.NodeInfo{mesh3()[1].NodeInfo}}
	require.Equal(t, "denver-east", order(Rank(q, edges))[0])
	q.Room = []mesh.NodeInfo{{ID: "tokyo", Latitude: 35.68, Longitude: 139.69}}
	require.Equal(t, "denver-west", order(Rank(q, edges))[0])
	q = Query{Place: cities["Delhi"], Known: true, Room: []mesh.NodeInfo{mesh3()[1].NodeInfo}}
	require.Equal(t, "ap-south", order(Rank(q, mesh3()))[0])
}

func TestRankUnknownPlace(t *testing.T) {
	r := Rank(Query{}, mesh3())[0]
	require.Negative(t, r.Distance)
	require.Zero(t, r.ExpectedRTT)
}

func TestRankIsDeterministicAndSpreads(t *testing.T) {
	edges := []Edge{edge("us-east-1", 39.04, -77.49), edge("us-east-2", 39.04, -77.49), edge("us-east-3", 39.04, -77.49)}
	first := make(map[string]int)
	rnd := rand.New(rand.NewPCG(1, 2))
	for i := range 3000 {
		q := Query{
			Client: netip.AddrFrom4([4]byte{81, 2, byte(i >> 8), byte(i)}),
			Place:  cities["Chicago"], Known: i%2 == 0,
		}
		want := order(Rank(q, edges))
		first[want[0]]++
		rnd.Shuffle(len(edges), func(i, j int) { edges[i], edges[j] = edges[j], edges[i] })
		require.Equal(t, want, order(Rank(q, edges)))
	}
	for id, n := range first {
		require.InDelta(t, 1000, n, 120, id)
	}
	require.Len(t, first, 3)
}

func TestLoadPenaltyGrows(t *testing.T) {
	last := time.Duration(-1)
	for l := 0.0; l < 0.95; l += 0.1 {
		p := loadPenalty(l)
		require.Greater(t, p, last, fmt.Sprint(l))
		last = p
	}
	for _, l := range []float64{0.99, 0.9999999999999999, 1} {
		require.Equal(t, maxLoadCost, loadPenalty(l))
	}
}

func TestRankDoesNotChangeItsInput(t *testing.T) {
	edges := mesh3()
	Rank(Query{Place: cities["Delhi"], Known: true}, edges)
	require.Equal(t, mesh3(), edges)
}
